"""A stand-in of Amplitude's Export API for the laptop and the tests: `python -m local.amplitude --help`."""

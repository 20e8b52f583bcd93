"""What the flow tasks run: one entry module per task; the code they share is in scripts.pipeline."""

__version__ = "0.1.0"

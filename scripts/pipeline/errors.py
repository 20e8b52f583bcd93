"""Errors by what the caller must do, with the exit code of a command that ends with one.

A message says what failed, where, and what to do next. It never holds a secret, an event or a person's data.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of every expected failure; anything else that reaches the top is a defect and keeps its traceback."""

    exit_code = 1


class ConfigurationError(PipelineError):
    """Keys, bucket, role or settings are wrong: a person must change something. Stops a whole run."""

    exit_code = 2


class RetriableError(PipelineError):
    """The other side or the network failed: the same request may work later. The hour stays open."""

    exit_code = 3


class NotYetError(PipelineError):
    """The hour is younger than the export latency: ask again later, never record it as empty."""

    exit_code = 4


class TooLargeError(PipelineError):
    """Amplitude refuses the window because of its size: split it; one hour alone needs Amplitude's own S3 export."""

    exit_code = 5


class DamagedError(PipelineError):
    """What arrived is not what was asked for (cut, not a ZIP, wrong project, wrong hour). The hour stays open."""

    exit_code = 6


class PermanentError(PipelineError):
    """The same call can never succeed, and no setting would change that (a reversed range, an unknown part)."""

    exit_code = 7

"""Failures of a run under way (exit code 1, or 130), in contrast to bad input (ValueError, exit code 2)."""

from __future__ import annotations


class RunFailure(RuntimeError):
    """The run cannot go on; the message is one sentence for the user."""


class NonFinite(RunFailure):
    """The loss or its gradient became infinite or not a number."""


class NotSaved(RunFailure):
    """A checkpoint or a line of metrics could not be written (full disk, quota, lost mount)."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM: the step was finished and saved; the message says how to go on."""

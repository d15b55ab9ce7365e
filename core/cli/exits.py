"""How a command ends: 0 done, 1 failed while running (RunFailure), 2 bad input (ValueError), 130 interrupted.

Ctrl-C and SIGTERM ask a run to stop after its step; a second Ctrl-C stops it at once.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME = 0.5  # seconds within which two signals are one: a launcher forwards a Ctrl-C that its children got as well


class RunFailure(RuntimeError):
    """The run cannot go on; the message is one sentence for the user."""


class NonFinite(RunFailure):
    """The loss or its gradient became infinite or not a number."""


class NotSaved(RunFailure):
    """A checkpoint or a line of metrics could not be written (full disk, quota, lost mount)."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM: the step was finished and saved; the message says how to go on."""


class StopRequest:
    """While open (from the main thread), `made` tells whether the user has asked the run to stop."""

    def __init__(self) -> None:
        self.made = False
        self._when = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.made and number == signal.SIGINT and time.monotonic() - self._when > SAME:
            raise KeyboardInterrupt
        self.made, self._when = True, time.monotonic()


def main(command: Callable[[], object]) -> None:
    """Runs a command; errors in one line; exits 0 done, 1 failed while running, 2 bad input, 130 interrupted.

    With TRIPTYCH_TRACEBACK set, errors are raised as they are.
    """
    if os.environ.get("TRIPTYCH_TRACEBACK"):
        command()
        return
    code, message = _outcome(command)
    gc.collect()  # gloo joins its threads when the last model is collected; later they would crash the exit
    if message:
        print(" ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(code)


def _outcome(command: Callable[[], object]) -> tuple[int, str]:
    """The exit code and the message of a command; an error of our own passes through."""
    try:
        command()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as interrupt:
        return 130, str(interrupt) if isinstance(interrupt, Interrupted) else "interrupted"
    except RunFailure as failure:
        return 1, f"error: {failure}"
    except OSError as error:
        cause = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return 1 if error.errno in FULL_DISK else 2, f"error: {cause}"
    except ValueError as error:
        return 2, f"error: {error}"
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        return 1, f"error: {str(error).split('. ')[0]}; a smaller batch or a larger --accumulate needs less memory"
    return 0, ""

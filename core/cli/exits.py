"""How a command ends: 0 done, 1 failed while running (RunFailure), 2 bad input (ValueError), 130 interrupted.

Ctrl-C and SIGTERM ask a run to stop after its step; a second Ctrl-C stops it at once, all finished steps saved.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME = 0.5  # seconds within which two signals are one: a launcher forwards a Ctrl-C that its children got as well

STOPPING = "stopping: what is under way is finished and saved first; Ctrl-C again stops at once"


class RunFailure(RuntimeError):
    """The run cannot go on; the message is one sentence for the user."""


class NonFinite(RunFailure):
    """The loss or its gradient became infinite or not a number."""


class NotSaved(RunFailure):
    """A checkpoint or a line of metrics could not be written (full disk, quota, lost mount)."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM: the step was finished and saved; the message says how to go on."""


class StopRequest:
    """While open (from the main thread), `made` tells whether the user has asked the run to stop.

    The first request is answered at once, by the sentence that `answer` gives. A second Ctrl-C raises
    KeyboardInterrupt, inside `held` once that is left.
    """

    def __init__(self, answer: Callable[[], str] = lambda: STOPPING) -> None:
        self.answer, self.made = answer, False
        self._when, self._held, self._again = 0.0, 0, False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """What is done inside is finished, whatever is pressed."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._again and not self._held:
            self._again = False
            raise KeyboardInterrupt

    @contextmanager
    def whole(self, *contexts: AbstractContextManager[Any]) -> Iterator[None]:
        """Inside, the contexts are open; they are opened and closed as if `held`."""
        stack = ExitStack()
        try:
            with self.held():
                for context in contexts:
                    stack.enter_context(context)
            yield
        finally:
            with self.held():
                stack.close()

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.made and number == signal.SIGINT and time.monotonic() - self._when > SAME:
            if not self._held:
                raise KeyboardInterrupt
            self._again = True
        elif not self.made:
            self.made, self._when = True, time.monotonic()
            say_from_handler(self.answer())


def say_from_handler(text: str) -> None:
    """Writes a line to stderr from inside a signal handler, which may have interrupted a write to it."""
    if text:
        line = f"\n{text}\n" if sys.stderr.isatty() else f"{text}\n"  # a progress bar may stand on this line
        with suppress(OSError, ValueError):  # there may be no stderr any more
            os.write(sys.stderr.fileno(), line.encode(errors="backslashreplace"))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM do nothing."""
    previous = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def main(command: Callable[[], object]) -> None:
    """Runs a command; errors in one line; exits 0 done, 1 failed while running, 2 bad input, 130 interrupted.

    With TRIPTYCH_TRACEBACK set, errors are raised as they are. A character that an output cannot encode is escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("TRIPTYCH_TRACEBACK"):
        command()
        return
    code, message = _outcome(command)
    if "RANK" in os.environ:
        gc.collect()  # gloo joins its threads when the last model is collected; later they would crash the exit
    if message:
        print(" ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(code)


def _outcome(command: Callable[[], object]) -> tuple[int, str]:
    """The exit code and the message of a command; an error of our own passes through."""
    try:
        command()
        if sys.stdout is not None:  # as it is where descriptor 1 is closed
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

"""How a command ends: 0 done, 1 failed while running, 2 bad input, 130 interrupted."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable

from core.cli.errors import Interrupted, RunFailure

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


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

"""Ways in which a recording may be interrupted."""

from __future__ import annotations

import os
import signal
from typing import Any

from core.cli.exits import Interrupted
from decision.collecting.recording import Recorder


class Kill(BaseException):
    """The end of a process, as far as its files are concerned."""


def failing_after(steps: int, failure: Any) -> Any:
    """A method `step` of Recorder that fails once."""
    step, count = Recorder.step, [0]

    def failing(self: Recorder, action: Any) -> Any:
        count[0] += 1
        if count[0] == steps:
            failure()
        return step(self, action)

    return failing


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def kill() -> None:
    raise Kill


def interrupted(*_: Any) -> None:
    raise Interrupted

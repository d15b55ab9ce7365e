"""Ctrl-C and SIGTERM ask the run to stop after its step; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME = 0.5  # seconds within which two signals are one: a launcher forwards a Ctrl-C that its children got as well


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

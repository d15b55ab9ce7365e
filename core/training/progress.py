"""How far a run is: its budget, its clock, and what is shown of it (a bar, or lines)."""

import math
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

LINE_EVERY = 15.0  # seconds between lines where there is no terminal
USE = {"train/mfu": "mfu {:.1%}", "train/memory_gib": "{:.2f} GiB", "train/data_wait": "{:.0%} waiting for data"}
"""What is shown of the use of a device, by the names of metrics."""


class Clock:
    """The time of a run over all its lives, and how much of its budget is spent.

    The budget is a number of optimiser steps, or of minutes; exactly one of them is not None.
    """

    def __init__(self, steps: int | None, minutes: float | None, kind: Literal["wall", "cpu"] = "wall"):
        self.steps, self.minutes = steps, minutes
        self.before = 0.0  # seconds of the lives before this one
        self._now = time.monotonic if kind == "wall" else time.process_time
        self._started = self._now()
        self._first: tuple[int, float] | None = None  # step and seconds of this life's first update

    @property
    def seconds(self) -> float:
        """Wall time, or the processor time of this process, so far, evaluation and earlier lives included."""
        return self.before + self._now() - self._started

    def spent(self, step: float, seconds: float) -> float:
        """The fraction of the budget that is gone after so many optimiser steps and seconds; may exceed 1."""
        if self.minutes is not None:
            return seconds / (60.0 * self.minutes)
        assert self.steps is not None
        return step / self.steps

    def note(self, step: int) -> None:
        """To be called after every update: what comes before the first, such as compiling, is not its pace."""
        self._first = self._first or (step, self.seconds)

    def left(self, step: int) -> float:
        """Seconds to the end, at the pace of this life after its first update."""
        if self.minutes is not None:
            return max(0.0, 60.0 * self.minutes - self.seconds)
        assert self.steps is not None
        first, seconds = self._first or (step, 0.0)
        pace = (self.seconds - seconds) / (step - first) if step > first else math.inf
        return (self.steps - step) * pace if step < self.steps else 0.0


class Progress:
    """Shows step, loss, units per second and time left; silent with `shown=False`."""

    def __init__(self, unit: str, total: int | None, shown: bool):
        from tqdm import tqdm

        self.unit, self.total, self.shown = unit, total, shown
        self._last_line = 0.0
        layout, disable = "{percentage:3.0f}% |{bar}| {desc}", None if shown else True  # None: unless on a terminal
        self._bar = tqdm(total=1.0, bar_format=layout, file=sys.stderr, dynamic_ncols=True, disable=disable)

    def update(self, step: int, spent: float, figures: Mapping[str, float], left: float) -> None:
        """Shows where the run is: `spent` of the budget, what was measured, seconds left."""
        if not self.shown:
            return
        speed = self._bar.format_sizeof(figures[f"train/{self.unit}_per_second"])
        use = "".join(f"  {form.format(figures[name])}" for name, form in USE.items() if name in figures)
        time_left = "?" if left == math.inf else self._bar.format_interval(round(left))
        text = f"{self._place(step)}  loss {figures['train/loss']:.4f}  {speed} {self.unit}/s{use}  {time_left} left"
        if not self._bar.disable:
            self._bar.n = min(spent, 1.0)
            self._bar.set_description_str(text)  # redraws
        elif time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            self.say(text)

    def report(self, step: int, values: Mapping[str, Any]) -> None:
        """Prints the result of an evaluation on a line that stays."""
        numbers = (f"{name} {value:.4f}" for name, value in values.items() if isinstance(value, float))
        self.say(f"{self._place(step)}  " + "  ".join(numbers))

    def say(self, text: str) -> None:
        """Prints a line on stderr, above the bar where there is one."""
        if self.shown:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it is and ends its line."""
        self._bar.close()

    def _place(self, step: int) -> str:
        return f"step {step}" if self.total is None else f"step {step}/{self.total}"

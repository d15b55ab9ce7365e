"""How much of a run is spent: a pure function of its steps or of its seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """A number of optimiser steps, or of minutes of wall time; exactly one of them is not None.

    `seconds` below is the wall time of the run so far, including the lives before a resume.
    """

    steps: int | None
    minutes: float | None

    def spent(self, step: float, seconds: float) -> float:
        """The fraction of the budget that is gone after `step` optimiser steps; may exceed 1."""
        if self.steps is not None:
            return step / self.steps
        assert self.minutes is not None
        return seconds / (60.0 * self.minutes)

    def done(self, step: int, seconds: float) -> bool:
        """Whether nothing is left."""
        return self.spent(step, seconds) >= 1.0

    def left(self, step: int, seconds: float, pace: float) -> float:
        """Seconds to the end, at `pace` seconds per step."""
        if self.steps is not None:
            return (self.steps - step) * pace if step < self.steps else 0.0
        assert self.minutes is not None
        return max(0.0, 60.0 * self.minutes - seconds)

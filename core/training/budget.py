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

    def left(self, step: int, seconds: float) -> float:
        """Estimated seconds to the end, at the mean pace so far; infinite before the first step."""
        spent = self.spent(step, seconds)
        return max(0.0, seconds * (1.0 - spent) / spent) if spent > 0 else float("inf")

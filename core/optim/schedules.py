"""The learning rate as a pure function of the fraction of the budget that is spent."""

from __future__ import annotations

import math

from core.optim.config import ScheduleConfig


def multiplier(config: ScheduleConfig, spent: float) -> float:
    """What the peak learning rate is multiplied by once `spent` of the budget (clamped to [0, 1]) is gone.

    Rises linearly over `warmup`. Then `cosine` falls to `final` along half a cosine (Loshchilov 2017), `wsd`
    stays at 1 and falls linearly over the last `decay` (Hu et al. 2024), `constant` stays at 1.
    """
    spent = min(max(spent, 0.0), 1.0)
    if spent < config.warmup:
        return spent / config.warmup
    if config.kind == "constant":
        return 1.0
    start = config.warmup if config.kind == "cosine" else 1.0 - config.decay
    if spent <= start:
        return 1.0
    fallen = (spent - start) / (1.0 - start)
    shape = 0.5 * (1.0 + math.cos(math.pi * fallen)) if config.kind == "cosine" else 1.0 - fallen
    return config.final + (1.0 - config.final) * shape

"""Settings of the optimiser and of its learning rate over time."""

import math
from dataclasses import dataclass
from typing import Literal

from core.checks import check_at_least, check_between, check_choices, check_positive


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan 2024) for hidden matrices with AdamW for the rest."""

    kind: Literal["adamw", "muon"] = "adamw"
    """adamw for every parameter, or muon for the hidden matrices and adamw for the rest."""
    lr: float = 1e-3
    """AdamW: peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW: decay per step of the first and second moment."""
    eps: float = 1e-8
    """AdamW: added to the root of the second moment."""
    weight_decay: float = 0.1
    """AdamW: decoupled decay of matrices, as a fraction of lr per step."""
    layer_decay: float = 1.0
    """AdamW: factor on the rate per block below the head, for fine-tuning (ELECTRA, BEiT); 1 = the same everywhere."""
    muon_lr: float = 0.02
    """Muon: peak learning rate."""
    muon_momentum: float = 0.95
    """Muon: decay per step of the (Nesterov) momentum."""
    muon_weight_decay: float = 0.0
    """Muon: decoupled decay, as a fraction of muon_lr per step."""
    muon_scale: Literal["original", "match_rms_adamw"] = "original"
    """Muon: update size: sqrt(max(1, rows/columns)) (Jordan), or 0.2 sqrt(max(rows, columns)) (Liu 2025)."""
    muon_precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Muon: arithmetic of the orthogonalisation; auto is bf16 where the device multiplies it natively."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "lr", "eps", "muon_lr")
        check_between(self, 0.0, 1.0, "muon_momentum")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas = {self.betas!r} must be two numbers, each at least 0 and below 1")
        check_at_least(self, 0, "weight_decay", "muon_weight_decay")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay = {self.layer_decay!r} must be above 0 and at most 1")
        if self.layer_decay < 1 and self.kind == "muon":
            raise ValueError(f"layer_decay = {self.layer_decay!r} needs kind = 'adamw': Muon's updates have one size")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        names = ("muon_lr", "muon_momentum", "muon_weight_decay", "muon_scale", "muon_precision")
        return {} if self.kind == "muon" else dict.fromkeys(names, f"kind = {self.kind!r} has no Muon")


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the fraction of the budget that is spent, as a multiple of its peak."""

    kind: Literal["cosine", "wsd", "inverse-sqrt", "constant"] = "cosine"
    """After the warm-up: half a cosine, a plateau with a linear decay at its end (wsd), 1/sqrt(spent), or constant."""
    warmup: float = 0.05
    """Fraction of the budget (steps or minutes) over which the rate rises linearly from 0."""
    decay: float = 0.3
    """wsd: fraction of the budget, at its end, over which the rate falls."""
    final: float = 0.1
    """cosine, wsd: the rate at the end, as a fraction of the peak."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_between(self, 0.0, 1.0, "warmup")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay = {self.decay!r} must be above 0 and at most 1")
        if not 0 <= self.final <= 1:
            raise ValueError(f"final = {self.final!r} must be at least 0 and at most 1")
        if self.kind == "inverse-sqrt" and self.warmup == 0:
            raise ValueError("warmup = 0 must be above 0 for kind = 'inverse-sqrt', which falls from its end")
        if self.kind == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup = {self.warmup!r} and decay = {self.decay!r} must add up to at most 1")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        names = {"cosine": ("decay",), "wsd": ()}
        return dict.fromkeys(names.get(self.kind, ("decay", "final")), f"kind = {self.kind!r} does not read it")

    def multiplier(self, spent: float) -> float:
        """What the peak learning rate is multiplied by once `spent` of the budget (clamped to [0, 1]) is gone.

        Rises linearly over `warmup`. Then `cosine` falls to `final` along half a cosine (Loshchilov 2017), `wsd`
        stays at 1 and falls linearly over the last `decay` (Hu et al. 2024), `inverse-sqrt` falls as the inverse square
        root of what is spent (Vaswani 2017, 5.3), `constant` stays at 1.
        """
        spent = min(max(spent, 0.0), 1.0)
        if spent < self.warmup:
            return spent / self.warmup
        if self.kind == "constant":
            return 1.0
        if self.kind == "inverse-sqrt":
            return math.sqrt(self.warmup / spent)
        start = self.warmup if self.kind == "cosine" else 1.0 - self.decay
        if spent <= start:
            return 1.0
        fallen = (spent - start) / (1.0 - start)
        shape = 0.5 * (1.0 + math.cos(math.pi * fallen)) if self.kind == "cosine" else 1.0 - fallen
        return self.final + (1.0 - self.final) * shape

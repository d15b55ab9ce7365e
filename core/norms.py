"""Keep activations at unit scale: LayerNorm, RMSNorm, RMSNorm without a gain, or nothing."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from core.config import TransformerConfig


class RMS(nn.Module):
    """x / rms(x) over the last axis, nothing learned (RMSNorm of Zhang 2019 without its gain)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.shape, self.eps = (width,), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.shape, eps=self.eps)


def build_norm(kind: str, width: int, config: TransformerConfig) -> nn.Module:
    """A normalisation over `width` channels by name; "none" is the identity."""
    match kind:
        case "none":
            return nn.Identity()
        case "layernorm":
            return nn.LayerNorm(width, eps=config.norm_eps, bias=config.bias != "none")
        case "rmsnorm":
            return nn.RMSNorm(width, eps=config.norm_eps)
        case "rms":
            return RMS(width, config.norm_eps)
    raise ValueError(f"norm = {kind!r} is not one of: none, layernorm, rmsnorm, rms")

"""Keep activations at unit scale: LayerNorm, RMSNorm, RMSNorm without a gain, or nothing."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import OptionalNormKind, TransformerConfig
from core.switch import with_kernel


@with_kernel
def unit_rms(x: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last axis (Zhang 2019, eq. 4 without the gain); same shape and dtype."""
    return F.rms_norm(x, x.shape[-1:], eps=eps)


class RMS(nn.Module):
    """Root mean square 1 over the last axis, nothing learned."""

    def __init__(self, eps: float):
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return unit_rms(x, self.eps)


class RMSNorm(RMS):
    """Root mean square 1 over the last axis, times a learned gain (Zhang 2019)."""

    def __init__(self, width: int, eps: float):
        super().__init__(eps)
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) * self.weight).type_as(x)


def build_norm(kind: OptionalNormKind, width: int, config: TransformerConfig) -> nn.Module:
    """A normalisation over `width` channels by name; "none" is the identity."""
    match kind:
        case "none":
            return nn.Identity()
        case "layernorm":
            return nn.LayerNorm(width, eps=config.norm_eps, bias=config.bias != "none")
        case "rmsnorm":
            return RMSNorm(width, config.norm_eps)
        case "rms":
            return RMS(config.norm_eps)
    raise ValueError(f"norm = {kind!r} is not one of: none, layernorm, rmsnorm, rms")


def build_qk_norm(n_heads: int, config: TransformerConfig) -> nn.Module:
    """The normalisation of the queries or keys of so many heads: (B, T, H, Dh) -> (B, T, H, Dh)."""
    width = config.head_width
    if config.qk_norm_over == "head":
        return build_norm(config.qk_norm, width, config)
    norm = build_norm(config.qk_norm, n_heads * width, config)
    return nn.Sequential(nn.Flatten(-2), norm, nn.Unflatten(-1, (n_heads, width)))  # over (B, T, H Dh)

"""Compute: each token by itself."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from core.attention import LayerContext, StackedLinear
from core.config import GATED, TransformerConfig
from core.switch import with_kernel


@with_kernel
def relu2(x: Tensor) -> Tensor:
    """max(x, 0)^2 (So 2021, Primer)."""
    return F.relu(x).square()


gelu_tanh = partial(F.gelu, approximate="tanh")

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu-tanh": gelu_tanh,
    "silu": F.silu,
    "relu2": relu2,
    "swiglu": F.silu,
    "geglu": F.gelu,
    "geglu-tanh": gelu_tanh,
}


class FeedForward(nn.Module):
    """Two linear maps with an activation between: (B, T, D) -> (B, T, D)."""

    parts: tuple[str, ...] = ("up",)  # of the first map, each as wide as the layer

    def __init__(self, config: TransformerConfig):
        super().__init__()
        bias = config.bias in ("all", "feedforward")
        self.activation = ACTIVATIONS[config.feedforward]
        self.up = StackedLinear(config.dim, dict.fromkeys(self.parts, config.ffn_width), bias)
        self.out = nn.Linear(config.ffn_width, config.dim, bias)

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        return self.out(self.activation(self.up(x)))


class GatedFeedForward(FeedForward):
    """An activated gate times a linear map, then back (Shazeer 2020): (B, T, D) -> (B, T, D)."""

    parts = ("gate", "value")

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)  # 2 x (B, T, hidden)
        return self.out(self.activation(gate) * value)


def build_feedforward(config: TransformerConfig) -> nn.Module:
    """The feed-forward layer a configuration names."""
    return GatedFeedForward(config) if config.feedforward in GATED else FeedForward(config)

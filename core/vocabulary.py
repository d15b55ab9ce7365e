"""The map from tokens to scores of a vocabulary, and its loss."""

from torch import Tensor, nn
from torch.nn import functional as F

from core.switch import with_kernel

IGNORED = -100
"""The target of a token whose prediction does not count."""


class VocabularyHead(nn.Linear):
    """Scores of a vocabulary, (..., D) -> (..., V): a linear map of the tokens times a number.

    scale:   what the tokens are multiplied by
    softcap: logits become softcap * tanh(logits / softcap) (Bello 2016; Gemma Team 2024)
    """

    def __init__(self, dim: int, vocab_size: int, bias: bool = False, scale: float = 1.0, softcap: float | None = None):
        super().__init__(dim, vocab_size, bias)
        self.scale, self.softcap = scale, softcap

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(self._scaled(x))
        return logits if self.softcap is None else self.softcap * (logits / self.softcap).tanh()

    def loss(self, x: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of tokens x (..., D), summed over the targets that are not IGNORED, in nats: () float32.

        targets:   int64 (...)
        smoothing: the part of each target's probability that is spread over the vocabulary (Szegedy 2016, 7)
        """
        rows, targets = x.flatten(0, -2), targets.flatten()  # (N, D), (N,)
        if self.softcap is None:
            return linear_cross_entropy(self._scaled(rows), self.weight, self.bias, targets, smoothing)
        return cross_entropy(self(rows), targets, smoothing)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.scale == 1.0 else x * self.scale


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Summed over the targets that are not IGNORED: (N, V), int64 (N,) -> () float32."""
    wide = logits.float()
    return F.cross_entropy(wide, targets, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing)


@with_kernel
def linear_cross_entropy(
    x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float = 0.0
) -> Tensor:
    """The same of the logits x @ weight.T + bias: x (N, D), weight (V, D), bias (V,), targets int64 (N,)."""
    return cross_entropy(F.linear(x, weight, bias), targets, smoothing)

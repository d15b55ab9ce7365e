"""Initial weights, all in one place.

| weights                         | gpt2                     | zero-residual            |
| ------------------------------- | ------------------------ | ------------------------ |
| linear maps inside blocks       | N(0, 0.02)               | N(0, 1/sqrt(inputs))     |
| last map of a residual branch   | N(0, 0.02/sqrt(2 depth)) | 0                        |
| embeddings, learned positions   | N(0, 0.02)               | N(0, 0.02)               |
| a panel's head                  | N(0, 0.02)               | 0                        |
| biases                          | 0                        | 0                        |
| gains of normalisations         | 1                        | 1                        |

gpt2 is Radford 2019, 2.3; zero-residual starts every block as the identity (Goyal 2017, 5.1; Zhang 2019, Fixup).
"""

from __future__ import annotations

import math

from torch import nn

from core.attention import Attention, CrossAttention
from core.config import TransformerConfig
from core.feedforward import FeedForward, GatedFeedForward


def initialise(model: nn.Module, config: TransformerConfig) -> None:
    """Fill a stack of blocks, or a panel's whole model around it, with initial weights by the table above."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            std = 0.02 if config.init == "gpt2" else 1 / math.sqrt(module.in_features)
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    for module in model.modules():
        if isinstance(module, Attention | CrossAttention | FeedForward | GatedFeedForward):
            last = 0.02 / math.sqrt(2 * config.depth) if config.init == "gpt2" else 0.0
            nn.init.normal_(module.out.weight, std=last)


def initialise_head(head: nn.Linear, config: TransformerConfig) -> None:
    """A panel's output map."""
    nn.init.normal_(head.weight, std=0.02 if config.init == "gpt2" else 0.0)
    if head.bias is not None:
        nn.init.zeros_(head.bias)

"""Initial weights, all in one place.

| weights                         | gpt2                     | zero-residual            |
| ------------------------------- | ------------------------ | ------------------------ |
| linear maps inside blocks       | N(0, 0.02)               | N(0, 1/sqrt(inputs))     |
| last map of a residual branch   | N(0, 0.02/sqrt(2 depth)) | 0                        |
| the same of a modulated branch  | N(0, 0.02/sqrt(2 depth)) | N(0, 1/sqrt(inputs))     |
| queries where scores are not    | N(0, 0.02)               | N(0, 1/sqrt(inputs Dh))  |
| divided by sqrt(Dh) (T5)        |                          |                          |
| embeddings, learned positions   | N(0, 0.02)               | N(0, 0.02)               |
| a panel's head                  | N(0, 0.02)               | 0                        |
| a map from data (patches)       | N(0, 1/sqrt(inputs))     | N(0, 1/sqrt(inputs))     |
| adaLN's maps                    | 0                        | 0                        |
| biases                          | 0                        | 0                        |
| gains of normalisations         | 1                        | 1                        |

gpt2 is Radford 2019, 2.3; zero-residual starts every block as the identity (Goyal 2017, 5.1; Zhang 2019, Fixup).
Modulated branches have gates that start at zero; behind a zero as well, neither would ever get a gradient.
"""

import math
from typing import Literal, cast

from torch import Tensor, nn

from core.attention import Attention, CrossAttention
from core.config import TransformerConfig
from core.feedforward import FeedForward

Initial = Literal["core", "embedding", "head", "unit-scale"]
"""Rows of the table: all of a stack of blocks; embeddings; a panel's head; a map from data."""
Initials = dict[nn.Module | nn.Parameter, Initial]
"""What is drawn, in this order, by which row."""


def initialise(config: TransformerConfig, table: Initials) -> None:
    """Draw initial weights, in the order of the table: of a stack of blocks, and of what a panel builds around it.

    A panel's model ends its constructor with it:

        initialise(config.core, {self.embed: "embedding", self.head: "head"})
    """
    stds = {"embedding": 0.02, "head": 0.02 if config.init == "gpt2" else 0.0}
    for part, kind in table.items():
        if kind == "core":
            assert isinstance(part, nn.Module)
            _initialise_core(part, config)
        elif isinstance(part, nn.Parameter):
            nn.init.normal_(part, std=stds[kind])
        else:
            _draw(part, stds[kind] if kind in stds else _unit_scale(part))


def _initialise_core(core: nn.Module, config: TransformerConfig) -> None:
    for module in core.modules():
        if isinstance(module, nn.Linear):
            _draw(module, 0.02 if config.init == "gpt2" else _unit_scale(module))
        elif isinstance(module, nn.Embedding):
            _draw(module, 0.02)
    for module in core.modules():
        if isinstance(module, Attention | FeedForward):
            nn.init.normal_(module.out.weight, std=_last(module, config))
            if isinstance(module, Attention) and (config.attention_scale, config.init) == ("none", "zero-residual"):
                _draw_queries(module)
        elif isinstance(modulation := getattr(module, "modulation", None), nn.Module):
            _draw(modulation, 0.0)


def _last(branch: Attention | FeedForward, config: TransformerConfig) -> float:
    """The deviation of the last map of a residual branch."""
    if config.init == "gpt2":
        return 0.02 / math.sqrt(2 * config.depth)
    return _unit_scale(branch.out) if config.modulation == "adaln" else 0.0


def _draw_queries(attention: Attention) -> None:
    """So small that scores have unit scale although they are not divided."""
    source = attention.q if isinstance(attention, CrossAttention) else attention.qkv
    rows = attention.n_heads * attention.head_dim
    nn.init.normal_(source.weight[:rows], std=_unit_scale(source) / math.sqrt(attention.head_dim))


def _draw(module: nn.Module, std: float) -> None:
    """Weights from N(0, std), biases 0."""
    nn.init.normal_(cast(Tensor, module.weight), std=std)
    if getattr(module, "bias", None) is not None:
        nn.init.zeros_(cast(Tensor, module.bias))


def _unit_scale(module: nn.Module) -> float:
    """The deviation that keeps inputs of unit scale at unit scale."""
    return 1 / math.sqrt(cast(int, module.in_features))

"""What the page must know of a stack of blocks to compute it; what it cannot compute is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from core.config import TransformerConfig
from core.files.serialize import to_dict
from core.positions import (
    T5,
    ALiBi,
    Learned,
    Position,
    Rotary,
    Sinusoidal,
    alibi_slopes,
    frequencies,
    geometric,
    t5_bucket,
)
from core.transformer import Transformer

Described = dict[str, Any]

KNOWN: Mapping[str, frozenset[str]] = {
    "feedforward": frozenset(("relu", "gelu", "gelu-tanh", "silu", "relu2", "swiglu", "geglu", "geglu-tanh")),
    "norm": frozenset(("layernorm", "rmsnorm", "rms")),
    "embedding_norm": frozenset(("none", "layernorm", "rmsnorm", "rms")),
    "qk_norm": frozenset(("none", "layernorm", "rmsnorm", "rms")),
    "qk_norm_over": frozenset(("head", "all-heads")),
    "norm_placement": frozenset(("pre", "post", "branch")),
    "first_norm": frozenset(("kept", "none")),
    "attention_scale": frozenset(("head_dim", "none")),
    "modulation": frozenset(("none",)),
}
"""The choices of `TransformerConfig` that the page computes."""
SETTINGS = ("dim", "depth", "n_heads", "norm_eps", *(name for name in KNOWN if name != "modulation"))
"""The fields that it reads."""


def describe_stack(stack: Transformer, extent: int, graph: Literal["causal", "full"], part: str = "self") -> Described:
    """The stack for the page. extent: numbers of coordinates along its longest axis.

    Raises ValueError naming the setting that the page does not know.
    """
    config = stack.config
    check_known(config)
    said = {name: value for name, value in to_dict(config).items() if name in SETTINGS}
    said |= {"key_heads": config.key_heads, "head_width": config.head_width, "ffn_width": config.ffn_width}
    said["kinds"] = [{"window": kind.window, "positions": kind.positions} for kind in config.layer_kinds()]
    windowed = stack.window_position
    return {
        "core": said,
        "position": describe_position(stack.position, extent),
        "windowPosition": None if windowed is None else describe_position(windowed, extent),
        "graph": graph,
        "part": part,
    }


def check_known(config: TransformerConfig) -> None:
    """Raise ValueError for a choice that the page does not compute."""
    for name, known in KNOWN.items():
        value = getattr(config, name)
        if value not in known:
            raise ValueError(f"{name} = {value!r} is not computed by the page, which knows: {', '.join(sorted(known))}")
    for position in (config.position, config.window_position):
        if position is not None and position.scaling.kind == "dynamic":
            raise ValueError("scaling.kind = 'dynamic' is not computed by the page: its frequencies change as it reads")


def describe_position(position: Position, extent: int) -> Described:
    """Positions for the page: frequencies, slopes and buckets are numbers, so that it rounds nothing anew.

    Raises ValueError for positions of another class.
    """
    if isinstance(position, Learned):
        return {"kind": "learned", "tables": list(range(len(position.tables)))}
    if isinstance(position, Sinusoidal):
        turns = geometric(position.channels, position.base)
        said = {"frequencies": turns.tolist(), "pairing": position.pairing, "amplitude": position.amplitude}
        return {"kind": "sinusoidal"} | said
    if isinstance(position, Rotary):
        return describe_rotary(position)
    if isinstance(position, ALiBi):
        return {"kind": "alibi", "slopes": alibi_slopes(position.n_heads).tolist()}
    if isinstance(position, T5):
        offsets = torch.arange(-extent, extent + 1)
        buckets = t5_bucket(offsets, position.config).tolist()
        return {"kind": "t5", "buckets": buckets, "reach": extent, "tables": list(range(len(position.tables)))}
    if type(position) is Position:
        return {"kind": "none"}
    raise ValueError(f"positions of {type(position).__name__} are not computed by the page")


def describe_rotary(position: Rotary) -> Described:
    """Its frequencies, scaled, and what rotated queries and keys are multiplied by (yarn)."""
    coords = torch.zeros(1, 1, dtype=torch.long)
    turns = frequencies(position.channels, position.base, position.scaling, coords)
    still = position.rotation(torch.zeros(1, 1))  # of angle zero: its cosine is the gain
    return {
        "kind": "rotary",
        "frequencies": turns.tolist(),
        "pairing": position.pairing,
        "gain": float(still.cos.flatten()[0]),
    }

"""Rotary positions as a public `config.json` gives them, and how the weights of rotated heads lie in public files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from core.config import PositionConfig, RotaryScaling, TransformerConfig
from core.files.weights import Layout, stacked

KINDS = {"none": "default", "linear": "linear", "dynamic": "dynamic", "llama3": "llama3", "yarn": "yarn"}
"""Of our kinds of scaling, their names."""
NUMBERS = """
    rope_theta factor original_max_position_embeddings low_freq_factor high_freq_factor beta_fast beta_slow
    attention_factor mscale mscale_all_dim partial_rotary_factor
""".split()
OTHERS = ("rope_type", "type", "truncate", "finetuned")


def read_rope(given: Mapping[str, Any], base: float, context: int, name: str = "rope_parameters") -> PositionConfig:
    """The positions that a dictionary of theirs describes.

    base: where it has no `rope_theta`. context: `max_position_embeddings`. name: what it is called there.

    Raises ValueError naming the first entry that is not supported.
    """
    _check(given, name)
    theirs = given.get("rope_type", given.get("type")) or "default"
    kinds = [own for own, public in KINDS.items() if public == theirs]
    if not kinds:
        raise ValueError(f"{name}.rope_type = {theirs!r} is not supported, accepted are: {', '.join(KINDS.values())}")
    return PositionConfig("rotary", base, "halves", _scaling(kinds[0], given, context, name))


def write_rope(position: PositionConfig) -> dict[str, Any]:
    """The dictionary that `read_rope` reads, complete."""
    scaling = position.scaling
    named: dict[str, Any] = {"rope_theta": position.base, "rope_type": KINDS[scaling.kind]}
    if scaling.kind != "none":
        named["factor"] = scaling.factor
    match scaling.kind:
        case "llama3":
            names = {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
        case "yarn":
            names = {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
            names |= {"attention_factor": scaling.attention_factor} if scaling.attention_factor is not None else {}
            names |= {"truncate": scaling.ramp_ends == "rounded"}
        case _:
            return named
    return named | names | {"original_max_position_embeddings": scaling.original_context}


def _check(given: Mapping[str, Any], name: str) -> None:
    for key, value in given.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (key in OTHERS or (key in NUMBERS and number)):
            raise ValueError(
                f"{name}.{key} = {value!r} is not supported: accepted are numbers for {', '.join(NUMBERS)}"
            )
    if given.get("partial_rotary_factor") not in (None, 1.0):
        raise ValueError(
            f"{name}.partial_rotary_factor = {given['partial_rotary_factor']} is not supported: accepted is 1.0"
        )


def _scaling(kind: str, given: Mapping[str, Any], context: int, name: str) -> RotaryScaling:
    numbers = {key: float(given[key]) for key in NUMBERS if given.get(key) is not None}
    original = int(numbers.get("original_max_position_embeddings", context))
    factor = numbers.get("factor", context / original if kind == "yarn" else None)
    if kind == "none":
        return RotaryScaling()
    if factor is None:
        raise ValueError(f"{name}.factor is missing: rope_type = {KINDS[kind]!r} needs it")
    match kind:
        case "linear":
            return RotaryScaling("linear", factor)
        case "dynamic":
            return RotaryScaling("dynamic", factor, context)
        case "llama3":
            low, high = (numbers.get(f"{end}_freq_factor", default) for end, default in (("low", 1.0), ("high", 4.0)))
            return RotaryScaling("llama3", factor, original, low, high)
    return RotaryScaling(
        "yarn",
        factor,
        original,
        beta_fast=numbers.get("beta_fast") or 32.0,
        beta_slow=numbers.get("beta_slow") or 1.0,
        ramp_ends="exact" if given.get("truncate") is False else "rounded",
        attention_factor=numbers.get("attention_factor", _mscale(factor, numbers)),
    )


def _mscale(factor: float, numbers: Mapping[str, float]) -> float | None:
    """DeepSeek's attention factor, where both of its parts are there."""
    parts = numbers.get("mscale"), numbers.get("mscale_all_dim")
    if not (parts[0] and parts[1]):
        return None
    above, below = (0.1 * part * math.log(factor) + 1.0 if factor > 1 else 1.0 for part in parts if part)
    return above / below


def heads_layout(
    core: TransformerConfig, n_heads: tuple[int, ...], turning: Literal["forward", "backward"] = "forward"
) -> Layout:
    """Parts of `n_heads` heads each, stacked; the first two (queries, keys) rotate, theirs by halves, and ours perhaps
    by pairs. A rotation backward is one forward of each pair the other way round.
    """
    stack = stacked(*(count * core.head_width for count in n_heads))
    ours = "(h two n) ..." if core.position.pairing == "halves" else "(h n two) ..."
    if core.position.pairing == "halves" and turning == "forward":
        return stack

    def reorder(parts: Sequence[Tensor], before: str, after: str) -> list[Tensor]:
        """Pair n stays pair n: (heads x Dh, ...) to the same shape."""
        from einops import rearrange

        pairs = [
            rearrange(part, f"{before} -> two h n ...", h=count, two=2)  # (2, heads, Dh/2, ...)
            for part, count in zip(parts[:2], n_heads, strict=False)
        ]
        turned = [pair.flip(0) if turning == "backward" else pair for pair in pairs]
        return [*(rearrange(pair, f"two h n ... -> {after}") for pair in turned), *parts[2:]]

    return Layout(
        lambda parts: stack.load(reorder(parts, "(h two n) ...", ours)),
        lambda own: reorder(stack.save(own), ours, "(h two n) ..."),
    )

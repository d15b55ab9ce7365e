"""Where tokens are: integer coordinates become signal.

A panel gives every token its coordinates `coords`, an integer tensor (T, A) or (B, T, A) with one column per axis:
(index,) for text, (row, column) for an image patch, (timestep,) for a trajectory. Sinusoidal, rotary and ALiBi
positions also take fractions. A position module answers three questions, each once per forward pass, for all layers:

    embed(coords)             what is added to the tokens          (..., T, D) or None
    rotation(coords)          how queries and keys are rotated     Rotation or None
    bias(coords_q, coords_k)  what is added to the scores          (..., H, Tq, Tk) or None
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.config import PositionConfig, RotaryScaling, TransformerConfig
from core.switch import with_kernel

UNSCALED = RotaryScaling()


class Rotation(NamedTuple):
    """Angles of a rotary position, ready to be applied to the queries and keys of every layer."""

    cos: Tensor  # (..., T, 1, Dh/2)
    sin: Tensor  # (..., T, 1, Dh/2)
    pairing: str

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate x (B, T, H, Dh) pair by pair; same shape and dtype (RoFormer, eq. 34)."""
        return (rotate_halves if self.pairing == "halves" else rotate_pairs)(x, self.cos, self.sin)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Channel i together with channel i + Dh/2 (NeoX): (B, T, H, Dh)."""
    a, b = x.chunk(2, dim=-1)  # 2 x (B, T, H, Dh/2)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).type_as(x)


@with_kernel
def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Channel 2 i together with channel 2 i + 1 (GPT-J): (B, T, H, Dh)."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)  # 2 x (B, T, H, Dh/2)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2).type_as(x)


class Position(nn.Module):
    """No positions: the answer to each of the three questions is nothing."""

    def embed(self, coords: Tensor) -> Tensor | None:
        return None

    def rotation(self, coords: Tensor) -> Rotation | None:
        return None

    def bias(self, coords_q: Tensor, coords_k: Tensor) -> Tensor | None:
        return None


class Learned(Position):
    """A trained vector per coordinate, summed over the axes (GPT-2; ViT with factored axes)."""

    def __init__(self, dim: int, extent: tuple[int, ...]):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, dim) for n in extent)

    def embed(self, coords: Tensor) -> Tensor:
        parts = [table(coords[..., axis]) for axis, table in enumerate(self.tables)]  # A x (..., T, D)
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


class Sinusoidal(Position):
    """sin and cos of geometrically spaced frequencies, pairs split evenly over the axes (Vaswani 2017, 3.5).

    pairing:   "interleaved", sin and cos of a frequency side by side (the paper), or "halves", sines first (MarianMT)
    amplitude: of the waves; 1 in the paper, whose embeddings have unit scale
    """

    def __init__(self, dim: int, axes: int, base: float, pairing: str = "interleaved", amplitude: float = 1.0):
        super().__init__()
        if dim % (2 * axes):
            raise ValueError(f"dim = {dim} must be a multiple of {2 * axes} for sinusoidal positions of {axes} axes")
        self.channels, self.base, self.pairing, self.amplitude = dim // axes, base, pairing, amplitude

    def embed(self, coords: Tensor) -> Tensor:
        angles = coords.unsqueeze(-1) * geometric(self.channels, self.base, coords.device)  # (..., T, A, D/2A)
        angles = angles.flatten(-2)  # (..., T, D/2)
        pairs = angles.sin() * self.amplitude, angles.cos() * self.amplitude
        return torch.cat(pairs, dim=-1) if self.pairing == "halves" else torch.stack(pairs, dim=-1).flatten(-2)


class Rotary(Position):
    """Queries and keys are rotated by their coordinate, so that scores depend on differences (Su 2021).

    With several axes the pairs of a head are split evenly among them (axial rotary).
    """

    def __init__(self, head_dim: int, axes: int, base: float, pairing: str, scaling: RotaryScaling = UNSCALED):
        super().__init__()
        if head_dim % (2 * axes):
            raise ValueError(
                f"head_dim = {head_dim} must be a multiple of {2 * axes} for rotary positions of {axes} axes"
            )
        if scaling.kind == "dynamic" and head_dim // axes < 4:
            raise ValueError(f"head_dim = {head_dim} must be at least {4 * axes} for scaling.kind = 'dynamic'")
        self.channels, self.base, self.pairing, self.scaling = head_dim // axes, base, pairing, scaling

    def rotation(self, coords: Tensor) -> Rotation:
        turns = frequencies(self.channels, self.base, self.scaling, coords)
        angles = coords.unsqueeze(-1) * turns  # (..., T, A, Dh/2A)
        angles = angles.flatten(-2).unsqueeze(-2)  # (..., T, 1, Dh/2): the same for every head
        cos, sin = angles.cos(), angles.sin()
        if self.scaling.kind == "yarn":
            gain = self.scaling.attention_factor or 0.1 * math.log(self.scaling.factor) + 1.0
            cos, sin = cos * gain, sin * gain
        return Rotation(cos, sin, self.pairing)


class ALiBi(Position):
    """A penalty proportional to distance, its slope fixed per head (Press 2022).

    Distance is Euclidean where there are several axes (2-D ALiBi, Fuller 2023).
    """

    def __init__(self, n_heads: int):
        super().__init__()
        self.n_heads = n_heads

    def bias(self, coords_q: Tensor, coords_k: Tensor) -> Tensor:
        offset = coords_k.unsqueeze(-3) - coords_q.unsqueeze(-2)  # (..., Tq, Tk, A)
        distance = offset.float().norm(dim=-1) if offset.shape[-1] > 1 else offset.squeeze(-1).abs().float()
        slopes = alibi_slopes(self.n_heads, coords_q.device)
        return -slopes.view(-1, 1, 1) * distance.unsqueeze(-3)  # (..., H, Tq, Tk)


class T5(Position):
    """A trained score per head and distance bucket, summed over the axes (Raffel 2020, 2.1)."""

    def __init__(self, n_heads: int, axes: int, config: PositionConfig):
        super().__init__()
        self.config = config
        self.tables = nn.ModuleList(nn.Embedding(config.buckets, n_heads) for _ in range(axes))

    def bias(self, coords_q: Tensor, coords_k: Tensor) -> Tensor:
        offset = coords_k.unsqueeze(-3) - coords_q.unsqueeze(-2)  # (..., Tq, Tk, A)
        buckets = t5_bucket(offset, self.config)
        parts = [table(buckets[..., axis]) for axis, table in enumerate(self.tables)]  # A x (..., Tq, Tk, H)
        return torch.stack(parts).sum(0).movedim(-1, -3)  # (..., H, Tq, Tk)


# Frequencies and slopes are made anew on each pass: as buffers they would be rounded together with the weights, and
# left empty in a model that is built on `meta`.


def geometric(channels: int, base: float | Tensor, device: torch.device | None = None) -> Tensor:
    """Frequencies base^(-2i/channels), i = 0 ... channels/2 - 1: (channels/2,), float32, radians per unit.

    Rounded as in public implementations: one unit in the last place is 1e-4 radians a thousand tokens on.
    """
    return 1.0 / base ** (torch.arange(0, channels, 2, dtype=torch.float32, device=device) / channels)


def frequencies(channels: int, base: float, scaling: RotaryScaling, coords: Tensor) -> Tensor:
    """Those of rotary positions, (channels/2,), scaled and rounded as in public implementations.

    linear: all are divided by the factor (Chen 2023). dynamic: their base grows with the longest row of the pass once
    that exceeds the original context ("NTK-aware"); keys in a cache stay as their own pass rotated them. llama3, yarn:
    see below.
    """
    own, factor, original = geometric(channels, base, coords.device), scaling.factor, scaling.original_context
    match scaling.kind:
        case "none":
            return own
        case "linear":
            return own / factor
        case "dynamic":
            longest = (coords.max() + 1).clamp(min=original)
            growth = (factor * longest / original - (factor - 1)) ** (channels / (channels - 2))
            return geometric(channels, base * growth, coords.device)
        case "llama3":
            return _llama3(own, scaling)
        case "yarn":
            return _yarn(own, channels, base, scaling)


def _llama3(own: Tensor, scaling: RotaryScaling) -> Tensor:
    """Slow ones are divided by the factor, fast ones stay, those between are blended (Dubey 2024, Llama 3.1)."""
    low, high, factor = scaling.low_freq_factor, scaling.high_freq_factor, scaling.factor
    turns = scaling.original_context / (2 * math.pi / own)  # over the original context
    kept = (turns - low) / (high - low)
    blend = (1 - kept) * own / factor + kept * own
    return torch.where(kept < 0, own / factor, torch.where(kept > 1, own, blend))


def _yarn(own: Tensor, channels: int, base: float, scaling: RotaryScaling) -> Tensor:
    """The same, but blended linearly over the channels (Peng 2024, YaRN, 3.2)."""
    ends = [
        channels * math.log(scaling.original_context / (turns * 2 * math.pi)) / (2 * math.log(base))
        for turns in (scaling.beta_fast, scaling.beta_slow)
    ]
    if scaling.ramp_ends == "rounded":
        ends = [math.floor(ends[0]), math.ceil(ends[1])]
    low, high = max(ends[0], 0), min(ends[1], channels - 1)
    pairs = torch.arange(channels // 2, dtype=torch.float32, device=own.device)
    scaled = ((pairs - low) / (high - low or 0.001)).clamp(0, 1)
    return own / scaling.factor * scaled + own * (1 - scaled)


def alibi_slopes(n_heads: int, device: torch.device | None = None) -> Tensor:
    """Slopes 2^(-8i/heads), i = 1 ... heads; other than powers of two borrow from the next one (Press 2022, A)."""
    below = 2 ** math.floor(math.log2(n_heads))
    own = torch.arange(1, below + 1, device=device)
    borrowed = torch.arange(n_heads - below, device=device) + 0.5
    return torch.exp2(-8 / below * torch.cat((own, borrowed)))  # (H,), float32


def t5_bucket(offset: Tensor, config: PositionConfig) -> Tensor:
    """Bucket of each offset (key minus query): exact up to half of the buckets, logarithmic beyond; same shape."""
    if config.direction == "both":
        buckets, start = config.buckets // 2, (offset > 0).long() * (config.buckets // 2)
        distance = offset.abs()
    else:
        buckets, start = config.buckets, torch.zeros_like(offset)
        distance = (-offset).clamp(min=0)
    exact = buckets // 2
    scale = (buckets - exact) / math.log(config.max_distance / exact)
    far = exact + (torch.log(distance.clamp(min=1).float() / exact) * scale).long()
    return start + torch.where(distance < exact, distance, far.clamp(max=buckets - 1))


def build_position(
    config: TransformerConfig, extent: tuple[int, ...], position: PositionConfig | None = None
) -> Position:
    """The position module a core asks for, or `position`; `extent` is the number of coordinates along each axis."""
    position, axes = position or config.position, len(extent)
    match position.kind:
        case "none":
            return Position()
        case "learned":
            return Learned(config.dim, extent)
        case "sinusoidal":
            return Sinusoidal(config.dim, axes, position.base, position.pairing, position.amplitude)
        case "rotary":
            return Rotary(config.head_width, axes, position.base, position.pairing, position.scaling)
        case "alibi":
            return ALiBi(config.n_heads)
        case "t5":
            return T5(config.n_heads, axes, position)


def index(length: int, start: int = 0, device: torch.device | str | None = None) -> Tensor:
    """Coordinates of a sequence: start, start + 1, ...: (length, 1), int64."""
    return torch.arange(start, start + length, device=device).unsqueeze(-1)

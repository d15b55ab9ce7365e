"""How the next token is chosen: small pure filters from logits to logits, and the settings that name them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Filter = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, V) float32, history (B, T) int64, negative where there is no token) -> logits (B, V)."""


def temperature(value: float) -> Filter:
    """Divide the logits; below 1 sharpens, above 1 flattens."""
    if not value > 0:
        raise ValueError(f"temperature = {value} must be above 0")
    return lambda logits, history: logits / value


def top_k(k: int) -> Filter:
    """Keep exactly the k largest logits."""
    if k < 1:
        raise ValueError(f"top_k = {k} must be at least 1")

    def keep(logits: Tensor, history: Tensor) -> Tensor:
        values, places = logits.topk(min(k, logits.shape[-1]), dim=-1)  # (B, k)
        return torch.full_like(logits, -math.inf).scatter(-1, places, values)

    return keep


def top_p(p: float) -> Filter:
    """Keep the most probable tokens that together reach probability p (nucleus sampling, Holtzman 2020)."""
    if not 0 < p <= 1:
        raise ValueError(f"top_p = {p} must be above 0 and at most 1")

    def keep(logits: Tensor, history: Tensor) -> Tensor:
        values, places = logits.sort(dim=-1, descending=True)
        probabilities = values.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities  # reached without this token
        return torch.full_like(logits, -math.inf).scatter(-1, places, values.masked_fill(before >= p, -math.inf))

    return keep


def min_p(p: float) -> Filter:
    """Keep the tokens at least p times as probable as the most probable one (Nguyen 2024)."""
    if not 0 < p <= 1:
        raise ValueError(f"min_p = {p} must be above 0 and at most 1")
    return lambda logits, history: logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), -math.inf)


def repetition_penalty(strength: float) -> Filter:
    """Divide positive and multiply negative logits of tokens already there (Keskar 2019, CTRL, 4.1)."""
    if not strength > 0:
        raise ValueError(f"repetition_penalty = {strength} must be above 0")

    def penalise(logits: Tensor, history: Tensor) -> Tensor:
        rows, vocabulary = logits.shape
        places = history.masked_fill(history < 0, vocabulary)  # one extra column takes what is no token
        present = torch.zeros(rows, vocabulary + 1, dtype=torch.bool, device=logits.device)
        present = present.scatter(-1, places, True)[:, :vocabulary]  # (B, V)
        return torch.where(present, torch.where(logits > 0, logits / strength, logits * strength), logits)

    return penalise


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 1.0
    """Below 1 sharpens, above 1 flattens; 0 takes the most probable token."""
    top_k: int | None = None
    """Keep the k most probable tokens."""
    top_p: float | None = None
    """Keep the most probable tokens that together reach this probability."""
    min_p: float | None = None
    """Keep tokens at least this fraction as probable as the most probable."""
    repetition_penalty: float | None = None
    """Above 1 makes tokens that are already there less probable."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature = {self.temperature} must be at least 0")
        if self.temperature == 0 and (self.top_k or self.top_p or self.min_p):
            raise ValueError("top_k, top_p and min_p have no effect with temperature = 0")
        self.filters()

    def filters(self) -> list[Filter]:
        """The filters named, in the order they are applied."""
        named: list[tuple[Callable[..., Filter], float | None]] = [
            (repetition_penalty, self.repetition_penalty),
            (temperature, self.temperature or None),
            (top_k, self.top_k),
            (top_p, self.top_p),
            (min_p, self.min_p),
        ]
        return [make(value) for make, value in named if value is not None]

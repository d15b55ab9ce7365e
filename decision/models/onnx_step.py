"""One step of acting as an ONNX file: from a window in the environment's units to the action to take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from core.files.onnx import write_onnx
from decision.data.windows import Window

if TYPE_CHECKING:
    from decision.data.summary import Normaliser
    from decision.environments.spaces import Space
    from decision.models.decision_transformer import DecisionTransformer

KINDS = {"float32": torch.float32, "float64": torch.float64}
TOLERANCE = 1e-4
"""Largest difference of a prediction between the file and PyTorch."""


class Step(nn.Module):
    """A trained model with its statistics: the last K steps of B episodes -> the actions to take now.

    returns_to_go float32 (B, K), observations (B, K, ...), actions (B, K, ...) of which the last is not read, timesteps
    int64 (B, K) -> actions (B, ...) as the environment takes them, and the head's prediction (B, P).
    """

    mean: Tensor
    std: Tensor
    origin: Tensor

    def __init__(self, model: DecisionTransformer, normaliser: Normaliser):
        super().__init__()
        self.model, self.return_scale = model, normaliser.return_scale
        self.scaled, self.centred = bool(normaliser.mean), bool(normaliser.origin)
        for name in ("mean", "std", "origin"):
            if values := getattr(normaliser, name):
                kind = torch.float64 if name == "origin" else torch.float32
                self.register_buffer(name, torch.tensor(values, dtype=kind).reshape(normaliser.shape))

    def forward(
        self, observations: Tensor, actions: Tensor, timesteps: Tensor, returns_to_go: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        returns = timesteps if returns_to_go is None else returns_to_go  # a model without return tokens reads none
        if self.centred:
            observations = (observations - self.origin).float()
        seen = (observations - self.mean) / self.std if self.scaled else observations
        window = Window((returns / self.return_scale).unsqueeze(-1), seen, actions, timesteps, timesteps[:, 0])
        prediction = self.model(window)[:, -1]  # (B, P)
        return self.model.head.choose(prediction), prediction


def export_onnx(
    model: DecisionTransformer, normaliser: Normaliser, target: Path, *, notes: dict[str, str], opset: int
) -> float:
    """Writes a model as an ONNX file; returns the largest difference from PyTorch. Raises as `write_onnx` does."""
    config = model.config
    longest = config.context
    examples = [
        window_of(model, normaliser, rows, steps) for rows, steps in ((2, longest), (1, 1), (3, (longest + 1) // 2))
    ]
    batch, steps = torch.export.Dim("batch"), torch.export.Dim("steps", max=longest)
    axes = {0: batch} if longest == 1 else {0: batch, 1: steps}
    observed, acted = config.spaces()
    described = {
        "input": "the last steps of an episode, the newest last; observations, actions and returns to go as in the "
        "environment; the newest action is not read; timesteps count from the reset, as in an episode",
        "output": "action: as the environment takes it; prediction: logits, or what the head makes of an action",
        "context": str(longest),
        "longest_episode": str(config.longest or "any"),
        "observation": str(observed),
        "action": str(acted),
        "normalization": json.dumps({"inside the model": {"return_scale": normaliser.return_scale}}),
    }
    return write_onnx(
        Step(model, normaliser).eval(),
        examples,
        ("action", "prediction"),
        target,
        dynamic=dict.fromkeys(examples[0], axes),
        notes=described | notes,
        tolerance=TOLERANCE,
        opset=opset,
    )


def window_of(model: DecisionTransformer, normaliser: Normaliser, rows: int, steps: int) -> dict[str, Tensor]:
    """A random window as a file takes it, always the same."""
    observed, acted = model.config.spaces()
    generator = torch.Generator().manual_seed(rows)
    window = {
        "observations": _values(observed, (rows, steps), generator),
        "actions": _values(acted, (rows, steps), generator),
        "timesteps": torch.arange(steps).repeat(rows, 1),
    }
    for name in ("std", "mean", "origin"):  # noise as far from 0 as the data is
        if values := getattr(normaliser, name):
            each = torch.tensor(values, dtype=window["observations"].dtype).reshape(observed.shape)
            window["observations"] = window["observations"] * each if name == "std" else window["observations"] + each
    returns = {"returns_to_go": torch.rand(rows, steps, generator=generator)}
    return window | (returns if model.config.returns == "token" else {})


def _values(space: Space, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Random values of a space, as they are stored: (*size, *shape)."""
    shape = (*size, *space.shape)
    if space.kind == "box":
        noise = torch.rand(shape, generator=generator)
        return (255 * noise).to(torch.uint8) if space.stored == np.uint8 else noise.to(KINDS[space.stored.name])
    counts, start = (torch.tensor(each).reshape(space.shape) for each in (space.counts, space.start))
    return start + (torch.rand(shape, generator=generator) * counts).long()

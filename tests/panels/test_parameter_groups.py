"""Which parameter of each shipped preset's model is updated how: weights, gains and embeddings each in their group."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from core.optim.groups import build_optimizer, parameter_roles
from core.training.config import OptimizerConfig
from decision.environments.spaces import describe
from decision.models.decision_transformer import DecisionTransformer
from decision.presets import PRESETS as DECISION
from tests.panels.models import of_the_data
from text.models.build import build_model
from text.models.encoder import LabelledConfig
from text.presets import PRESETS as TEXT
from vision.models.build import build_model as build_vision_model
from vision.presets import PRESETS as VISION

OPTIMIZERS = [OptimizerConfig(), OptimizerConfig(layer_decay=0.5), OptimizerConfig(kind="muon")]


def gpt(name: str) -> nn.Module:
    shape = TEXT[name].model
    with torch.device("meta"):
        labels = {"labels": ("no", "yes")} if isinstance(shape, LabelledConfig) else {}
        return build_model(replace(shape, vocab_size=shape.vocab_size or 65, **labels))


def vit(name: str) -> nn.Module:
    with torch.device("meta"):
        shape = VISION[name].model
        return build_vision_model(replace(shape, channels=3, **of_the_data(shape)))


def decision_transformer(name: str) -> nn.Module:
    shape, box = DECISION[name].model, gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    longest = 1000 if shape.timesteps == "embedded" else 0
    spaces = {"observation_space": describe(box), "action_space": describe(box)}
    return DecisionTransformer(replace(shape, max_timestep=longest, **spaces))


BUILDERS: dict[str, Callable[[str], nn.Module]] = {"text": gpt, "vision": vit, "decision": decision_transformer}
# Sizes of the groups with each optimiser, and a digest of the names in them.
EXPECTED: dict[str, tuple[list[list[int]], str]] = {
    "text/char-cpu": ([[18], [1, 4, 4, 4, 4, 1], [2, 16]], "bf970bfe8062"),
    "text/nanogpt-cpu": ([[18, 9], [1, 4, 2, 4, 2, 4, 2, 4, 2, 2], [2, 9, 16]], "0c5f7c142640"),
    "text/char-modern": ([[18], [1, 4, 4, 4, 4, 1], [2, 16]], "bf970bfe8062"),
    "text/nanogpt-gpu": ([[26, 13], [1, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 2], [2, 13, 24]], "89893b60bbfd"),
    "text/char-gpu-modern": ([[26], [1, 4, 4, 4, 4, 4, 4, 1], [2, 24]], "f61f62b4ac36"),
    "text/gpt2-124m": (
        [[50, 98], [2, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 2], [2, 98, 48]],
        "a38802f143c0",
    ),
    "text/multi30k": ([[45, 84], [7, 13, 7, 13, 7, 13, 7, 13, 4, 8, 4, 8, 4, 8, 4, 8, 1], [1, 84, 44]], "3867accc012c"),
    "text/multi30k-modern": ([[45], [7, 7, 7, 7, 4, 4, 4, 4, 1], [1, 44]], "589d78f89fec"),
    "text/multi30k-lstm": ([[5, 4], [2, 2, 2, 2, 1]], "814e37b76e77"),
    "text/multi30k-bahdanau": ([[11, 7], [6, 3, 4, 4, 1], [7, 7, 4]], "0dabcbe2ecf3"),
    "text/multi30k-luong": ([[8, 6], [3, 2, 4, 4, 1], [7, 6, 1]], "e407465b29f6"),
    "text/char-lstm": ([[4, 2], [1, 2, 2, 1]], "7fec1514495a"),
    "text/sst2": ([[7, 5], [2, 3, 4, 1, 1, 1], [3, 5, 4]], "b6ca4934ac1c"),
    "text/ud-pos": ([[10, 1], [1, 1, 4, 4, 1], [2, 1, 8]], "2c4622d6d9cc"),
    "text/protein-q3": ([[19, 1], [1, 1, 4, 4, 4, 4, 2], [3, 1, 16]], "c14162906ad3"),
    "text/mlm-cpu": ([[18, 11], [1, 3, 4, 2, 4, 2, 4, 2, 4, 1, 1, 1], [2, 11, 16]], "f4e9b304b05b"),
    "text/t5-cpu": ([[48, 22], [1, 1, 7, 3, 7, 3, 7, 3, 7, 3, 4, 3, 4, 2, 4, 2, 4, 2, 3], [4, 22, 44]], "4d8bacee790b"),
    "text/embed-cpu": ([[17, 9], [1, 4, 2, 4, 2, 4, 2, 4, 1, 1, 1], [1, 9, 16]], "b07cb493f8ac"),
    "text/instruct": ([[18], [1, 4, 4, 4, 4, 1], [2, 16]], "bf970bfe8062"),
    "text/prefer": ([[18], [1, 4, 4, 4, 4, 1], [2, 16]], "bf970bfe8062"),
    "vision/vit-digits": ([[15, 10], [2, 3, 4, 2, 4, 2, 4, 2, 1, 1], [3, 10, 12]], "f42b92291fd7"),
    "vision/vit-cifar-cpu": ([[26, 15], [1, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 1, 1], [2, 15, 24]], "ecd0f8543173"),
    "vision/vit-cifar-best": (
        [[34, 19], [1, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 1, 1], [2, 19, 32]],
        "7029e82e4a53",
    ),
    "vision/cct-7-3x1": (
        [[31, 61], [2, 4, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 1, 1], [3, 61, 28]],
        "e6fd746c53ed",
    ),
    "vision/fsdd": ([[14, 9], [1, 2, 4, 2, 4, 2, 4, 2, 1, 1], [2, 9, 12]], "b912707ff31f"),
    "vision/fsdd-speakers": ([[16, 8], [1, 2, 4, 2, 4, 2, 4, 2, 3], [4, 8, 12]], "4a6e05056f00"),
    "vision/vit-tiny": (
        [[50, 102], [1, 3, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 1, 3], [2, 102, 48]],
        "3415c2b88692",
    ),
    "vision/vit-small": (
        [[50, 102], [1, 3, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 1, 3], [2, 102, 48]],
        "3415c2b88692",
    ),
    "vision/vit-base": (
        [[50, 102], [1, 3, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 4, 8, 1, 3], [2, 102, 48]],
        "3415c2b88692",
    ),
    "vision/flow-digits": ([[29, 25], [2, 3, 6, 4, 6, 4, 6, 4, 6, 4, 3, 6], [5, 25, 24]], "f1a57ac2a7dc"),
    "vision/flow-mnist": (
        [[41, 33], [2, 3, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 3, 6], [5, 33, 36]],
        "bd514d236e84",
    ),
    "vision/flow-icons": (
        [[69, 49], [2, 4, 10, 6, 10, 6, 10, 6, 10, 6, 10, 6, 10, 6, 4, 2, 3, 7], [5, 49, 64]],
        "ebe91789475f",
    ),
    "vision/judge-icons": ([[19, 17], [2, 4, 4, 2, 4, 2, 4, 2, 4, 2, 1, 5], [3, 17, 16]], "d2ef2934f8ab"),
    "vision/pixels-digits": ([[18, 11], [1, 1, 4, 2, 4, 2, 4, 2, 4, 2, 1, 2], [2, 11, 16]], "502245032510"),
    "vision/pixels-icons": (
        [[26, 15], [1, 1, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 4, 2, 1, 2], [2, 15, 24]],
        "321fe5d60a38",
    ),
    "vision/flow-cifar": (
        [[77, 57], [2, 3, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 3, 6], [5, 57, 72]],
        "42b1f7e8041b",
    ),
    "decision/cartpole": ([[12, 12], [1, 2, 4, 2, 4, 2, 3, 6], [4, 12, 8]], "c72c606e3e00"),
    "decision/lunarlander": ([[16, 14], [1, 2, 4, 2, 4, 2, 4, 2, 3, 6], [4, 14, 12]], "589129fedbaf"),
    "decision/hopper-medium": ([[16, 14], [1, 2, 4, 2, 4, 2, 4, 2, 3, 6], [4, 14, 12]], "589129fedbaf"),
    "decision/hopper-medium-replay": ([[16, 14], [1, 2, 4, 2, 4, 2, 4, 2, 3, 6], [4, 14, 12]], "589129fedbaf"),
    "decision/halfcheetah-medium": ([[16, 14], [1, 2, 4, 2, 4, 2, 4, 2, 3, 6], [4, 14, 12]], "589129fedbaf"),
    "decision/halfcheetah-medium-replay": ([[16, 14], [1, 2, 4, 2, 4, 2, 4, 2, 3, 6], [4, 14, 12]], "589129fedbaf"),
    "decision/walker2d-medium": ([[16, 14], [1, 2, 4, 2, 4, 2, 4, 2, 3, 6], [4, 14, 12]], "589129fedbaf"),
    "decision/walker2d-medium-replay": ([[16, 14], [1, 2, 4, 2, 4, 2, 4, 2, 3, 6], [4, 14, 12]], "589129fedbaf"),
}


def grouping(model: nn.Module) -> tuple[list[list[int]], str]:
    """Sizes of the groups, and a digest of their names in order, with their rates and decays."""
    names = {p: name for name, p in model.named_parameters()}
    hidden = any(role.matrices for role in parameter_roles(model).values())
    suited = OPTIMIZERS if hidden else OPTIMIZERS[:2]  # Muon refuses a model without hidden matrices
    found = [
        [(g["kind"], g["lr"], g["weight_decay"], [names[p] for p in g["params"]]) for g in optimizer.param_groups]
        for optimizer in (build_optimizer(model, config) for config in suited)
    ]
    sizes = [[len(names) for *_, names in groups] for groups in found]
    return sizes, hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12]


@pytest.mark.parametrize("preset", EXPECTED)
def test_every_parameter_is_updated_as_it_always_was(preset):
    panel, name = preset.split("/")
    assert grouping(BUILDERS[panel](name)) == EXPECTED[preset]


def test_no_preset_is_left_out():
    known = {"text": TEXT, "vision": VISION, "decision": DECISION}
    assert set(EXPECTED) == {f"{panel}/{name}" for panel, presets in known.items() for name in presets}

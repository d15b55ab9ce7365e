"""CUDA code without CUDA: on tensors that claim to be on a GPU, one that was left on the CPU is an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from core.files.tensors import Uninitialised
from core.optim.config import OptimizerConfig
from core.optim.groups import build_optimizer, parameter_roles
from core.transformer import Transformer
from decision.presets import PRESETS as DECISION
from tests.panels.models import build, example
from text.models.encoder_decoder import Seq2Seq
from text.models.gpt import GPT
from text.models.recurrent import RecurrentConfig
from text.models.recurrent_seq2seq import RecurrentSeq2SeqConfig
from text.presets import PRESETS as TEXT
from vision.presets import PRESETS as VISION

KNOWN = {"text": TEXT, "vision": VISION, "decision": DECISION}
RECURRENT = RecurrentConfig | RecurrentSeq2SeqConfig  # cuDNN asks for a driver
NAMES = [
    f"{panel}/{name}"
    for panel, presets in KNOWN.items()
    for name, preset in presets.items()
    if not isinstance(preset.model, RECURRENT) and not name.endswith("-replay")  # of the same shape as those without
]
LIKE_OTHERS = (
    "gpu",
    "124m",
    "tiny",
    "small",
    "base",
    "lunarlander",
    "halfcheetah",
    "walker2d",
    "char-modern",
    "protein",
    "instruct",
    "prefer",
)
"""Presets that only differ in size from one that is tried in any case."""
MARKED = [
    pytest.param(name, marks=pytest.mark.slow) if any(part in name for part in LIKE_OTHERS) else name for name in NAMES
]
DEPTH = 2
"""Blocks that are left of each stack: the others would do the same."""


@contextmanager
def fake_model(name: str) -> Iterator[tuple[nn.Module, Any]]:
    """A preset's model, and an input of it, on a GPU that need not be there."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        with Uninitialised():
            model = build(name)
        for stack in [*model.modules()]:
            if isinstance(stack, Transformer):
                del stack.blocks[DEPTH:]
        moved: dict[Tensor, Tensor] = {}
        for module in model.modules():
            for key, p in module.named_parameters(recurse=False):
                if p not in moved:
                    moved[p] = nn.Parameter(p.detach().to("cuda"), p.requires_grad)
                setattr(module, key, moved[p])
            for key, buffer in module.named_buffers(recurse=False):
                module._buffers[key] = mode.from_tensor(buffer).to("cuda")
        yield model, tree_map_only(Tensor, lambda tensor: tensor.to("cuda"), example(model))


def devices(tree: Any) -> set[str]:
    return {tensor.device.type for tensor in tree_leaves(tree) if isinstance(tensor, Tensor)}


@pytest.mark.parametrize("name", MARKED)
def test_forward_and_update_stay_on_the_device(name: str) -> None:
    with fake_model(name) as (model, inputs):
        for mode in (True, False):
            assert devices(model.train(mode)(*inputs)) == {"cuda"}
        suited = any(role.matrices for role in parameter_roles(model).values())
        for kind in ("adamw", "muon") if suited else ("adamw",):
            config = OptimizerConfig(kind=kind, muon_precision="fp32")  # type: ignore[arg-type]
            optimizer = build_optimizer(model, config)
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            optimizer.step()
            assert devices([state for states in optimizer.state.values() for state in states.values()]) == {"cuda"}


DECODING = ("char-cpu", "nanogpt-cpu", "multi30k", "multi30k-modern", "t5-cpu")


@pytest.mark.parametrize("name", DECODING)
def test_decoding_stays_on_the_device(name: str) -> None:
    with fake_model(f"text/{name}") as (model, inputs), torch.no_grad():
        model.eval()
        if isinstance(model, GPT):
            state = model.new_state(2, 16)
            for _ in range(2):
                assert devices(model.step(inputs[0], state)) == {"cuda"}
        else:
            assert isinstance(model, Seq2Seq)
            bound = model.bind(*inputs[:2])
            state = bound.new_state(2, 16)
            for _ in range(2):
                assert devices(bound.step(inputs[2][:, :1], state)) == {"cuda"}


def test_a_tensor_left_behind_is_found() -> None:
    with fake_model("text/char-cpu") as (model, inputs), pytest.raises(RuntimeError, match="device"):
        model(inputs[0].to("cpu"))

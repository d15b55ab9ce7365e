"""Adapters in every panel: what is trained, kept, resumed, loaded, and refused when its base is another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.adapters.lora import adapted_maps
from core.cli.triptych import merge as merge_command
from core.files.tensors import read_tensors
from core.training.checkpoints import Checkpoints
from core.training.command import parse
from decision.tasks.loop import train as train_decision
from decision.train import parse_command
from decision.trained import load as load_decision
from tests.panels.subjects import SUBJECTS
from text.presets import PRESETS as TEXT
from text.tasks.configs import CONFIGS as TEXT_CONFIGS
from text.train import train as train_text
from text.trained import load as load_text
from vision.presets import PRESETS as VISION
from vision.tasks.configs import CONFIGS as VISION_CONFIGS
from vision.tasks.loop import train as train_vision
from vision.trained import load as load_vision
from vision.trained import load_generator

Train = Callable[[list[str]], Any]
TRAIN: dict[str, Train] = {
    "text": lambda argv: train_text(parse(TEXT_CONFIGS, TEXT, argv)),
    "vision": lambda argv: train_vision(parse(VISION_CONFIGS, VISION, argv)),
    "decision": lambda argv: train_decision(parse_command(argv)),
}
CALM = ("--precision", "fp32", "--device", "cpu", "--optimizer.kind", "adamw")
DRAWING = (
    *("--model.core.depth", 2, "--model.core.n_heads", 2, "--model.core.dim", 32),
    *("--model.image-size", 8, "--model.patch", 4),
)
IMAGES = ("--model.image-size", 8, "--batch-size", 8)
CASES: dict[str, tuple[str, tuple[object, ...], Callable[..., Any]]] = {
    "text": ("text", ("char-cpu", "--batch-size", 8, "--sample", 0), load_text),
    "classification": ("masked", ("sst2", "--batch-size", 8, "--too-long", "truncate"), load_text),
    "translation": ("translation", ("multi30k", "--batch-size", 400), load_text),
    "vision": ("vision", ("vit-cifar-cpu", *IMAGES, "--model.patch", 2), load_vision),
    "flow": ("flow", ("flow-digits", *DRAWING, "--batch-size", 8, "--sample", 0), load_generator),
    "decision": (
        "decision",
        ("cartpole", "--batch-size", 8, "--model.context", 5, "--eval-episodes", 0),
        load_decision,
    ),
}
"""By the task that gets adapters: the task of the run that it starts from, its own flags, and what loads it."""


QUICK = ("text", "vision")
MARKED = [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize("case", MARKED)
def test_a_run_with_adapters(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path / "cache"))
    start, flags, load = CASES[case]
    subject, base, out = SUBJECTS[start], tmp_path / "base", tmp_path / "adapted"
    train, acts = TRAIN[subject.panel], case != "decision"
    short = ("--steps", 2, "--save-every", 2, *(("--eval-every", 2) if acts else ()))
    small = subject.small if acts else (*subject.small[:-5], "--eval-episodes", 0)  # without targets of an evaluation
    train([*map(str, (*small, "--data", subject.data(tmp_path), *short, "--out", base))])
    adapter = ("--adapter", "lora", "--adapter.rank", 4, "--adapter.targets", "q,v", "out", "--init-from", base)
    words = (*flags, *CALM, "--data", SUBJECTS[case].data(tmp_path), *adapter)
    train([*map(str, (*words, *short, "--out", out))])
    kept = read_tensors(Checkpoints(out).find("last") / "model.safetensors")
    assert kept
    assert all(".adapters." in name or name.startswith("head.") for name in kept)
    assert any(".adapters.q." in name for name in kept)
    assert not any(".adapters.k." in name for name in kept)
    loaded, started = load(out).model, load(base).model if case != "classification" else None
    assert not adapted_maps(loaded)
    if started is not None:
        ours, theirs = loaded.state_dict(), started.state_dict()
        changed = {name for name in ours if not torch.equal(ours[name], theirs[name])}
        assert changed
        assert all(
            name.endswith(("qkv.weight", "q.weight", "kv.weight", "out.weight")) or name.startswith("head.")
            for name in changed
        )
    train([*map(str, ("--out", out, "--resume", "--steps", 4))])
    assert Checkpoints(out).steps()[-1] == 4
    with pytest.raises(ValueError, match="holds an adapter"):
        merge_command([str(out)])
    train([*map(str, ("--out", base, "--resume", "--steps", 4))])
    for refused in (lambda: load(out), lambda: train([*map(str, ("--out", out, "--resume", "--steps", 6))])):
        with pytest.raises(ValueError, match="other weights than those that the adapter was trained beside"):
            refused()

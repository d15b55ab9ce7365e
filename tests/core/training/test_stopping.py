"""Stopping and going on: a request is answered at once, a second one loses no finished step, and changes are told."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from core.cli import exits
from core.cli.exits import Interrupted
from core.optim.config import OptimizerConfig
from core.training.checkpoints import Checkpoints, load_weights, verify
from core.training.config import RunConfig
from core.training.folder import is_run_folder, open_folder
from core.training.metrics import read_metrics
from core.training.run import Gradients, Run
from core.training.state import EMA
from tests.core.training.toy import PRESETS, ToyConfig, train
from tests.processes import lines

SETTINGS: dict[str, Any] = {"dropout": 0.2, "ema": 0.9, "steps": 12, "save_every": 100}


def toy(out: Path, **settings: Any) -> ToyConfig:
    return dataclasses.replace(PRESETS["toy"], out=out, **SETTINGS | settings)


def press_twice() -> None:
    """Ctrl-C, and again: the second time KeyboardInterrupt is raised here, unless it is held."""
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)


def losses(out: Path) -> list[dict[str, Any]]:
    return [line for line in lines(out) if "train/loss" in line]


def assert_resumes_like_one_never_stopped(cut: Path, whole: Path) -> None:
    train(toy(whole))
    train(toy(cut, resume=True))
    assert losses(cut) == losses(whole)
    a, b = load_weights(cut, "last"), load_weights(whole, "last")
    assert all(torch.equal(a[name], b[name]) for name in a | b)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "SAME", 0.0)


@pytest.mark.parametrize("moment", ["backward", "update", "evaluation", "averages", "save"])
def test_a_second_ctrl_c_loses_no_finished_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], moment: str
) -> None:
    """Wherever it comes, between the halves of an update or of exchanged weights included."""
    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        stop_at(patch, moment)
        with pytest.raises(Interrupted, match="is saved; go on with: .*--resume") as end:
            train(toy(cut))
    step = int(re.findall(r"at step (\d+)", str(end.value))[0])
    assert step == (6 if moment == "backward" else 7 if moment == "update" else 5)
    assert Checkpoints(cut).steps()[-1] == step
    verify(Checkpoints(cut).path(step))
    kind = "evaluation" if moment == "evaluation" else "step"
    assert f"stopping once this {kind} is finished and saved; Ctrl-C again" in capfd.readouterr().err
    assert_resumes_like_one_never_stopped(cut, tmp_path / "whole")


def stop_at(patch: pytest.MonkeyPatch, moment: str) -> None:
    """Presses Ctrl-C twice in the middle of step 7, or of the evaluation or the first checkpoint after step 5."""

    def pressing(original: Any, due: Any) -> Any:
        def method(first: Any, *arguments: Any) -> Any:
            if due(first):
                press_twice()
            return original(first, *arguments)

        return method

    if moment == "backward":
        patch.setattr(Run, "backward", after_the_first_half(Run.backward))
    elif moment == "update":
        patch.setattr(EMA, "update", pressing(EMA.update, lambda ema: updates(ema) == 7))
    elif moment == "evaluation":
        patch.setattr("tests.core.training.toy.F.cross_entropy", once_in_evaluation())
    elif moment == "averages":
        patch.setattr(EMA, "_assign", pressing(EMA._assign, lambda ema: True))
    else:
        patch.setattr(Checkpoints, "writing", pressing(Checkpoints.writing, lambda _: True))
        patch.setattr(Run, "due", lambda run, what, due=Run.due: due(run, what) or (what == "save" and run.step == 5))


def updates(ema: Any, counts: dict[int, int] = {}) -> int:  # noqa: B006
    counts[id(ema)] = counts.get(id(ema), 0) + 1
    return counts[id(ema)]


def after_the_first_half(original: Any) -> Any:
    def backward(run: Run, *arguments: Any, **options: Any) -> Gradients:
        gradients: Gradients = original(run, *arguments, **options)
        if run.step == 6:
            press_twice()
        return gradients

    return backward


def once_in_evaluation() -> Any:
    original = torch.nn.functional.cross_entropy

    def cross_entropy(*arguments: Any, **options: Any) -> torch.Tensor:
        if not torch.is_grad_enabled():
            torch.rand(3)
            press_twice()
        return original(*arguments, **options)

    return cross_entropy


def test_one_request_during_an_evaluation_is_met_when_that_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(exits, "SAME", 60.0)
        patch.setattr("tests.core.training.toy.F.cross_entropy", once_in_evaluation())
        with pytest.raises(Interrupted, match="at step 5, which is saved"):
            train(toy(cut))
    assert [line["step"] for line in read_metrics(cut) if "val/loss" in line] == [5]
    assert_resumes_like_one_never_stopped(cut, tmp_path / "whole")


# Other settings


def test_settings_that_change_nothing_learned_may_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(toy(tmp_path / "run", steps=3))
    capsys.readouterr()
    train(toy(tmp_path / "run", steps=3, resume=True, log_every=1, keep=5, eval_every=7))
    assert "notice" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "notice"),
    [
        (
            {"steps": 5},
            "notice: the budget was steps = 3, and is steps = 5: the learning rate follows another schedule",
        ),
        ({"steps": None, "minutes": 0.001}, "notice: the budget was steps = 3, and is minutes = 0.001: "),
        ({"accumulate": 2}, "notice: accumulate was 1, and is 2: sums round differently"),
    ],
)
def test_settings_that_change_what_is_learned_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], notice: str
) -> None:
    train(toy(tmp_path / "run", steps=3))
    capsys.readouterr()
    train(toy(tmp_path / "run", **{"steps": 3, "resume": True} | changes))
    assert [line for line in capsys.readouterr().err.splitlines() if notice in line]


# Folders


def test_a_run_never_begins_among_other_files(tmp_path: Path) -> None:
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "data.json").write_text("{}")
    with pytest.raises(ValueError, match=r"thesis is not empty: it holds 'data.json'; .*--out"):
        open_folder(toy(foreign))
    assert [path.name for path in foreign.iterdir()] == ["data.json"]
    logged = tmp_path / "logged"
    logged.mkdir()
    (logged / "slurm.out").write_text("")
    assert open_folder(toy(logged)) == []


def test_a_run_folder_is_known(tmp_path: Path) -> None:
    train(toy(tmp_path / "run", steps=1))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")  # of another project
    assert [is_run_folder(tmp_path / name) for name in ("run", "model", "none", ".")] == [True, False, False, False]


def test_epochs_are_steps(tmp_path: Path) -> None:
    from core.training.config import with_steps

    config = RunConfig(epochs=2.5, batch_size=8, out=tmp_path)
    assert with_steps(config, items=30).steps == 10  # 75 items in batches of 8
    assert with_steps(config, items=1).steps == 1
    assert with_steps(toy(tmp_path), items=30) == toy(tmp_path)
    with pytest.raises(ValueError, match=r"steps = 3, epochs = 1.0, minutes = None: exactly one must be given"):
        RunConfig(epochs=1.0, steps=3)
    with pytest.raises(ValueError, match="epochs = 0"):
        RunConfig(epochs=0)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_part_of_a_model_is_trained_averaged_and_resumed(tmp_path: Path, kind: Any) -> None:
    settings = {"frozen": "blocks", "optimizer": OptimizerConfig(kind=kind, muon_precision="fp32")}
    first = train(toy(tmp_path / "first", steps=1, **settings)).state_dict()
    train(toy(tmp_path / "whole", **settings))
    train(toy(tmp_path / "cut", **settings | {"steps": 12, "save_every": 6, "keep": 9}))
    for step in Checkpoints(tmp_path / "cut").steps()[-1:]:
        Checkpoints(tmp_path / "cut").path(step).rename(tmp_path / "later")
    train(toy(tmp_path / "cut", resume=True, **settings | {"save_every": 6, "keep": 9}))
    weights = load_weights(tmp_path / "whole", "last")
    assert all(torch.equal(first[name], weights[name]) == name.startswith("blocks.") for name in weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_weights(tmp_path / "cut", "last").items())

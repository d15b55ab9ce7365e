"""The run: equal losses however it is cut into micro-batches and lives, and nothing lost when it goes wrong."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.cli.exits import Interrupted, NonFinite
from core.optim.config import OptimizerConfig, ScheduleConfig
from core.optim.groups import build_optimizer
from core.training.checkpoints import Checkpoints, load_weights
from core.training.metrics import read_metrics
from core.training.run import Gradients, Run
from tests.core.training.toy import PRESETS, Sequences, SummedLoss, Toy, ToyConfig, backwards, counted, train
from tests.processes import lines


def toy(out: Path, **settings: Any) -> ToyConfig:
    return dataclasses.replace(PRESETS["toy"], out=out, **settings)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Sends this process a SIGTERM while step `step` is being made."""
    original = Run.update

    def update(run: Run, *gradients: Gradients) -> None:
        if run.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        original(run, *gradients)

    monkeypatch.setattr(Run, "update", update)


def test_micro_batches_of_uneven_counts_equal_one_batch(tmp_path: Path) -> None:
    optimizer = OptimizerConfig(kind="adamw", eps=1e-4)
    whole = train(toy(tmp_path / "1", steps=6, optimizer=optimizer))
    cut = train(toy(tmp_path / "4", steps=6, optimizer=optimizer, accumulate=4))
    for a, b in zip(lines(tmp_path / "1"), lines(tmp_path / "4"), strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    for p, q in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_mean_over_all_that_count(tmp_path: Path) -> None:
    config = toy(tmp_path / "run", steps=1, accumulate=2)
    with Run(config) as run:
        model = Toy(config)
        objective = run.prepare(SummedLoss(model), model, partial(build_optimizer, config=config.optimizer))
        for _, batch in run.steps(Sequences(config).order):
            with torch.no_grad():
                total = sum(objective(*micro) for micro in batch)
                number = sum(counted(*micro) for micro in batch)
            gradients = run.backward(objective, batch, count=counted)
            assert gradients.loss.item() == pytest.approx(float(total / number))
            assert gradients.units == number
            expected = torch.autograd.grad(sum(objective(*micro) for micro in batch) / number, model.parameters())
            for p, gradient in zip(model.parameters(), expected, strict=True):
                assert p.grad is not None
                torch.testing.assert_close(p.grad, gradient)
            run.update(gradients)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_several_objectives_add_their_gradients_each_over_its_own_count(tmp_path: Path, accumulate: int) -> None:
    config = toy(tmp_path / "run", steps=2, accumulate=accumulate)
    with Run(config) as run:
        model = Toy(config)
        first, second = SummedLoss(model), SummedLoss(model)
        run.prepare(first, model, partial(build_optimizer, config=config.optimizer))
        for _, batch in run.steps(Sequences(config).order):
            pairs = [(first, batch), (second, backwards(batch))]
            counts = [sum(counted(*micro) for micro in each) for _, each in pairs]
            assert counts[0] != counts[1]
            means = [sum(f(*micro) for micro in each) / n for (f, each), n in zip(pairs, counts, strict=True)]
            expected = [torch.autograd.grad(mean, model.parameters()) for mean in means]
            parts = [run.backward(objective, each, count=counted) for objective, each in pairs]
            for p, a, b in zip(model.parameters(), *expected, strict=True):
                torch.testing.assert_close(p.grad, a + b)
            run.update(*parts)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_resumed_run_equals_one_never_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """Dropout, averaged weights, windows of metrics cut in the middle: bit for bit."""
    settings: dict[str, Any] = {
        "dropout": 0.2,
        "ema": 0.9,
        "accumulate": 2,
        "optimizer": OptimizerConfig(kind=kind, muon_precision="fp32"),
    }
    train(toy(tmp_path / "whole", **settings))
    for step in (7, 13):
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(
                Interrupted, match=f"interrupted at step {step}, which is saved; go on with: .*--resume"
            ):
                train(toy(tmp_path / "cut", resume=step > 7, **settings))
        assert Checkpoints(tmp_path / "cut").steps()[-1] == step
    train(toy(tmp_path / "cut", resume=True, **settings))
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    for which in ("last", "best"):
        assert same(load_weights(tmp_path / "cut", which), load_weights(tmp_path / "whole", which))


def test_dropout_and_averages_matter_in_that_test(tmp_path: Path) -> None:
    outcomes = []
    for i, settings in enumerate(({}, {"dropout": 0.2}, {"ema": 0.9}, {"seed": 1})):
        train(toy(tmp_path / str(i), steps=4, **settings))
        outcomes.append(lines(tmp_path / str(i))[-1]["val/loss"])
    assert len(set(outcomes)) == 4


def test_more_steps_after_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(toy(tmp_path / "run", steps=5))
    train(toy(tmp_path / "run", steps=5, resume=True))
    assert "nothing left to do" in capsys.readouterr().err
    train(toy(tmp_path / "run", steps=8, resume=True))
    assert [line["step"] for line in lines(tmp_path / "run")] == [3, 5, 5, 6, 8, 8]


def test_the_last_good_checkpoint_replaces_a_damaged_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dropout": 0.2, "keep": 5}
    train(toy(tmp_path / "whole", **settings))
    train(toy(tmp_path / "run", **settings))
    damaged = Checkpoints(tmp_path / "run").path(20) / "optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"optimizer.safetensors holds .* bytes instead of .*--checkpoint last-good"):
        train(toy(tmp_path / "run", resume=True, **settings))
    train(toy(tmp_path / "run", resume=True, checkpoint="last-good", **settings))
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    assert same(load_weights(tmp_path / "run", "last"), load_weights(tmp_path / "whole", "last"))


@pytest.mark.parametrize("step", [4, 12])
def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path, step: int) -> None:
    good = r"the last good checkpoint is .*step-00000010" if step > 10 else "nothing was saved yet"
    with pytest.raises(NonFinite, match=f"the loss is nan at step {step}; {good}"):
        train(toy(tmp_path / "run", poison=step, save_every=10, eval_every=10))
    assert Checkpoints(tmp_path / "run").steps() == ([10] if step > 10 else [])
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    if step > 10:
        assert all(tensor.isfinite().all() for tensor in load_weights(tmp_path / "run").values())


def test_a_device_that_is_not_looked_at_each_step_saves_nothing_poisoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: losses are read when logging and saving only, and still nothing non-finite is saved."""

    class Elsewhere:
        type = "elsewhere"

    original = Run.update

    def update(run: Run, *gradients: Gradients) -> None:
        here, run.device = run.device, Elsewhere()  # type: ignore[assignment]
        try:
            original(run, *gradients)
        finally:
            run.device = here

    monkeypatch.setattr(Run, "update", update)
    with pytest.raises(NonFinite, match=r"the loss is nan at step 12; .*step-00000010"):
        train(toy(tmp_path / "run", poison=12, log_every=100))
    assert Checkpoints(tmp_path / "run").steps() == [5, 10]


def test_a_run_is_not_overwritten_and_not_resumed_as_another(tmp_path: Path) -> None:
    train(toy(tmp_path / "run", steps=3))
    before = lines(tmp_path / "run")
    with pytest.raises(ValueError, match="already holds a run; go on with --resume, or take another --out"):
        train(toy(tmp_path / "run", steps=3))
    with pytest.raises(ValueError, match="was trained with optimizer.lr = 0.001, not 0.5; keep it"):
        train(toy(tmp_path / "run", resume=True, optimizer=OptimizerConfig(kind="muon", muon_precision="fp32", lr=0.5)))
    with pytest.raises(ValueError, match="was trained with batch_size = 8, not 4"):
        train(toy(tmp_path / "run", resume=True, batch_size=4))
    with pytest.raises(ValueError, match="is not a run folder"):
        train(toy(tmp_path / "other", resume=True))
    assert lines(tmp_path / "run") == before
    assert not (tmp_path / "other").exists()


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path: Path) -> None:
    train(toy(tmp_path / "whole", steps=5))
    with pytest.raises(NonFinite):
        train(toy(tmp_path / "run", steps=5, save_every=5, poison=4))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["config"]["poison"] = 0  # as if it had been killed instead
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    train(toy(tmp_path / "run", steps=5, resume=True))
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_a_run_that_fails_before_it_starts_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Run(toy(tmp_path / "run")):
        raise ZeroDivisionError  # the corpus was empty, say
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train(toy(tmp_path / "file" / "run"))


def test_a_pointer_to_the_best_that_a_kill_left_behind_is_mended(tmp_path: Path) -> None:
    train(toy(tmp_path / "run", steps=10))
    pointer = tmp_path / "run" / "checkpoints" / "best.json"
    right = pointer.read_text()
    pointer.write_text(right.replace("10", "5"))
    train(toy(tmp_path / "run", steps=10, resume=True))
    assert pointer.read_text() == right
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (config["resume"], config["checkpoint"]) == (False, "last")  # how it was resumed is not what it is


def test_the_best_step_is_saved_and_kept(tmp_path: Path) -> None:
    config = toy(tmp_path / "run", steps=8, save_every=100, keep=1)
    scores = dict(zip(range(1, 9), (0.1, 0.3, 0.2, 0.9, float("nan"), 0.4, 0.5, 0.6), strict=True))
    with Run(config) as run:
        model = Toy(config)
        objective = run.prepare(SummedLoss(model), model, partial(build_optimizer, config=config.optimizer))
        for step, batch in run.steps(Sequences(config).order):
            run.update(run.backward(objective, batch))
            run.log({"val/accuracy": scores[step]}, best="val/accuracy", mode="max")
    assert Checkpoints(config.out).steps() == [4, 8]
    assert json.loads((config.out / "checkpoints" / "best.json").read_text()) == {
        "step": 4, "metric": "val/accuracy", "value": 0.9,
    }  # fmt: skip


def test_evaluation_is_in_evaluation_mode_and_leaves_training_alone(tmp_path: Path) -> None:
    config = toy(tmp_path / "run", steps=4, dropout=0.5, ema=0.5)
    with Run(config) as run:
        model = Toy(config)
        objective = run.prepare(SummedLoss(model), model, partial(build_optimizer, config=config.optimizer))
        for _, batch in run.steps(Sequences(config).order):
            run.update(run.backward(objective, batch))
            weights, state = model.head.weight.detach().clone(), torch.get_rng_state()
            with run.evaluating():
                assert not model.training
                assert not torch.is_grad_enabled()
                assert not torch.equal(model.head.weight, weights)
                torch.rand(3)
            assert model.training
            assert torch.equal(model.head.weight, weights)
            assert torch.equal(torch.get_rng_state(), state)


def test_minutes_are_a_budget_too(tmp_path: Path) -> None:
    schedule = ScheduleConfig(kind="constant", warmup=0.5)
    train(toy(tmp_path / "run", steps=None, minutes=0.01, schedule=schedule, log_every=1, eval_every=1000))
    found = [line for line in read_metrics(tmp_path / "run") if "train/lr" in line]
    assert found[-1]["seconds"] >= 0.6
    assert found[-1]["train/lr"] == 1e-3
    assert all(a["train/lr"] <= b["train/lr"] for a, b in itertools.pairwise(found))
    assert read_metrics(tmp_path / "run")[-1].keys() >= {"val/loss"}
    assert Checkpoints(tmp_path / "run").steps()[-1] == found[-1]["step"]


def test_gradients_are_clipped_and_their_norm_logged(tmp_path: Path) -> None:
    config = toy(tmp_path / "run", steps=3, clip=0.25)
    with Run(config) as run:
        model = Toy(config)
        objective = run.prepare(SummedLoss(model), model, partial(build_optimizer, config=config.optimizer))
        for _, batch in run.steps(Sequences(config).order):
            gradients = run.backward(objective, batch)
            norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            assert run.state.clip_gradients(0.25).item() == pytest.approx(norm.item())
            clipped = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            assert clipped.item() == pytest.approx(min(0.25, norm.item()), rel=1e-4)
            run.update(gradients)
    assert math.isfinite(lines(tmp_path / "run")[0]["train/grad_norm"])


def test_bf16_trains_and_compile_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("there-is-no-such-compiler",))
    train(toy(tmp_path / "fp32", compile="default"))
    notices = [line for line in capsys.readouterr().err.splitlines() if "notice" in line]
    assert len(notices) == 1
    assert "running without --compile" in notices[0]
    train(toy(tmp_path / "bf16", precision="bf16"))
    full, half = (lines(tmp_path / name)[-1]["val/loss"] for name in ("fp32", "bf16"))
    assert full != half
    assert full == pytest.approx(half, rel=0.05)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device = 'cuda' is not present; present: "):
            train(toy(tmp_path / "run", device="cuda"))
        with pytest.raises(ValueError, match="precision = 'fp16' needs a CUDA device, not 'cpu'"):
            train(toy(tmp_path / "run", device="cpu", precision="fp16"))
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_the_same_figures(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(toy(tmp_path / "run", tracker="tensorboard"))
    (events,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    accumulated = event_accumulator.EventAccumulator(str(events)).Reload()
    logged = {event.step: event.value for event in accumulated.Scalars("val/loss")}
    assert logged == pytest.approx({x["step"]: x["val/loss"] for x in lines(tmp_path / "run") if "val/loss" in x})


def test_a_loop_without_an_update_is_a_mistake(tmp_path: Path) -> None:
    config = toy(tmp_path / "run")

    def forgetful() -> None:
        with Run(config) as run:
            model = Toy(config)
            run.prepare(SummedLoss(model), model, partial(build_optimizer, config=config.optimizer))
            for _ in run.steps(Sequences(config).order):
                pass

    with pytest.raises(RuntimeError, match=r"must call run.update\(\) once per step"):
        forgetful()

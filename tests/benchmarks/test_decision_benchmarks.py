"""The decision benchmarks run in small, their sides do the same work, and their arithmetic is right."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks import decision_rollout, decision_table
from benchmarks.demo import decision as demo_decision
from benchmarks.gpu import command
from benchmarks.gpu import decision as gpu_decision
from benchmarks.gpu.plan import plan
from benchmarks.measure import harness
from benchmarks.measure.harness import Contestant
from benchmarks.measure.record import ROOT
from benchmarks.peers.decision import PEER, PeerActor, Size, build, installed, peer_model, play_one
from benchmarks.steps import decision as decision_step
from core.training.command import parse
from decision.acting.episodes import roll_out
from decision.collecting.config import CollectConfig
from decision.collecting.record import collect
from decision.config import TrainConfig
from decision.data.store import Trajectories
from decision.environments.make import episode_seed, make
from decision.environments.spaces import describe
from decision.evaluate import evaluate_run
from decision.presets import PRESETS
from decision.tasks.loop import train
from tests.core.helpers import awake
from tests.decision.toys import DISCRETE, VECTOR, window

needs_peer = pytest.mark.skipif(not installed(), reason=f"no {PEER}")
SMALL = Size(dim=32, depth=2, context=6, longest=200)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contestants run in this process, one after the other, which saves starting one for each."""

    def run_here(side: Contestant, *, seed: int, threads: int, timeout: float | None = None) -> Mapping[str, float]:
        return harness.work(side.function, {**side.arguments, "seed": seed})

    for module in (harness, command):
        monkeypatch.setattr(module, "run_once", run_here)


# ---------------------------------------------------------------------------------------------- against the peer


@needs_peer
@pytest.mark.parametrize("acted", [decision_step.ACTED, DISCRETE], ids=["box", "discrete"])
def test_both_sides_are_one_model(acted) -> None:
    ours = awake(build(SMALL, VECTOR, acted, seed=0))
    theirs, given = peer_model(SMALL, ours), window(ours, lengths=(6, 4, 1))
    known = given.valid()
    actions = F.one_hot(given.actions, 3).float() if acted is DISCRETE else given.actions
    with torch.no_grad():
        seen = {"states": given.observations, "actions": actions, "returns_to_go": given.returns}
        expected = theirs(**seen, timesteps=given.timesteps, attention_mask=known.long()).action_preds
        torch.testing.assert_close(ours(given)[known], expected[known], atol=1e-5, rtol=1e-5)


class Noting(gymnasium.Wrapper):
    """An environment that notes the actions that it takes."""

    def __init__(self, environment: gymnasium.Env) -> None:
        super().__init__(environment)
        self.taken: list[Any] = []

    def step(self, action: Any) -> Any:
        self.taken.append(np.array(action))
        return self.env.step(action)


@needs_peer
@pytest.mark.parametrize("name", decision_rollout.ENVIRONMENTS)
def test_both_sides_act_alike_while_the_window_grows(name: str) -> None:
    if name not in decision_rollout.present([name]):
        pytest.skip(f"no {name}")
    size = Size(dim=32, depth=2, context=20)
    with closing(make(name)) as environment:
        acted = describe(environment.action_space)
        ours = awake(build(size, describe(environment.observation_space), acted, seed=0))
        normaliser, noted = decision_rollout.unscaled(environment), [Noting(environment) for _ in range(2)]
        mine, other = (decision_rollout.Lasting(each, size.context) for each in noted)
        steps = roll_out(ours, normaliser, [mine], [1000.0], 1, seed=3).steps
        actor = PeerActor(peer_model(size, ours), size.context, acted, normaliser, 1000.0)
        assert play_one(actor, other, episode_seed(3, 0)) == steps
    np.testing.assert_allclose(noted[0].taken, noted[1].taken, atol=1e-4)
    assert len(np.unique(noted[0].taken, axis=0)) > 1, "or the comparison says little"


def test_a_lasting_episode_goes_on_where_the_pole_falls() -> None:
    lengths = []
    with closing(make("CartPole-v1")) as environment:
        lasting = decision_rollout.Lasting(environment, 100)
        for seed in (1, 2, 1):
            lasting.reset(seed=seed)
            ends = [lasting.step(0)[2:4] for _ in range(lasting.left)]
            assert not any(terminated for terminated, _ in ends)
            assert [truncated for _, truncated in ends] == [False] * (len(ends) - 1) + [True]
            lengths.append(len(ends))
    assert lengths[0] == lengths[2] != lengths[1]
    assert all(50 <= length <= 100 for length in lengths)


@needs_peer
def test_both_objectives_are_the_same_mean_and_have_the_same_gradient() -> None:
    short = Size(dim=32, depth=2, longest=60)
    [batch] = decision_step.random_windows(short, 64, 0).batch(0)
    assert not batch.valid().all(), "padding is part of the comparison"
    losses, slopes = [], []
    for side, name in (("ours", "sum.model.head.weight"), (PEER, "model.predict_action.0.weight")):
        objective = decision_step.objective(side, short, 0).eval()
        loss = objective(*batch)
        loss.backward()
        losses.append(loss.item())
        slopes.append(dict(objective.named_parameters())[name].grad)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("side", ["ours", pytest.param(PEER, marks=needs_peer), "ours in decision.train"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_update_reports_consistent_figures(side: str, precision: str) -> None:
    work = {"size": "tiny", "batch": 8, "precision": precision, "steps": 2}
    if side == "ours in decision.train":
        found = decision_step.train_step_in_run(0, **work)
    else:
        found = decision_step.train_step(0, side, **work)
    assert found["updates_per_core_second"] * found["step_core_seconds"] == pytest.approx(1)
    assert found["updates_per_second"] * found["step_seconds"] == pytest.approx(1)
    assert found["first_loss"] == pytest.approx(1 / 3, abs=0.15), "the variance of the actions, the model being asleep"
    assert found["steps"] == 2


@needs_peer
def test_the_comparisons_run_in_small(tmp_path: Path, here: None) -> None:
    words = ["--tiny", "--rounds", "1", "--steps", "8", "--at-once", "3", "--updates", "1", "--batch", "4"]
    words += ["--precisions", "fp32", "--environments", "CartPole-v1,NoSuch-v0", "--results", str(tmp_path)]
    decision_rollout.run(decision_rollout.parse(words))
    found = json.loads((tmp_path / "decision_rollout.json").read_text())
    assert set(found) == {"rollout CartPole-v1", "update fp32"}
    acted = found["rollout CartPole-v1"]["measured"]
    assert list(acted) == ["environment alone", "ours, 3 at once", "ours, 1 at once", PEER]
    assert acted[PEER]["environment_steps"] == acted["ours, 1 at once"]["environment_steps"]
    assert acted["ours, 3 at once"]["environment_steps"]["median"] >= 3 * 4
    ratio = found["rollout CartPole-v1"][f"ratio to {PEER}"]["ours, 3 at once"]["steps_per_core_second"]["median"]
    rates = [acted[side]["steps_per_core_second"]["median"] for side in ("ours, 3 at once", PEER)]
    assert ratio == pytest.approx(rates[0] / rates[1], rel=1e-4)
    assert set(found["update fp32"]["measured"]) == {"ours", "ours in decision.train", PEER}


def test_what_is_not_installed_is_left_out_with_a_notice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, here: None
) -> None:
    monkeypatch.setattr(decision_rollout, "installed", lambda: False)
    words = ["--parts", "rollout", "--tiny", "--rounds", "1", "--steps", "4", "--at-once", "2"]
    words += ["--environments", "NoSuch-v0,CartPole-v1", "--results", str(tmp_path)]
    decision_rollout.run(decision_rollout.parse(words))
    said = capsys.readouterr().err
    assert "notice: NoSuch-v0 is left out: there is no environment 'NoSuch-v0'" in said
    assert f"notice: {PEER} is not installed" in said
    found = json.loads((tmp_path / "decision_rollout.json").read_text())
    assert PEER not in found["rollout CartPole-v1"]["measured"]


@pytest.mark.parametrize(
    ("module", "words", "says"),
    [
        (decision_rollout, ["--parts", "sleep"], "parts = 'sleep' is not one of: rollout, update"),
        (decision_rollout, ["--precisions", "fp8"], "precisions = 'fp8' is not one of: fp32, bf16"),
        (decision_rollout, ["--steps", "501"], "steps = 501 must be 4 to 500"),
        (decision_rollout, ["--at-once", "1"], "at_once = 1 must be 2 or more"),
        (decision_table, ["--data", "hopper-medium=x.npz"], "data = 'hopper-medium=x.npz' must be local/NAME=FILE"),
        (decision_table, ["--data", "local/=x.npz"], "must be local/NAME=FILE"),
        (decision_table, ["--data", "local/x=x.npz", "--preset", "none"], "preset = 'none' is not one of: cartpole"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(module, words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        module.parse(words)


# ---------------------------------------------------------------------------------------------- on a GPU


@pytest.mark.parametrize("side", ["ours", pytest.param(PEER, marks=needs_peer)])
def test_an_objective_compiles_once_and_whole_whatever_is_padding(side: str) -> None:
    short = Size(dim=32, depth=2, longest=60)
    windows = decision_step.random_windows(short, 8, 0)
    [first], [second] = windows.batch(0), windows.batch(1)
    assert first.lengths.sum() != second.lengths.sum()
    objective = decision_step.objective(side, short, 0)
    expected = objective(*second).item()
    objective.compile(backend="eager", fullgraph=True, dynamic=False)
    objective(*first)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert objective(*second).item() == pytest.approx(expected)


@pytest.mark.parametrize("side", gpu_decision.sides())
def test_a_gpu_update_in_small_reports_consistent_figures(side: str) -> None:
    found = gpu_decision.measure_updates(0, side, "tiny", 8, "cpu", "off")
    assert found["windows_per_second"] * found["step_seconds"] == pytest.approx(8)
    assert (found["steps"], found["compiled"]) == (2, 0)


def test_both_ways_of_computing_are_planned_for_every_side() -> None:
    words = ["--device", "cpu", "--parts", "decision", "--decision-batches", "8"]
    modes = [job.arguments["compiled"] for job in plan(command.parse(words))]
    each = len(gpu_decision.sides())
    assert modes == ["off"] * each + ["default"] * each
    assert len(plan(command.parse([*words, "--compile", "off"]))) == each


def test_the_gpu_benchmark_of_decisions_runs_in_small_without_the_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: None
) -> None:
    monkeypatch.setattr(gpu_decision, "installed", lambda: False)
    words = ["--device", "cpu", "--tiny", "--parts", "decision", "--decision-batches", "4"]
    command.run(command.parse([*words, "--results", str(tmp_path)]))
    assert f"notice: {PEER} is not installed" in capsys.readouterr().err
    found = json.loads((tmp_path / "gpu.json").read_text())["decision"]["measured"]
    assert set(found) == {f"{side}, batch 4, compile off" for side in (gpu_decision.IN_RUN, "ours")}
    assert all(figures["updates_per_second"] > 0 for figures in found.values())


def test_updates_need_no_simulator() -> None:
    code = """
import sys
for name in ("gymnasium", "mujoco", "minari"):
    sys.modules[name] = None
from benchmarks.gpu.decision import measure_updates, sides
print(*[measure_updates(0, side, "tiny", 2, "cpu", "off")["compiled"] for side in sides()])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert set(done.stdout.split()) == {"0.0"}, done.stderr[-2000:]


# ---------------------------------------------------------------------------------------------- the table


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Trajectories:
    """500 steps of a random policy in CartPole."""
    out = tmp_path_factory.mktemp("cartpole") / "random.npz"
    return collect(CollectConfig(env="CartPole-v1", steps=500, out=str(out)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands run in this process, which saves starting one for each; what was asked for."""
    lines: list[str] = []

    def run_here(command: Sequence[str], folder: Path) -> tuple[dict[str, float], str]:
        _, _, module, *words = command
        lines.append(" ".join([module, *words]))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if module == "decision.train":
                train(parse(TrainConfig, PRESETS, words))
            else:
                evaluate_run(words)
        return {"train_core_seconds": 1.0}, printed.getvalue()

    monkeypatch.setattr(decision_table, "run_timed", run_here)
    return lines


def test_a_table_is_filled_once_goes_on_and_says_what_the_data_returned(
    cartpole: Trajectories, tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cartpole.save(tmp_path / "random.npz")
    words = ["--data", f"local/random={tmp_path / 'random.npz'}", "--preset", "cartpole", "--tiny", "--episodes", "2"]
    words += ["--seeds", "0", "--steps", "2", "--results", str(tmp_path), "--runs", str(tmp_path / "runs")]
    decision_table.run(decision_table.parse(words))
    path = tmp_path / "decision_table.json"
    first = json.loads(path.read_text())["local/random"]
    assert list(first["cells"]) == ["DT, seed 0", "BC, seed 0", "10 % BC, seed 0"]
    assert [line.split()[0] for line in asked] == ["decision.train", "decision.evaluate", "decision.evaluate"] * 3
    assert [line.count("--model.returns none") for line in asked[::3]] == [0, 1, 1]
    assert [line.count("--top-percent 10") for line in asked[::3]] == [0, 0, 1]
    printed = capsys.readouterr().out
    assert "DT, asked for 500 |" in printed
    assert f"mean {cartpole.returns().mean():,.1f}, 95 % {np.percentile(cartpole.returns(), 95):,.1f}" in printed

    asked.clear()
    lost = json.loads(path.read_text())
    del lost["local/random"]["cells"]["BC, seed 0"]
    path.write_text(json.dumps(lost))
    decision_table.run(decision_table.parse(words))
    again = json.loads(path.read_text())["local/random"]
    assert len(asked) == 3
    assert asked[0].endswith("--resume"), "the run folder is there, and its training not done twice"
    assert again["cells"]["BC, seed 0"]["last"] == first["cells"]["BC, seed 0"]["last"]
    with pytest.raises(ValueError, match="has cells of local/random with other settings"):
        decision_table.run(decision_table.parse([*words, "--steps", "3"]))


def cell_of(*means: float, target: float | None = None, name: str = "") -> dict[str, Any]:
    rows = [{"target": target, "name": name, "return": {"mean": value}} for value in means]
    return {which: {"targets": rows} for which in decision_table.CHECKPOINTS}


def test_a_row_is_the_mean_and_deviation_over_the_seeds() -> None:
    cells = {"DT, seed 0": cell_of(10.0, target=50.0, name="max"), "DT, seed 1": cell_of(30.0, target=50.0, name="max")}
    found = decision_table.rows({"cells": cells | {"10 % BC, seed 0": cell_of(7.0)}})
    assert found == [
        ["DT, asked for 50 (max)", "2", "20.0 ± 14.1", "20.0 ± 14.1", "-", "-"],
        ["10 % BC", "1", "7.0", "7.0", "-", "-"],
    ]


# ---------------------------------------------------------------------------------------------- the demo


def test_without_the_extras_the_demo_takes_random_actions_and_no_film(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(demo_decision, "run", lambda *words: commands.append(words))
    monkeypatch.setattr(demo_decision.importlib.util, "find_spec", lambda name: None)
    assert "stable-baselines3 is not installed" in demo_decision.collected(Path("x.npz"))
    assert "--policy" not in commands[0], "random is the default"
    assert not demo_decision.can_film()
    assert 'pip install "triptych[video]"' in capsys.readouterr().out
    assert demo_decision.shown({"target_500/return_mean": 3.0}) == []

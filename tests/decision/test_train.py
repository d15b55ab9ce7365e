"""Training by the public commands: what it reaches, that it survives, and that it comes back as it was."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from core.cli.arguments import parse_fields
from core.messages import number
from core.optim.groups import build_optimizer
from core.training.trained import matches_data
from decision.acting.episodes import roll_out
from decision.collecting.config import CollectConfig
from decision.data.store import Trajectories
from decision.data.summary import Summary
from decision.environments.make import episode_seed, open_environments
from decision.environments.spaces import describe
from decision.finetune import parse_command as parse_finetuning
from decision.models.decision_transformer import DecisionTransformer
from decision.presets import PRESETS, RECIPES
from decision.tasks.imitation import EVALUATED
from decision.tasks.loop import train
from decision.trained import load, load_policy, read_summary
from tests.decision import examples
from tests.processes import Commands, lines

SHAPE = (
    *("cartpole", "--model.core.dim", 16, "--model.core.depth", 2, "--model.core.n_heads", 2, "--model.context", 5),
    *("--batch-size", 8, "--precision", "fp32", "--device", "cpu", "--optimizer.muon-precision", "fp32"),
    *("--log-every", 1),
)
TINY = (*SHAPE, "--eval-episodes", 2, "--eval-targets", 10, 30)
"""`decision.train` of a model of 7 thousand parameters; a step takes some milliseconds."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(place))


def trained(commands: Commands, *arguments: object) -> list[str]:
    """What a command said."""
    life = commands.run("decision.train", *arguments)
    assert life.process.exitcode == 0, life.err
    return life.err


# What it reaches


@pytest.mark.slow
def test_cartpole_to_500_and_to_what_is_asked(commands: Commands, place: Path) -> None:
    """From the episodes of an agent's whole training, which return from about 10 to 500."""
    pytest.importorskip("stable_baselines3")
    replay, out = place / "replay.npz", place / "reached"
    words = ("--env", "CartPole-v1", "--policy", "ppo", "--record", "replay", "--out", replay)
    life = commands.begin("decision.collect", *words)
    assert life.end(120) == 0, life.err
    life = commands.begin("decision.train", "cartpole", "--data", replay, "--out", out)
    assert life.end(180) == 0, life.err
    agent, targets = load(out, "last"), [50, 100, 200, 350, 500]
    with open_environments("CartPole-v1", 50) as environments:
        found = roll_out(agent.model, agent.summary.normaliser, environments, targets, 20)
    assert found.results[-1].episodes.returns.mean() >= 475
    correlation = found.rank_correlation()
    assert correlation is not None
    assert correlation >= 0.8


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_knows_how_its_data_is_made_and_fits_its_environment(name: str) -> None:
    config = PRESETS[name]
    recipe = parse_fields(CollectConfig(), RECIPES[config.data].split())
    seen, taken = (examples.VECTOR, examples.CHOICE if name in ("cartpole", "lunarlander") else examples.PUSH)
    longest = gymnasium.spec(recipe.env).max_episode_steps
    shape = replace(config.model, observation_space=seen, action_space=taken, max_timestep=longest)
    assert build_optimizer(DecisionTransformer(shape), config.optimizer).param_groups


# That it survives


@pytest.fixture(scope="module")
def long(data: Path) -> tuple[object, ...]:
    """With everything that draws random numbers."""
    random = ("--ema", 0.5, "--model.core.dropout", 0.1, "--top-percent", 90)
    return (*TINY, *random, "--data", data, "--steps", 20, "--save-every", 4, "--eval-every", 8, "--accumulate", 2)


@pytest.fixture(scope="module")
def whole(commands: Commands, place: Path, long: tuple[object, ...]) -> Path:
    """A run that nothing interrupts."""
    trained(commands, *long, "--out", place / "whole")
    return place / "whole"


# That it comes back as it was


def test_what_is_loaded_acts_as_the_run_did_when_it_was_evaluated(whole: Path) -> None:
    """All at once, and as a policy in a loop of one's own; the averaged weights and the statistics included."""
    logged = [line for line in lines(whole) if "val/return" in line][-1]
    agent = load(whole, "last")
    with open_environments("CartPole-v1", 2) as environments:
        found = roll_out(agent.model, agent.summary.normaliser, environments, [10, 30], 2, seed=EVALUATED)
    means = [float(outcome.episodes.returns.mean()) for outcome in found.results]
    assert [logged["val/return_10"], logged["val/return_30"]] == means
    assert logged["val/return"] == max(means)
    policy, environment = load_policy(whole, "last"), gymnasium.make("CartPole-v1")
    for episode, expected in enumerate(found.results[1].episodes.returns):
        observation, _ = environment.reset(seed=episode_seed(EVALUATED, episode))
        policy.reset(target_return=30)
        total, reward, done = 0.0, 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = environment.step(policy.act(observation, reward))
            total, done = total + float(reward), terminated or truncated
        assert total == expected


def test_a_run_folder_says_what_was_learnt_from(whole: Path, cartpole: Trajectories) -> None:
    summary = read_summary(whole)
    assert summary == Summary.of(cartpole)
    record = json.loads((whole / "trajectories.json").read_text())
    assert record["environment"] == "CartPole-v1"
    assert record["targets"]["max"] == cartpole.returns().max()
    assert len(record["returns"]) == 101
    assert matches_data(whole, cartpole.top(90).fingerprint())
    assert not matches_data(whole, cartpole.fingerprint())
    shape = load(whole).config.model
    environment = gymnasium.make("CartPole-v1")
    assert shape.observation_space == describe(environment.observation_space)
    assert shape.action_space == describe(environment.action_space)
    assert shape.max_timestep == 500  # the environment's limit, not the 1,000 steps' longest episode


def test_the_last_and_the_best_are_told_apart(commands: Commands, place: Path, data: Path) -> None:
    words = (*TINY, "--data", data, "--steps", 4, "--eval-every", 1, "--keep", 9, "--out", place / "apart")
    [*_, last] = trained(commands, *words)
    returns = {line["step"]: line["val/return"] for line in lines(place / "apart") if "val/return" in line}
    best = json.loads((place / "apart" / "checkpoints" / "best.json").read_text())
    step = max(returns, key=lambda step: (returns[step], step))  # of equals the later
    assert best == {"step": step, "metric": "val/return", "value": returns[step]}
    assert f"returned {number(returns[step])} at step {step}, the last {number(returns[4])}" in last
    assert load(place / "apart").step == best["step"]


# What it may learn from


@pytest.mark.parametrize(("targets", "near"), [((1, 9999), False), ((1, 2), False), ((1, 20), True)])
def test_targets_none_of_which_is_near_the_data_are_noticed(
    commands: Commands, place: Path, data: Path, cartpole: Trajectories, targets: tuple[int, ...], near: bool
) -> None:
    out = place / f"asked for {targets}"
    words = (*SHAPE, "--data", data, "--steps", 1, "--eval-episodes", 1, "--eval-targets", *targets, "--out", out)
    low, high = cartpole.returns().min(), cartpole.returns().max()
    asked = ", ".join(map(number, targets))
    notice = f"notice: evaluations ask for {asked}, the data returns {low:.0f} to {high:.0f}"
    assert any(line.startswith(notice) for line in trained(commands, *words)) != near


def test_behaviour_cloning_of_the_best_is_a_setting_of_the_same_loop(
    commands: Commands, place: Path, data: Path, cartpole: Trajectories
) -> None:
    words = (*SHAPE, "--data", data, "--model.returns", "none", "--top-percent", 10, "--steps", 2, "--eval-episodes", 2)
    said = trained(commands, *words, "--out", place / "cloned")
    best = cartpole.top(10)
    assert f"{len(best)} episodes of {best.steps} steps" in said[0]
    assert f"returns {best.returns().min():.0f} to {best.returns().max():.0f}" in said[0]
    [evaluated] = [line for line in lines(place / "cloned") if "val/return" in line]
    assert not [name for name in evaluated if name.startswith(("val/return_", "val/rank"))]
    model = load(place / "cloned").model
    assert model.embed.returns is None
    load_policy(place / "cloned").reset()


def test_without_episodes_no_simulator_is_needed(commands: Commands, place: Path) -> None:
    examples.trajectories([5, 9, 7], acted=examples.PUSH, environment="").save(place / "pushes.npz")
    words = (*SHAPE, "--data", place / "pushes.npz", "--eval-episodes", 0, "--model.head", "gaussian", "--steps", 3)
    trained(commands, *words, "--out", place / "unseen")
    assert [line["step"] for line in lines(place / "unseen") if math.isfinite(line["train/loss"])] == [1, 2, 3]
    assert load(place / "unseen").model.config.max_timestep == 9


def test_training_goes_on_from_a_run_with_its_statistics(commands: Commands, place: Path, whole: Path) -> None:
    other = examples.trajectories(
        [30, 40], observed=read_summary(whole).observation_space, environment="CartPole-v1", seed=1
    )
    other.save(place / "other.npz")
    words = ("cartpole", "--data", place / "other.npz", "--init-from", whole, "--model.context", 7, "--steps", 1)
    words += ("--eval-episodes", 1)
    trained(commands, *words, "--optimizer.kind", "adamw", "--optimizer.lr", 1e-9, "--out", place / "tuned")
    before, after = load(whole), load(place / "tuned")
    assert after.summary.normaliser == before.summary.normaliser
    assert after.summary.episodes != before.summary.episodes
    assert after.model.config.context == 7
    for name, tensor in before.model.state_dict().items():
        torch.testing.assert_close(after.model.state_dict()[name], tensor, rtol=0, atol=1e-6)


def test_training_goes_on_from_a_model_of_transformers(commands: Commands, place: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.DecisionTransformerConfig(state_dim=3, act_dim=2, hidden_size=16, max_ep_len=50, n_layer=1)
    theirs = transformers.DecisionTransformerModel(config)
    theirs.save_pretrained(place / "theirs")
    examples.trajectories([5, 9, 7], acted=examples.PUSH).save(place / "pushes.npz")
    words = ("cartpole", "--data", place / "pushes.npz", "--eval-episodes", 0, "--steps", 1, "--model.context", 4)
    start = ("--init-from", place / "theirs", "--optimizer.kind", "adamw", "--optimizer.lr", 1e-9)
    trained(commands, *words, *start, "--out", place / "imported")
    ours = load(place / "imported").model
    torch.testing.assert_close(ours.embed.observations.weight, theirs.embed_state.weight, rtol=0, atol=1e-6)
    assert ours.config.max_timestep == 50


# Bad input


@pytest.fixture(scope="module")
def files(place: Path, data: Path, whole: Path) -> dict[str, Path]:
    """Data sets, most of them with something wrong."""
    (place / "empty.npz").touch()
    (place / "cut.npz").write_bytes(data.read_bytes()[:3000])
    broken = examples.trajectories([3, 4, 5])
    broken.observations[8, 1] = np.nan
    broken.save(place / "nan.npz")
    examples.trajectories([5], environment="").save(place / "nowhere.npz")
    examples.trajectories([5]).save(place / "other.npz")
    return {name: place / f"{name}.npz" for name in ("empty", "cut", "nan", "nowhere", "other")} | {
        "data": data,
        "folder": place,
        "run": whole,
    }


BAD: dict[str, tuple[tuple[object, ...], str]] = {
    "no data": (("--data", ""), "--data: '' is empty, and names nothing"),
    "the data of a preset": (
        (),
        "to make it: python -m decision.collect --env CartPole-v1 --policy ppo --record replay",
    ),
    "data that is not there": (("--data", "void.npz"), "there is no data 'void.npz'"),
    "a folder": (("--data", "{folder}"), "is a folder; accepted are: a file that decision.collect wrote"),
    "an empty file": (("--data", "{empty}"), "empty.npz is empty"),
    "a cut file": (("--data", "{cut}"), "cut.npz is cut short or damaged"),
    "NaN": (("--data", "{nan}"), "observations: step 1 of episode 2 has nan"),
    "another environment": (
        ("--data", "{data}", "--env", "Pendulum-v1"),
        "observations of Pendulum-v1 are box (3,) of float32, not box (4,) of float32 as those of the data",
    ),
    "an unknown environment": (("--data", "{data}", "--env", "CartPol-v1"), "did you mean 'CartPole-v1'?"),
    "no environment": (("--data", "{nowhere}"), "nowhere.npz is unknown: name one with --env"),
    "a table that is too short": (
        ("--data", "{data}", "--model.max-timestep", 12),
        "the model's table of timesteps ends at 12",
    ),
    "a target that is no number": (("--data", "{data}", "--eval-targets", "much"), "much"),
    "a target that is not finite": (
        ("--data", "{data}", "--eval-targets", "nan"),
        "eval_targets = nan must be a finite",
    ),
    "a target without effect": (
        ("--data", "{data}", "--model.returns", "none", "--eval-targets", 5),
        "--eval-targets has no effect: ",
    ),
    "nothing of the best": (("--data", "{data}", "--top-percent", 0), "top_percent = 0.0 must be above 0"),
    "a head that does not fit": (("--data", "{data}", "--model.head", "gaussian"), "head = 'gaussian' does not fit"),
    "a shape that is brought": (("--data", "{data}", "--init-from", "x", "--model.head", "auto"), "brings its own"),
    "nothing to start from": (
        ("--data", "{data}", "--init-from", "void"),
        "init_from = 'void' is neither a run folder",
    ),
    "a start from another environment": (
        ("--data", "{other}", "--eval-episodes", 0, "--init-from", "{run}"),
        "whole are box (4,) of float32, not box (3,) of float32 as in",
    ),
    "evaluations that are not": (
        ("--data", "{data}", "--eval-episodes", 0, "--eval-every", 5),
        "--eval-every has no effect: eval_episodes = 0 evaluates nothing",
    ),
    "a model without timesteps": (
        ("--data", "{data}", "--model.timesteps", "position"),
        "core.position.kind = 'none'",
    ),
    "rounds that are not": (("--data", "{data}", "--online.episodes", 2), "--online.episodes has no effect: every = 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(
    commands: Commands, place: Path, files: dict[str, Path], case: str
) -> None:
    words, complaint = BAD[case]
    said = [str(word).format(**files) for word in words]
    life = commands.run("decision.train", "cartpole", *said, "--out", place / "never")
    assert life.process.exitcode == 2
    [line] = life.err
    assert complaint in line
    assert not (place / "never").exists()


def test_what_a_resumed_run_is_must_stay(commands: Commands, place: Path, data: Path) -> None:
    """Its preset may be named again, with what was changed of it."""
    words = (*TINY, "--data", data, "--model.context", 7, "--out", place / "kept")
    trained(commands, *words, "--steps", 1)
    trained(commands, *words, "--steps", 2, "--resume")
    for field, was, now in (("context", 7, 4), ("max_timestep", 500, 600), ("core.dim", 16, 32)):
        changed = ("--out", place / "kept", "--resume", "--steps", 3, f"--model.{field}", now)
        life = commands.run("decision.train", *changed)
        complaint = f"kept was trained with model.{field} = {was}, not {now}; keep it, or take another --out"
        assert (life.process.exitcode, complaint in life.err[-1]) == (2, True), life.err
    settings = ("--data", data, "--eval-episodes", 0, "--batch-size", 8, "--device", "cpu", "--precision", "fp32")
    words = ("cartpole", *settings, "--init-from", place / "kept", "--out", place / "tuned on")
    trained(commands, *words, "--steps", 1)
    trained(commands, *words, "--steps", 2, "--resume")
    life = commands.run("decision.train", *words, "--steps", 3, "--resume", "--model.context", 9)
    assert "was trained with model.context = 10, not 9" in life.err[-1]


def test_a_run_of_another_panel_is_refused(commands: Commands, place: Path, data: Path) -> None:
    (place / "text" / "checkpoints").mkdir(parents=True)
    (place / "text" / "config.json").write_text('{"format": 2, "config": {"tokenizer": "char"}}')
    complaint = "text is not a run folder of decision.train"
    for words in (("--out", place / "text", "--resume"), ("cartpole", "--data", data, "--init-from", place / "text")):
        life = commands.run("decision.train", *words)
        assert (life.process.exitcode, complaint in life.err[-1]) == (2, True), life.err
    for use in (load, lambda folder: parse_finetuning([str(folder)])):
        with pytest.raises(ValueError, match=complaint):
            use(place / "text")


def test_a_simulator_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, place: Path, files: dict[str, Path]
) -> None:
    monkeypatch.setitem(sys.modules, "Box2D", None)
    for loaded in [loaded for loaded in sys.modules if loaded.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, loaded)
    config = replace(PRESETS["cartpole"], data=str(files["other"]), env="LunarLander-v3", out=place / "never")
    with pytest.raises(ValueError, match=r'LunarLander-v3 needs a simulator .* pip install "triptych\[box2d\]"'):
        train(config)


def test_a_damaged_summary_is_named(place: Path, whole: Path) -> None:
    copy = shutil.copytree(whole, place / "damaged")
    record = json.loads((copy / "trajectories.json").read_text())
    for returns in ([], [math.nan] * 101):
        (copy / "trajectories.json").write_text(json.dumps(record | {"returns": returns}))
        with pytest.raises(ValueError, match=r"damaged/trajectories.json: returns = .* must be 101, all finite"):
            load(copy)
    (copy / "trajectories.json").write_text('{"environment": 3}')
    with pytest.raises(ValueError, match=r"damaged/trajectories.json: .*"):
        load(copy)
    (copy / "trajectories.json").unlink()
    with pytest.raises(ValueError, match="damaged is not a run folder of decision.train: it has no trajectories.json"):
        load(copy)

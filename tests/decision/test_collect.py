"""The command: joining data sets, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import pytest

from decision.data.sources import load_data
from decision.environments.settings import settings_of
from tests.decision.corridor import BROKEN, ID, MODULE
from tests.decision.examples import same, trajectories
from tests.processes import Command


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two files of data of one environment."""
    paths = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for seed, path in enumerate(paths):
        metadata: dict[str, Any] = {"environment": "CartPole-v1", "provenance": {"policy": f"number {seed}"}}
        metadata["settings"] = settings_of(gymnasium.spec("CartPole-v1"))
        trajectories([3, 4], seed=seed, **metadata).save(path)
    return paths


def test_data_sets_are_joined(two: list[Path], tmp_path: Path, command: Command) -> None:
    done = command("collect", "--join", *two, "--out", tmp_path / "both.npz")
    assert (done.code, done.err) == (0, [])
    assert done.out.startswith(f"{tmp_path / 'both.npz'}: 4 episodes, 14 steps of CartPole-v1; returns ")
    both = load_data(tmp_path / "both.npz")
    assert both.lengths().tolist() == [3, 4, 3, 4]
    assert [part["policy"] for part in both.provenance["joined"]] == ["number 0", "number 1"]


def test_data_goes_to_minari_and_back(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert command("collect", "--join", two[0], "--out", "minari:cartpole/few-v0").code == 0
    assert command("collect", "--join", "minari:cartpole/few-v0", "--out", tmp_path / "back.npz").code == 0
    assert same(load_data(two[0]), load_data(tmp_path / "back.npz"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--steps 5 --out {out}", "name an environment to record with --env, or data sets to join with --join"),
        ("--env CartPole-v1", "name the file to write with --out"),
        ("--env CartPool-v1 --out {out}", "there is no environment 'CartPool-v1'; did you mean 'CartPole-v1'?"),
        (
            "--env CartPole-v1 --policy nobody --out {out}",
            "policy = 'nobody' is not one of: random, ppo, sac, a2c, dqn, td3, module:",
        ),
        (
            "--env CartPole-v1 --policy no.module:act --out {out}",
            "policy = 'no.module:act' cannot be imported: ModuleNo",
        ),
        (f"--env {ID} --policy tests.decision.corridor:gone --out {{out}}", "cannot be imported: AttributeError: "),
        (
            f"--env {ID} --policy tests.decision.corridor:NOT_A_FUNCTION --out {{out}}",
            "is not a function of an observation",
        ),
        (
            f"--env {ID} --policy tests.decision.corridor:nowhere --out {{out}}",
            "returned 2, which is not an action of discrete",
        ),
        (
            f"--env {BROKEN} --out {{out}}",
            "Broken-v0 returned an observation that is not finite, at step 2 of the episode of seed ",
        ),
        (
            f"--env {MODULE}:Spoken-v0 --out {{out}}",
            "observations of Spoken-v0 are not handled: a space Text is neither a Box",
        ),
        (
            f"--env {MODULE}:Pair-v0 --out {{out}}",
            "actions of Pair-v0 are not handled: a space Dict is neither a Box nor",
        ),
        (
            f"--env {MODULE}:Steps-v0 --out {{out}}",
            "actions of box (1,) of int64 are not handled: boxes of floats, discre",
        ),
        (f"--env {MODULE}:Narrow-v0 --out {{out}}", "Narrow-v0 returned an observation of shape (1,)"),
        (
            "--env CartPole-v1 --level medium --out {out}",
            "--level has no effect: only ppo, sac, a2c, dqn, td3 are trained",
        ),
        (
            "--env CartPole-v1 --policy ppo --level high --out {out}",
            "level = 'high' is not one of: medium, expert, a nu",
        ),
        (
            "--env CartPole-v1 --policy ppo --record replay --steps 5 --out {out}",
            "--steps has no effect: a replay is as",
        ),
        (
            "--env CartPole-v1 --policy ppo --record replay --envs 12 --out {out}",
            "--envs has no effect: training has 8",
        ),
        (
            "--env CartPole-v1 --agent a.pt --out {out}",
            "--agent has no effect: only ppo, sac, a2c, dqn, td3 are trained",
        ),
        ("--env CartPole-v1 --statistics a.pkl --out {out}", "--statistics has no effect: only an agent.zip"),
        ("--env CartPole-v1 --max-steps 0 --out {out}", "max_steps = 0 must be above 0"),
        ("--env CartPole-v1 --policy ppo --agent a.zip --out {out}", "agent = 'a.zip' must end in .pt"),
        ("--env CartPole-v1 --out minari:x/y-v0", "out = 'minari:x/y-v0' needs --join: record to a file first, then"),
        ("--env CartPole-v1 --out {out}.hdf5", "out.npz.hdf5' would be read as a file of D4RL's: give it another end"),
        ("--join {two} --out {out}.H5", "out.npz.H5' would be read as a file of D4RL's: give it another ending"),
        ("--env CartPole-v1 --steps 0 --out {out}", "steps = 0 must be above 0"),
        ("--env CartPole-v1 --polizy random --out {out}", "unknown option --polizy; did you mean"),
        ("--join {two} --env CartPole-v1 --out {out}", "--env has no effect: --join records nothing"),
        ("--join {two} {other} --out {out}", "data set 2 is of 'Other-v0', the first of 'CartPole-v1'"),
        ("--join {two} nothing.npz --out {out}", "there is no data 'nothing.npz'; accepted are: "),
        ("--join {two} minari:nothing --out {out}", "minari:nothing has no version, as minari:NAME-v0 has"),
        ("--join {two} --out {two}", "one.npz exists already: remove it, or name another --out"),
        ("--join {two}", "name the file to write with --out"),
        ("--env CartPole-v1 --out {two}", "one.npz exists already: remove it, or name another --out"),
    ],
)
def test_bad_commands_are_one_line(
    arguments: str, sentence: str, two: list[Path], tmp_path: Path, command: Command
) -> None:
    trajectories([3], environment="Other-v0").save(tmp_path / "other.npz")
    places = {"out": tmp_path / "out.npz", "two": two[0], "other": tmp_path / "other.npz"}
    done = command("collect", *(word.format(**places) for word in arguments.split()))
    assert done.code == 2
    assert len(done.err) == 1
    assert done.err[0].startswith("error: ")
    assert sentence in done.err[0]
    assert {path.name for path in tmp_path.iterdir()} == {"one.npz", "two.npz", "other.npz"}

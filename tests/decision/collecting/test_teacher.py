"""PPO and SAC are trained to a level, and then recorded."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.cli.exits import Interrupted, RunFailure
from decision.collecting import record
from decision.collecting.config import CollectConfig
from decision.collecting.record import collect
from decision.collecting.recording import Recorder
from decision.collecting.teacher import Teacher
from tests.decision.collecting.interruptions import ctrl_c, failing_after, interrupted
from tests.decision.corridor import LIMIT, OPEN, SLOPE
from tests.decision.examples import same


def test_an_agent_is_trained_to_a_level_and_then_recorded(
    ppo: CollectConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = collect(replace(ppo, level="0.6"))
    assert not list(tmp_path.glob("SB3-*"))  # where the library would log
    assert "notice" not in capsys.readouterr().err
    assert data.provenance["trained_return"] >= 0.6
    assert 0 < data.provenance["trained_steps"] < 20_000
    assert data.returns().mean() > 0.25  # 0.61 +- 0.07 over seeds 0-7; at random -0.4
    assert data.observations[:, 0].tolist() == np.rint(data.observations[:, 0]).tolist()  # raw: places
    assert 200 <= data.steps < 208


def test_a_replay_is_all_that_training_saw(ppo: CollectConfig) -> None:
    data = collect(replace(ppo, record="replay"))
    trained = data.provenance["trained_steps"]
    assert trained - 8 * LIMIT <= data.steps <= trained  # what was unfinished at its end is left out
    assert data.returns()[:40].mean() < 0 < 0.3 <= data.returns()[-40:].mean()  # first -0.38 +- 0.05, seeds 0-7
    assert data.observations[:, 0].tolist() == np.rint(data.observations[:, 0]).tolist()


def test_one_training_makes_a_replay_and_the_rollouts_of_its_agent(ppo: CollectConfig, tmp_path: Path) -> None:
    short, agent = replace(ppo, level="expert", train_steps=2048), str(tmp_path / "agent.pt")
    replay = collect(replace(short, record="replay", agent=agent, out=f"{ppo.out}.replay"))
    rolled = collect(replace(short, policy=agent))
    assert same(rolled, collect(replace(short, out=f"{ppo.out}.whole")))
    assert rolled.provenance["agent"] == replay.provenance
    with pytest.raises(ValueError, match=r"agent.pt exists already: remove it, or name another --agent"):
        collect(replace(short, agent=agent, out=f"{ppo.out}.again"))
    with pytest.raises(ValueError, match=r"agent.pt is damaged"):
        collect(replace(short, policy=agent, env="CartPole-v1", out=f"{ppo.out}.other"))


@pytest.mark.parametrize("record", ["rollouts", "replay"])
def test_interrupted_training_begins_anew(ppo: CollectConfig, monkeypatch: pytest.MonkeyPatch, record: Any) -> None:
    config = replace(ppo, record=record, level="expert", train_steps=1024)
    whole = collect(replace(config, out=f"{config.out}.whole"))
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "step", failing_after(1200, ctrl_c))  # those that measure a random policy included
        with pytest.raises(Interrupted, match="^interrupted; the same command begins the training of ppo anew$"):
            collect(config)
    assert not Path(f"{config.out}.part").exists()
    assert same(collect(config), whole)


def test_a_recording_is_continued_with_the_agent_that_was_trained(
    ppo: CollectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(ppo, level="expert", train_steps=1024)
    whole = collect(replace(config, out=f"{config.out}.whole"))
    with monkeypatch.context() as patch:
        patch.setattr(record, "record_steps", interrupted)
        with pytest.raises(Interrupted, match="^interrupted; 0 steps are kept in .*, and the same command continues$"):
            collect(config)
    monkeypatch.setattr(Teacher, "train", None)
    continued = collect(config)
    assert same(continued, whole)
    assert continued.provenance["trained_return"] == whole.provenance["trained_return"]


def test_a_level_that_is_not_reached_is_a_failure_with_a_way_out(
    ppo: CollectConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(ppo, level="0.9", train_steps=2048)  # more than can be reached
    with pytest.raises(RunFailure, match=r"^ppo reached a return of .* in 2,048 steps .*, not 0.9: .* --train-steps"):
        collect(config)
    assert not Path(f"{config.out}.part").exists()
    expert = collect(replace(config, level="expert", train_steps=256, out=f"{config.out}.expert"))
    assert expert.provenance["trained_steps"] == 256  # as good as it is
    assert "in 256 steps of training, not 0.65: this is taken for the expert\n" in capsys.readouterr().err


def test_an_expert_without_a_score_is_one_of_its_own(ppo: CollectConfig, capsys: pytest.CaptureFixture[str]) -> None:
    data = collect(replace(ppo, env=OPEN, level="expert", train_steps=4096))
    assert "that of an expert is unknown: this is taken for the expert\n" in capsys.readouterr().err
    assert data.reference is not None
    assert data.reference[1] == pytest.approx(data.returns().mean(), abs=0.05)
    with pytest.raises(ValueError, match=f"expert in {OPEN} is unknown: give --level as a number"):
        collect(replace(ppo, env=OPEN, level="medium", out=f"{ppo.out}.medium"))


def test_medium_is_a_third_of_the_way(ppo: CollectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    goals = []
    monkeypatch.setattr(Teacher, "train", lambda self: goals.append(self.goal))
    for level in ("medium", "expert"):
        data = collect(replace(ppo, level=level, out=f"{ppo.out}.{level}"))
    assert data.reference is not None
    random, expert = data.reference
    assert goals == pytest.approx([random + (expert - random) / 3, expert])


def test_sac_acts_in_continuous_spaces(ppo: CollectConfig) -> None:
    data = collect(replace(ppo, env=SLOPE, policy="sac", level="expert", train_steps=120, steps=50))
    assert data.provenance["trained_steps"] == 120
    assert data.actions.min() >= -1
    assert data.actions.max() <= 1

"""The rollout command: its options, targets, table, picture and films."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.cli.arguments import parse_fields
from decision.config import TrainConfig
from decision.data.summary import Summary
from decision.reports.options import choose_targets
from decision.rollout import RolloutConfig, report
from decision.trained import Trained
from tests.decision.painted import PAINTED, Painted
from tests.decision.toys import agent, agent_for


def trained_for(environment: str, **changes) -> Trained:
    """A model for an environment whose data returns 0 to 9."""
    model, normaliser = agent_for(environment, **changes)
    summary = Summary(
        environment, *model.config.spaces(), normaliser, None, 1, 1, 9, tuple(np.linspace(0, 9, 101).tolist())
    )
    return Trained(model, TrainConfig(steps=1), 1, torch.device("cpu"), summary)


def test_targets_come_from_the_data_each_once_with_its_names():
    trained, cloned = trained_for(PAINTED), trained_for(PAINTED, returns="none")
    returns = (0.0,) * 80 + (500.0,) * 21
    skewed = replace(trained, summary=replace(trained.summary, returns=returns))
    assert choose_targets(RolloutConfig(), skewed) == {0.0: "median", 500.0: "90 %, max", 600.0: "max + 20 %"}
    assert choose_targets(RolloutConfig(target_return=(3.0, 4.0)), trained) == {3.0: "", 4.0: ""}
    assert choose_targets(RolloutConfig(), cloned) == {}
    with pytest.raises(ValueError, match="--target-return has no effect"):
        choose_targets(RolloutConfig(target_return=(3.0,)), cloned)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--target-return", "3", "much"], "much"),
        (["--target-return", "3", "nan"], "target_return = nan must be a finite number"),
        (["--episodes", "0"], "episodes = 0 must be above 0"),
        (["--temperature", "-1"], "temperature = -1.0 must be at least 0"),
        (["--video-format", "gif"], "--video-format has no effect: --video names no folder"),
        (["--target", "3"], "did you mean"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(words, complaint):
    with pytest.raises(ValueError, match=r".") as refused:
        parse_fields(RolloutConfig(), words)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_several_targets_are_given_at_once():
    options = parse_fields(RolloutConfig(), ["--target-return", "-3.5", "400", "--episodes", "2"])
    assert options.target_return == (-3.5, 400.0)


def test_a_report_has_a_table_a_picture_and_films(tmp_path, capsys):
    options = RolloutConfig(target_return=(0.91, 0.94), episodes=3, video=tmp_path / "films")
    numbers = report(trained_for(PAINTED), options, tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert "the data: 1 episodes; median 4.5, 90 % 8.1, max 9" in said
    assert [path.name for path in sorted((tmp_path / "films").iterdir())] == ["target-0.91.gif", "target-0.94.gif"]
    films = [numbers[f"target_{n}"]["film"] for n in (0.91, 0.94)]
    assert films == [str(tmp_path / "films" / f"target-{n}.gif") for n in (0.91, 0.94)]
    episodes = json.loads((tmp_path / "rollout.json").read_text())
    assert episodes["target_0.91"]["returns"][0] == numbers["target_0.91"]["film_return"]
    with Image.open(numbers["picture"]) as picture:
        assert picture.size[0] > 600
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert [line for line in said if line.endswith((".png", ".gif"))] == [numbers["picture"], *films]


@pytest.mark.parametrize(("out", "video"), [(".", "film.gif/films"), (".", "film.gif"), ("/proc", "films")])
def test_a_place_that_cannot_be_written_is_found_before_the_first_step(out, video, tmp_path, monkeypatch):
    (tmp_path / "film.gif").touch()
    monkeypatch.setattr(Painted, "step", None)
    options = RolloutConfig(video=tmp_path / video, out=tmp_path / out)
    with pytest.raises(ValueError, match="nothing can be written to "):
        report(trained_for(PAINTED), options, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


def test_a_run_that_is_read_only_acts_and_says_that_nothing_is_kept(tmp_path, capsys):
    trained, options = trained_for(PAINTED), RolloutConfig(target_return=(1.0,), episodes=1)
    numbers = report(trained, options, Path("/proc"))
    said = capsys.readouterr()
    assert "nothing can be written to /proc" in said.err
    assert "--out" in said.err
    assert "picture" not in numbers
    assert "asked for 1" in said.out
    report(trained, replace(options, out=tmp_path / "kept"), Path("/proc"))
    assert capsys.readouterr().err == ""
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["rollout.json", "rollout.png"]


def test_results_are_written_before_they_are_printed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    with pytest.raises(UnicodeEncodeError):
        report(
            trained_for(PAINTED), RolloutConfig(target_return=(1.0,), episodes=2, video=tmp_path / "films"), tmp_path
        )
    assert json.loads((tmp_path / "rollout.json").read_text()).keys() == {"target_1"}
    assert (tmp_path / "films" / "target-1.gif").exists()


def test_names_differ_where_targets_differ(tmp_path):
    options = RolloutConfig(target_return=(2.0, 2.00000001, 2.000000000000001), episodes=1, video=tmp_path)
    numbers = report(trained_for(PAINTED), options, tmp_path)
    assert len(list(tmp_path.glob("target-*.gif"))) == 3
    assert len([part for part in numbers if part.startswith("target_")]) == 3


def test_an_environment_of_which_there_may_be_one_only_is_filmed(tmp_path, monkeypatch):
    trained, alive = trained_for(PAINTED), []
    monkeypatch.setattr(Painted, "__init__", lambda self, render_mode=None: alive.append(self))
    monkeypatch.setattr(Painted, "render_mode", "rgb_array")
    monkeypatch.setattr(Painted, "close", lambda self: alive.remove(self))
    monkeypatch.setattr(Painted, "step", lambda self, action, step=Painted.step: alive[1:] or step(self, action))
    report(trained, RolloutConfig(target_return=(1.0, 2.0), episodes=2, envs=1, video=tmp_path), tmp_path)
    assert not alive


def test_the_environment_that_is_filmed_is_closed_when_acting_fails(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(Painted, "close", lambda self: closed.append(self.render_mode))
    trained = trained_for(PAINTED, timesteps="embedded", max_timestep=5, core=agent().config.core)
    with pytest.raises(ValueError, match="episodes of Painted-v0 last up to 9 steps"):
        report(trained, RolloutConfig(video=tmp_path / "films"), tmp_path)
    assert "rgb_array" in closed

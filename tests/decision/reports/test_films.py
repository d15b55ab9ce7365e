"""Films: which steps they show, of which environments, and what they need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from PIL import Image

from decision.acting.episodes import play
from decision.acting.policy import ModelPolicy
from decision.environments.make import make
from decision.reports.films import Filmed, check_format, make_filmed, write_film
from tests.decision import corridor
from tests.decision.painted import PAINTED
from tests.decision.toys import agent_for


def test_a_film_shows_the_first_the_last_and_the_steps_between_at_a_fair_pace(tmp_path):
    environment = make_filmed(PAINTED)
    model, normaliser = agent_for(PAINTED)
    seed = next(s for s in range(99) if make(PAINTED).reset(seed=s)[0][1] == 7)
    play([environment], [seed], ModelPolicy(model, normaliser, [3.0]))
    assert [int(frame[0, 0, 0]) for frame in environment.frames] == [0, 20, 40, 60, 70]  # 50 steps a second, halved
    write_film(environment.frames, environment.fps, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.size, film.info["duration"]) == (5, (30, 20), 40)


RUNNING_AWAY = """
import numpy
from decision.reports.films import make_filmed
film = make_filmed("Hopper-v5")
film.reset(seed=0)
film.unwrapped.data.qpos[0] += 20.0  # metres
for _ in range(film.stride):
    film.step(numpy.zeros(3, numpy.float32))
before, after = (frame.astype(int) for frame in film.frames)
print(*((frame[..., 0] - frame[..., 2] > 30).sum() for frame in (before, after)))
"""
"""Prints how many pixels of two frames are orange: the robot's, in front of a floor and a sky that are none."""


def test_a_robot_that_runs_away_is_followed():
    """In a process of its own, since OpenGL and a compiler may bring the same library in two versions."""
    pytest.importorskip("mujoco")
    done = subprocess.run([sys.executable, "-c", RUNNING_AWAY], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be rendered here: {done.stderr.strip().splitlines()[-1:]}")
    assert min(map(int, done.stdout.split())) > 1000


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a screen")
def test_films_without_a_screen_are_made_in_silence():
    words = "from decision.reports.films import make_filmed; make_filmed('CartPole-v1').reset(seed=0)"
    bare = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "XDG_RUNTIME_DIR")}
    done = subprocess.run([sys.executable, "-c", words], env=bare, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_films_that_cannot_be_made_are_refused_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ValueError, match="pictures of CartPole-v1 need a package: pip install .*classic-control"):
        make_filmed("CartPole-v1").reset(seed=0)
    with pytest.raises(ValueError, match="CartPole-v1 has no pictures to film"):
        Filmed(make("CartPole-v1")).reset(seed=0)
    with pytest.raises(ValueError, match="Corridor-v0 has no pictures to film: NotImplementedError"):
        make_filmed(corridor.ID).reset(seed=0)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match="video_format = 'mp4' needs a package: pip install imageio-ffmpeg"):
        check_format("mp4")

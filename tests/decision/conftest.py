"""Data of a real environment, and the commands as a user calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.cli.exits import main
from decision.collect import collect_or_join
from decision.collecting.config import CollectConfig
from decision.collecting.record import collect
from decision.data.store import Trajectories
from decision.evaluate import evaluate_run
from decision.export import export
from decision.rollout import rollout
from tests.processes import Command, Commands, Outcome

COMMANDS: dict[str, Callable[[list[str]], object]] = {
    "collect": collect_or_join,
    "evaluate": evaluate_run,
    "export": export,
    "rollout": rollout,
}


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process: (name, *arguments) -> what became of it."""

    def run(name: str, *arguments: object) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main(lambda: COMMANDS[name]([*map(str, arguments)]))
        out, err = capfd.readouterr()
        return Outcome(int(str(end.value.code)), out, err.splitlines())

    return run


@pytest.fixture(scope="session")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Trajectories:
    """1,000 steps of a random policy in CartPole."""
    out = tmp_path_factory.mktemp("cartpole") / "random.npz"
    return collect(CollectConfig(env="CartPole-v1", steps=1000, out=str(out)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the runs of a module."""
    return tmp_path_factory.mktemp("decision")


@pytest.fixture(scope="module")
def commands(place: Path) -> Commands:
    return Commands(place)


@pytest.fixture(scope="module")
def data(place: Path, cartpole: Trajectories) -> Path:
    """The file of `cartpole`."""
    cartpole.save(place / "random.npz")
    return place / "random.npz"

"""A small text, a small run on it, and the commands as a user calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.cli.exits import main
from core.training.command import parse
from tests.processes import Command, Outcome
from tests.text.processes import TINY, prose
from text.chat import chat
from text.classify import classify
from text.embed import embed
from text.evaluate import evaluate_run
from text.export import export
from text.fill import fill
from text.presets import PRESETS
from text.sample import sample
from text.tag import tag
from text.tasks.configs import CONFIGS
from text.train import train
from text.trained import Trained, load
from text.translate import translate

COMMANDS: dict[str, Callable[[list[str]], object]] = {
    "train": lambda argv: train(parse(CONFIGS, PRESETS, argv)),
    "evaluate": evaluate_run,
    "sample": sample,
    "chat": chat,
    "export": export,
    "classify": classify,
    "tag": tag,
    "fill": fill,
    "embed": embed,
    "translate": translate,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a text in it, `text.txt`, and beneath it the data cache."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "text.txt").write_text(prose(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_DATA", str(folder / "data"))
        yield folder


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


@pytest.fixture(scope="module")
def run_folder(place: Path) -> Path:
    """A run of 40 steps, evaluated and saved at 15, 30 and 40 too.

    Its held-out text is its text backwards, so that learning longer does it no good: the best is not the last.
    """
    text, out = place / "both ways.txt", place / "run"
    text.write_text(prose(360) + prose(40)[::-1], encoding="utf-8")
    words = (*TINY, "--data", str(text), "--out", str(out), "--steps", "40", "--eval-every", "15", "--save-every", "15")
    words += ("--keep", "3", "--optimizer.lr", "1e-2", "--model.core.dropout", "0.1", "--sample", "12")
    train(parse(CONFIGS, PRESETS, words))
    return out


@pytest.fixture(scope="module")
def trained(run_folder: Path) -> Trained:
    return load(run_folder)

"""The demo runs the real commands, starts over cleanly, and says what it took where the data cannot be loaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.demo.page import main
from benchmarks.demo.vision import ERRORS
from benchmarks.measure.record import ROOT
from core.training.metrics import read_metrics


def demo(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRIPTYCH_DATA": str(folder / "data"), **environment}
    command = [sys.executable, "-m", "benchmarks.demo", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with data that cannot be used, and what an earlier demo and somebody else left."""
    for name in ("shakespeare/input.txt", "cifar10/cifar-10-batches-py/data_batch_1"):
        damaged = tmp_path / "data" / name
        damaged.parent.mkdir(parents=True)
        damaged.write_text("To be, or")
    for name in ("runs/demo/text/config.json", "runs/demo/text/metrics.jsonl", "runs/own/config.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.slow
def test_the_demo_trains_shows_and_says_what_it_reached(bare: Path) -> None:
    done = demo(bare, "--minutes", "0.02")
    assert done.returncode == 0, done.stderr
    page = (bare / "runs" / "demo" / "report.html").read_text()
    loss = read_metrics(bare / "runs" / "demo" / "text")[-1]["val/loss"]
    assert "taking pydoc" in done.stdout
    assert "tiny Shakespeare could not be loaded" in page
    assert f"{loss:.3f}" in page
    assert re.search(rf"{loss:.3f} +validation loss", done.stdout)
    assert done.stdout.rstrip().endswith(
        "report: runs/demo/report.html\nthe models, to look into: runs/demo/explorer.html"
    )
    explorer = (bare / "runs" / "demo" / "explorer.html").read_text()
    assert "<title>" in explorer
    assert len(explorer.encode()) < 2e6
    assert len(re.findall(r"<blockquote", page)) == 2
    assert 'class="prompt">The <' in page
    assert "Drawn by the same blocks" in page
    assert (bare / "runs" / "own" / "config.json").read_text() == "{}"
    assert "taking digits" in done.stdout
    assert "CIFAR-10 could not be loaded" in page
    evaluation = json.loads((bare / "runs" / "demo" / "vision" / "evaluation" / "figures.json").read_text())
    assert re.search(rf"{evaluation['test/accuracy']:.1%} +test images classified correctly", done.stdout)
    assert len(re.findall(r"<td[^>]*--shade", page)) == 100, "the confusion matrix"
    assert page.count("data:image/png") == 1 + ERRORS + 1 + 1, "attention, errors, digits drawn, returns"
    assert len(list((bare / "runs" / "demo" / "vision" / "examples").glob("*.png"))) == 5
    reached = read_metrics(bare / "runs" / "demo" / "decision" / "run")[-1]
    assert "val/return_500" in reached
    assert re.search(r"\d+  return reached when asked for 500", done.stdout)
    assert len(re.findall(r"data:image/gif[^>]*CartPole, a return of (100|200|500) being", page)) == 3


def test_a_failure_names_the_command_and_leaves_the_older_report(bare: Path) -> None:
    report = bare / "runs" / "demo" / "report.html"
    report.write_text("an older page")
    done = demo(bare, "--minutes", "-1")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: python -m text.train char-cpu --data pydoc")
    assert report.read_text() == "an older page"


def test_help_explains_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "--minutes" in capsys.readouterr().out

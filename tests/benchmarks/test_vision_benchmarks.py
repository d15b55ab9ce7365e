"""The vision benchmarks run in small, their sides do the same work, and their arithmetic is right."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import harness, vision_vs_peers
from benchmarks.harness import Comparison, Contestant
from benchmarks.vision_peers import PACKAGES, installed, peer_model, timm_model
from core.weights import import_weights
from vision.models import ViT
from vision.timm_layout import from_timm

TINY = vision_vs_peers.SHAPES["tiny"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contestants run in this process, one after the other, which saves starting one for each."""

    def run_here(side: Contestant, *, seed: int, threads: int, timeout: float | None = None) -> Mapping[str, float]:
        return harness._work(side.function, {**side.arguments, "seed": seed})

    monkeypatch.setattr(harness, "run_once", run_here)


# ---------------------------------------------------------------------------------------------- against peers


def test_timms_model_and_ours_are_one_model() -> None:
    theirs, ours = timm_model(TINY).eval(), ViT(TINY).eval()
    shape, table = from_timm(theirs)
    assert shape == replace(TINY, core=replace(TINY.core, hidden=128))
    import_weights(ours, theirs.state_dict(), table)
    images, _ = vision_vs_peers.random_batch(3, 0)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("peer", installed())
def test_a_peer_multiplies_as_many_matrices_as_ours(peer: str) -> None:
    sizes = []
    for model in (peer_model(peer, TINY), ViT(TINY)):
        inside = [p for name, p in model.named_parameters() if p.ndim >= 2 and "pos" not in name and "cls" not in name]
        sizes.append(sum(p.numel() for p in inside))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("side", ["ours", *installed()])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_reports_consistent_figures_and_starts_near_chance(side: str, precision: str) -> None:
    found = vision_vs_peers.train_step(0, side, "tiny", 4, "off", precision, steps=2)
    assert found["images_per_core_second"] * found["step_core_seconds"] == pytest.approx(4)
    assert found["images_per_second"] * found["step_seconds"] == pytest.approx(4)
    assert found["first_loss"] == pytest.approx(math.log(10), abs=0.7)
    assert found["steps"] == 2


def test_the_step_of_a_run_starts_at_the_loss_of_the_bare_one() -> None:
    work = {"shape": "tiny", "batch": 4, "compiled": "off", "precision": "fp32", "steps": 1}
    bare, whole = vision_vs_peers.train_step(0, "ours", **work), vision_vs_peers.train_step_in_run(0, **work)
    assert whole["first_loss"] == pytest.approx(bare["first_loss"], abs=1e-5)


def test_a_step_learns() -> None:
    learner = vision_vs_peers.Learner(vision_vs_peers.build("ours", "tiny", 0), "off", "fp32")
    batch = vision_vs_peers.random_batch(16, 0)
    losses = [learner.step(*batch).item() for _ in range(20)]
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("side", ["ours", "torchvision"])
def test_an_epoch_brings_varied_and_normalised_images(data_root: Path, side: str) -> None:
    make = vision_vs_peers.our_batches if side == "ours" else vision_vs_peers.their_batches
    workers = [] if side == "ours" else [0]
    epochs = make(256, 64, *workers, 0)
    first, second = list(epochs(0)), list(epochs(1))
    images, labels = (torch.cat(parts) for parts in zip(*first, strict=True))
    again, labels_again = (torch.cat(parts) for parts in zip(*second, strict=True))
    assert images.shape == (256, 3, 32, 32)
    assert images.dtype == torch.float32
    assert labels.bincount().tolist() == labels_again.bincount().tolist(), "every image once, on both occasions"
    assert not torch.equal(images, again)
    assert images.mean().abs() < 0.5
    assert 0.7 < images.std() < 1.4


@pytest.mark.parametrize(("side", "workers"), [("ours", 0), ("torchvision", 2)])
def test_an_epoch_counts_its_images_and_its_workers(data_root: Path, side: str, workers: int) -> None:
    found = vision_vs_peers.epoch(0, side, 192, 64, "none", workers)
    assert found["images"] == 192
    assert 0 < found["images_per_core_second"] < 1e6


def test_the_fastest_peer_is_what_others_are_divided_by() -> None:
    rates = {"ours": 30.0, "slow": 10.0, "fast": 15.0}
    sides = tuple(Contestant(name, "m:f") for name in ("ours", "fast", "slow"))
    rounds = {name: [{"images_per_core_second": rate}] for name, rate in rates.items()}
    found = vision_vs_peers.against_fastest(Comparison("x", sides, rounds, (0,), 1, {}), ["fast", "slow"])
    assert [side.name for side in found.contestants] == ["ours", "slow", "fast"]
    assert found.as_dict()["ratio to fast"]["ours"]["images_per_core_second"]["median"] == 2
    assert vision_vs_peers.against_fastest(found, []) is found


def test_an_absent_peer_is_left_out_with_a_notice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PACKAGES, "vit-pytorch", "no_such_module")
    assert vision_vs_peers.present(["timm", "vit-pytorch"]) == ["timm"]
    assert "notice: vit-pytorch is not installed" in capsys.readouterr().err


def test_the_comparisons_run_in_small(data_root: Path, tmp_path: Path, here: None) -> None:
    words = ["--tiny", "--rounds", "1", "--steps", "1", "--batch", "16", "--images", "64", "--workers", "0"]
    vision_vs_peers.run(vision_vs_peers.parse([*words, "--ways", "eager-fp32", "--results", str(tmp_path)]))
    found = json.loads((tmp_path / "vision_vs_peers.json").read_text())
    assert set(found) == {"step eager-fp32", "epoch, data alone", "epoch, with a training step"}
    assert {"ours", "ours, modern", "ours in vision.train", *installed()} == set(found["step eager-fp32"]["medians"])
    assert "images_per_second" in found["epoch, data alone"]["ratio to torchvision, 0 workers"]["ours"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--parts", "step,sleep"], "parts = 'sleep' is not one of: step, epoch"),
        (["--peers", "keras"], "peers = 'keras' is not one of: timm, vit-pytorch"),
        (["--ways", "eager"], "ways = 'eager' is not one of: eager-fp32"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        vision_vs_peers.parse(words)

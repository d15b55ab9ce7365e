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

from benchmarks import vision_cifar_cpu, vision_vs_peers
from benchmarks.gpu import command
from benchmarks.gpu import vision as gpu_vision
from benchmarks.gpu.plan import plan
from benchmarks.measure import harness
from benchmarks.measure.harness import Comparison, Contestant
from benchmarks.peers import timm_training as vision_timm
from benchmarks.peers.vision import PACKAGES, installed, peer_model, timm_model
from benchmarks.steps import vision as vision_step
from benchmarks.steps import vision_epoch
from core.files.weights import import_weights
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.presets import modern_core
from vision.pretrained.timm_layout import from_timm

TINY = vision_step.SHAPES["tiny"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contestants run in this process, one after the other, which saves starting one for each."""

    def run_here(side: Contestant, *, seed: int, threads: int, timeout: float | None = None) -> Mapping[str, float]:
        return harness.work(side.function, {**side.arguments, "seed": seed})

    monkeypatch.setattr(harness, "run_once", run_here)


# ---------------------------------------------------------------------------------------------- against peers


def test_timms_model_and_ours_are_one_model() -> None:
    theirs, ours = timm_model(TINY).eval(), ViT(TINY).eval()
    shape, table = from_timm(theirs)
    assert shape == replace(TINY, core=replace(TINY.core, ffn_dim=128))
    import_weights(ours, theirs.state_dict(), table)
    images, _ = vision_step.random_batch(3, 0)
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
    found = vision_step.train_step(0, side, "tiny", 4, "off", precision, steps=2)
    assert found["images_per_core_second"] * found["step_core_seconds"] == pytest.approx(4)
    assert found["images_per_second"] * found["step_seconds"] == pytest.approx(4)
    assert found["first_loss"] == pytest.approx(math.log(10), abs=0.7)
    assert found["steps"] == 2


def test_the_step_of_a_run_starts_at_the_loss_of_the_bare_one() -> None:
    work = {"shape": "tiny", "batch": 4, "compiled": "off", "precision": "fp32", "steps": 1}
    bare, whole = vision_step.train_step(0, "ours", **work), vision_step.train_step_in_run(0, **work)
    assert whole["first_loss"] == pytest.approx(bare["first_loss"], abs=1e-5)


def test_a_step_learns() -> None:
    learner = vision_step.Learner(vision_step.build("ours", "tiny", 0), "off", "fp32")
    batch = vision_step.random_batch(16, 0)
    losses = [learner.step(*batch).item() for _ in range(20)]
    assert losses[-1] < losses[0] - 0.1  # 0.17 +- 0.012 over seeds 0-4


@pytest.mark.parametrize("side", ["ours", "torchvision"])
def test_an_epoch_brings_varied_and_normalised_images(data_root: Path, side: str) -> None:
    make = vision_epoch.our_batches if side == "ours" else vision_epoch.their_batches
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
    found = vision_epoch.epoch(0, side, 192, 64, "none", workers)
    assert found["images"] == 192
    assert 0 < found["images_per_core_second"] < 1e6


def test_the_fastest_peer_is_what_others_are_divided_by() -> None:
    rates = {"ours": (30.0, 30.0), "thrifty": (15.0, 15.0), "parallel": (10.0, 20.0)}
    sides = tuple(Contestant(name, "m:f") for name in rates)
    rounds = {name: [{vision_vs_peers.CORE: core, vision_vs_peers.WALL: wall}] for name, (core, wall) in rates.items()}
    measured, peers = Comparison("x", sides, rounds, (0,), 1, {}), ["thrifty", "parallel"]
    for metric, fastest, ratio in ((vision_vs_peers.CORE, "thrifty", 2), (vision_vs_peers.WALL, "parallel", 1.5)):
        found = vision_vs_peers.against_fastest(measured, peers, metric)
        assert [side.name for side in found.contestants][::2] == ["ours", fastest]
        assert found.as_dict()[f"ratio to {fastest}"]["ours"][metric]["median"] == ratio
    assert vision_vs_peers.against_fastest(measured, [], metric) is measured


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
    assert set(found["step eager-fp32"]["peer_versions"]) == set(installed())
    assert {"ours", "ours, modern", "ours in vision.train", *installed()} == set(found["step eager-fp32"]["measured"])
    assert "images_per_second" in found["epoch, data alone"]["ratio to torchvision, 0 workers"]["ours"]


# ---------------------------------------------------------------------------------------------- on a CPU


@pytest.mark.parametrize("part", ["validation", "test"])
def test_timms_model_is_trained_on_digits_and_meets_the_test_images_only_at_the_end(
    part: vision_timm.Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors: list[tuple[str, object]] = []
    train_door, test_door = vision_timm.load_data, vision_timm.load_test
    monkeypatch.setattr(
        vision_timm, "load_data", lambda *a, **k: doors.append(("train", k["validation"])) or train_door(*a, **k)
    )
    monkeypatch.setattr(vision_timm, "load_test", lambda *a: doors.append(("test", None)) or test_door(*a))
    monkeypatch.setattr(vision_timm.time, "monotonic", iter(range(10**6)).__next__)  # a second for each step
    way = {"precision": "fp32", "attention": "fused"}
    found = vision_timm.train(0, "vit-digits", "digits", minutes=1.1, part=part, lr=3e-3, **way)
    assert doors == ([("train", None)] if part == "validation" else [("train", 0), ("test", None)])
    assert 0 < found["accuracy"] < 1  # 0.22 +- 0.03 over seeds 0-4: too few steps to tell learning from chance
    assert found["steps"] == 65
    curve = {name: value for name, value in found.items() if name.startswith("accuracy,")}
    assert list(curve) == (["accuracy, 60 s"] if part == "validation" else [])


@pytest.mark.parametrize("attention", ["fused", "explicit"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_peers_speed_is_measured_in_every_arithmetic(precision: str, attention: vision_timm.Attention) -> None:
    found = vision_timm.speed(0, "vit-digits", "digits", precision, attention, steps=1)
    assert found["images_per_core_second"] * found["step_core_seconds"] == pytest.approx(128)


def test_timms_model_learns_a_batch_by_heart() -> None:
    peer, (images, labels) = vision_timm.Peer(TINY, 3e-3, "fp32", "fused"), vision_step.random_batch(16, 0)
    for _ in range(60):
        peer.learn(images, labels, 0.1)
    assert peer.model(images).argmax(1).eq(labels).sum() >= 10  # 16 +- 0 over seeds 0-4; one class for all has 4


def test_weights_decay_and_vectors_do_not() -> None:
    peer = vision_timm.Peer(TINY, 1e-3, "fp32", "fused")
    decay = {group["weight_decay"]: group["params"] for group in peer.optimizer.param_groups}
    assert {parameter.ndim for parameter in decay[0.0]} == {1, 3}, "the table of positions is spared as well"
    assert min(parameter.ndim for parameter in decay[0.05]) == 2


def test_the_rate_that_is_best_on_held_out_images_meets_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, float]] = []

    def answer(side: Contestant, *, seed: int, threads: int, timeout: float | None = None) -> dict[str, float]:
        work = side.arguments
        if "part" not in work:
            fast = (work["precision"], work["attention"]) == ("bf16", "explicit")
            return {"images_per_core_second": 2.0 if fast else 1.0, "wall_seconds": 1.0, "core_seconds": 1.0}
        asked.append((side.name, work["part"], work["minutes"]))
        assert side.name == "ours" or (work["precision"], work["attention"]) == ("bf16", "explicit")
        best = work.get("lr") == 1e-3
        return {"accuracy": 0.7 if best else 0.6, "wall_seconds": 1.0, "core_seconds": 1.0}

    monkeypatch.setattr(harness, "run_once", answer)
    found = [each.name for each in vision_cifar_cpu.comparisons(vision_cifar_cpu.parse(["--minutes", "2"]))]
    assert found == ["arithmetic for timm", "validation", "test"]
    rates = [f"timm, AdamW {lr:g}" for lr in vision_cifar_cpu.RATES]
    assert asked == [
        *((name, "validation", 2) for name in ("ours", *rates)),
        *((name, "test", 2) for name in ("ours", "timm, AdamW 0.001")),
    ]


@pytest.mark.slow
def test_our_run_is_trained_and_judged_by_its_commands() -> None:
    options = ["--eval-every", "5"]
    held_out = vision_cifar_cpu.train(0, "vit-digits", "digits", 0.05, "validation", options=options)
    assert any(name.startswith("accuracy, ") for name in held_out)
    assert 0 < held_out["accuracy"] <= 1
    assert held_out["loop_seconds"] < held_out["train_seconds"]


def test_the_accuracies_on_the_way_go_by_their_time() -> None:
    records = [{"seconds": 1.0, "train/loss": 2.0}, {"seconds": 61.4, "val/accuracy": 0.3}]
    assert vision_cifar_cpu.accuracies(records) == {"accuracy, 61 s": 0.3}


# ---------------------------------------------------------------------------------------------- on a GPU


def test_the_flops_of_an_image_agree_with_the_sum_by_hand() -> None:
    shape = ViTConfig(channels=3, classes=10, patch=4, core=modern_core(384, 8, 6))
    products = 64 * (48 * 384 + 8 * 12 * 384**2) + 384 * 10  # patches, blocks and head
    attention = 8 * 2 * 64**2 * 384
    assert gpu_vision.flops_per_image(shape) == 6 * (products + attention)
    assert 50_000 * gpu_vision.flops_per_image(shape) == pytest.approx(280e12, rel=0.01)


def test_a_gpu_step_in_small_reports_consistent_figures() -> None:
    found = gpu_vision.measure_step(0, "vit-cifar-best", "tiny", "cpu", "off")
    rate = found["images_per_second"]
    assert rate * found["step_seconds"] == pytest.approx(8)
    assert found["tflops"] == pytest.approx(gpu_vision.flops_per_image(gpu_vision.TINY) * rate / 1e12)
    assert all(found[f"{phase}images_per_second"] > 0 for phase in ("half_size_", "with_data_"))
    assert "half_size_images_per_second" not in gpu_vision.measure_step(0, "cct-7-3x1", "tiny", "cpu", "off")
    assert (found["steps"], found["compiled"], found["batch"]) == (2, 0, 8)


def test_images_differ_from_step_to_step_and_are_shaped_for_the_model() -> None:
    batches = gpu_vision.varied(gpu_vision.configuration("vit-cifar-cpu", "tiny"), 64, torch.device("cpu"))
    (first, labels), (second, _) = next(batches), next(batches)
    assert first.shape == (8, 3, 32, 32)
    assert labels.shape == (8,)
    assert not torch.equal(first, second)


def test_a_seed_is_trained_only_while_its_minutes_are_left() -> None:
    jobs = plan(command.parse(["--device", "cpu", "--parts", "cifar", "--cifar-minutes", "2"]))
    assert [(job.name, job.seed) for job in jobs] == [(f"vit-cifar-best, seed {seed}", seed) for seed in range(3)]
    assert all(job.arguments["part"] == "test" and job.arguments["data"] == "cifar10" for job in jobs)
    assert command.perform(jobs[0], 179.0, 1) == {"failed": "only 179 s were left"}


@pytest.mark.slow
def test_the_gpu_benchmark_of_vision_runs_in_small_on_a_cpu(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--tiny", "--parts", "vision,cifar", "--results", str(tmp_path), "--threads", "1"]
    command.run(command.parse([*words, "--vision-presets", "vit-cifar-cpu"]))
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["vision"]["measured"]["vit-cifar-cpu"]["images_per_second"] > 0
    trained = found["cifar"]["measured"]["vit-digits, seed 0"]
    assert 0 < trained["accuracy"] <= 1
    assert trained["steps"] >= 1


# ---------------------------------------------------------------------------------------------- options


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
    for preset in ("none", "flow-cifar"):
        with pytest.raises(ValueError, match=f"preset = {preset!r} is not one of: vit-digits"):
            vision_cifar_cpu.parse(["--preset", preset])

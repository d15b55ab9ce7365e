"""Sharded runs of several processes: as one process makes them, saved in shards, and taken up by any number."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from core.cli.triptych import merge
from core.files.tensors import read_tensors
from core.training.checkpoints import Checkpoints, load_weights, verify
from tests.core.training.toy import live
from tests.processes import forking, lines

ROOT = Path(__file__).parents[3]
SHARDED = ("--distribute", "fsdp")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")


@pytest.fixture(scope="module")
def processes() -> Any:
    """Children forked from a server that has everything imported."""
    return forking()


def begin(
    processes: Any, log: Path, count: int, *arguments: object, environment: Any = None, largest_file: Any = None
) -> list[BaseProcess]:
    """Starts so many processes of one run, as `torchrun` does; largest_file: bytes that a rank can write at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words, children = [*map(str, arguments), "--device", "cpu"], []
    for rank in range(count):
        own = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {}
        given = (words, log, own | (environment or {}), (largest_file or {}).get(rank, 0))
        children.append(processes.Process(target=live, args=given, daemon=True))
        children[-1].start()
    return children


def run(processes: Any, log: Path, count: int, *arguments: object, environment: Any = None) -> list[int | None]:
    """The exit codes of so many processes of one run."""
    children = begin(processes, log, count, *arguments, environment=environment)
    for child in children:
        child.join(120)
    return [child.exitcode for child in children]


def assert_close(a: Path, b: Path, tolerance: float = 1e-6) -> None:
    """The same measurements, and weights; Muon's, whose updates have one size however small a gradient, to 1e-5."""
    for first, second in zip(lines(a), lines(b), strict=True):
        assert first == pytest.approx(second, rel=1e-6, abs=1e-6)
    ours, theirs = load_weights(a, "last"), load_weights(b, "last")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "settings",
    [
        ("--ema", "0.9", "--accumulate", "2", "--clip", "0.3", "--remat", "blocks"),
        ("--optimizer.kind", "adamw", "--optimizer.eps", "1e-4", "--frozen", "blocks"),
    ],
    ids=["muon", "adamw"],
)
def test_shards_make_the_run_of_one_process(processes: Any, tmp_path: Path, settings: tuple[str, ...]) -> None:
    """Uneven counts, clipping, averages, tied weights; with Muon, the run goes on with two processes, or one."""
    arguments = ("toy", "--steps", "10", *settings)
    tolerance = 1e-6 if "adamw" in settings else 1e-5
    one, two, alone, log = (tmp_path / name for name in ("one", "two", "alone", "log"))
    assert run(processes, log, 1, *arguments, "--out", one) == [0], log.read_text()
    assert run(processes, log, 2, *arguments, *SHARDED, "--out", two) == [0, 0], log.read_text()
    assert_close(one, two, tolerance)
    assert len([*(Checkpoints(two).path(10) / "model").glob("*.safetensors")]) == 2
    weights = load_weights(two, "last", "raw")
    assert weights["head.weight"].data_ptr() == weights["embedding.weight"].data_ptr()
    if "adamw" in settings:
        return
    shutil.copytree(two, alone)
    for count, out in ((1, one), (2, two)):
        assert run(processes, log, count, "--out", out, "--resume", "--steps", "14") == [0] * count, log.read_text()
    again = ("--out", alone, "--resume", "--steps", "14", "--distribute", "auto")
    assert run(processes, log, 1, *again) == [0], log.read_text()
    assert_close(one, two, tolerance)
    assert_close(one, alone, tolerance)


def test_one_file_is_taken_up_in_shards_merged_and_damaged(processes: Any, tmp_path: Path, capsys: Any) -> None:
    one, two, log = (tmp_path / name for name in ("one", "two", "log"))
    for out in (one, two):
        assert run(processes, log, 1, "toy", "--steps", "5", "--ema", "0.9", "--out", out) == [0]
    assert run(processes, log, 1, "--out", one, "--resume", "--steps", "10") == [0]
    # as accelerate launch --use_fsdp --fsdp_version 2 says it
    launched = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    assert run(processes, log, 2, "--out", two, "--resume", "--steps", "10", environment=launched) == [0, 0]
    assert (Checkpoints(two).path(10) / "model").is_dir(), log.read_text()
    assert_close(one, two, 1e-5)
    merge([str(two), "--checkpoint", "last"])
    assert str(two / "model.safetensors") in capsys.readouterr().out
    merged, weights = read_tensors(two / "model.safetensors"), load_weights(two, "last")
    assert merged.keys() == weights.keys()
    assert all(torch.equal(merged[name], weights[name]) for name in weights)
    assert_damage_is_named(Checkpoints(two).path(10))


def assert_damage_is_named(checkpoint: Path) -> None:
    """The file of a process that is cut, or gone."""
    assert "model/shard-00002-model-00001-of-00001.safetensors" in verify(checkpoint)
    shard = checkpoint / "optimizer" / "shard-00001-model-00001-of-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"optimizer/shard-00001.* holds .* bytes instead of"):
        verify(checkpoint)
    shard.unlink()
    with pytest.raises(ValueError, match=r"optimizer/shard-00001.* is missing"):
        verify(checkpoint)


@pytest.mark.parametrize("full", [0, 1])
def test_the_full_disk_of_one_process_ends_both_and_loses_nothing(processes: Any, tmp_path: Path, full: int) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    assert run(processes, log, 2, "toy", "--steps", "5", *SHARDED, "--out", out) == [0, 0], log.read_text()
    children = begin(processes, log, 2, "--out", out, "--resume", "--steps", "10", largest_file={full: 9000})
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [1, 1], log.read_text()
    said = [line for line in log.read_text().splitlines() if line.startswith("error: no checkpoint of step 10: ")]
    assert len(said) == 2
    assert all("File too large" in line and line.endswith("the earlier ones are intact") for line in said)
    assert Checkpoints(out).steps() == [5]
    verify(Checkpoints(out).path(5))
    assert not list(out.rglob("*.part"))


@pytest.mark.slow
def test_a_killed_process_loses_nothing(processes: Any, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    arguments = ("toy", "--steps", "100000", "--save-every", "1", *SHARDED, "--out", out)
    children = begin(processes, log, 2, *arguments)
    while children[1].is_alive() and not Checkpoints(out).path(6).exists():
        children[1].join(0.01)
    children[1].kill()
    children[0].join(60)
    assert children[0].exitcode not in (None, 0)
    for step in Checkpoints(out).steps():
        verify(Checkpoints(out).path(step))
    last = Checkpoints(out).steps()[-1]
    again = ("--out", out, "--resume", "--steps", last + 2)
    assert run(processes, log, 2, *again) == [0, 0], log.read_text()
    assert not list(out.rglob("*.part"))


@pytest.mark.slow
def test_three_processes_go_on_as_two(processes: Any, tmp_path: Path) -> None:
    """Widths that three do not divide evenly; then each of two holds a copy of everything."""
    constant = ("--schedule.kind", "constant", "--schedule.warmup", "0")  # the same whatever the budget
    arguments = ("toy", "--batch-size", "12", "--ema", "0.9", *constant)
    one, three, log = (tmp_path / name for name in ("one", "three", "log"))
    assert run(processes, log, 1, *arguments, "--steps", "12", "--out", one) == [0]
    assert run(processes, log, 3, *arguments, *SHARDED, "--steps", "6", "--out", three) == [0, 0, 0], log.read_text()
    again = ("--out", three, "--resume", "--steps", "12", "--shard-size", "1")
    assert run(processes, log, 2, *again) == [0, 0], log.read_text()
    first, second = lines(one)[-1], lines(three)[-1]
    assert first == pytest.approx(second, rel=1e-6, abs=1e-6)
    ours, theirs = load_weights(one, "last"), load_weights(three, "last")
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_torchrun_and_bfloat16(tmp_path: Path) -> None:
    out = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    launch += ["-m", "tests.core.training.toy", "toy", "--steps", "5", "--device", "cpu", "--precision", "bf16"]
    done = subprocess.run([*launch, *SHARDED, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(tensor.dtype == torch.float32 for tensor in load_weights(out, "last").values())

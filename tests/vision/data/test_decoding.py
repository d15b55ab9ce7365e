"""Images decoded by workers as they are needed: the same batches as from memory, from any step on, and a clean end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.cli.exits import RunFailure
from vision.data import decoding
from vision.data.batches import TrainingImages, evaluation_batches
from vision.data.cache import moments
from vision.data.decoding import Streamed
from vision.data.load import Data, load_data, load_test


@pytest.fixture
def both(image_folder: Path, tmp_path: Path) -> tuple[Data, Data]:
    """The same folder in memory and as a stream."""
    memory, streamed = (
        load_data(str(image_folder), size=14, storage=storage, root=tmp_path / "data")  # type: ignore[arg-type]
        for storage in ("memory", "stream")
    )
    return memory, streamed


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    yield
    wait_for_workers(0)


def with_workers(images: object, workers: int) -> Streamed:
    assert isinstance(images, Streamed)
    return replace(images, workers=workers)


def wait_for_workers(number: int) -> None:
    """Returns when only so many processes are left; the test fails if they do not end by themselves."""
    for _ in range(500):
        if len(multiprocessing.active_children()) <= number:
            return
        time.sleep(0.01)
    raise AssertionError(f"still there: {multiprocessing.active_children()}")


def equal(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_equal_those_from_memory_from_any_step_on(both: tuple[Data, Data], workers: int) -> None:
    memory = TrainingImages(both[0].train, 6, seed=5)
    streamed = TrainingImages(with_workers(both[1].train, workers), 6, seed=5)
    for step in (0, 1, 2, 3, 4, 5, 6, 17, 18, 3, 3):
        assert equal(streamed.batch(step)[0], memory.batch(step)[0])


def test_ranks_and_micro_batches_equal_those_from_memory(both: tuple[Data, Data]) -> None:
    for rank in range(2):
        memory = TrainingImages(both[0].train, 12, seed=5)
        streamed = TrainingImages(with_workers(both[1].train, 2), 12, seed=5)
        for step in range(4):
            pairs = zip(streamed.batch(step, rank, 2, 3), memory.batch(step, rank, 2, 3), strict=True)
            assert all(equal(*pair) for pair in pairs)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_batches_equal_those_from_memory(both: tuple[Data, Data], world: int) -> None:
    streamed = with_workers(both[1].validation, 2)
    for rank in range(world):
        here = evaluation_batches(both[0].validation, 2, rank, world)
        there = evaluation_batches(streamed, 2, rank, world)
        assert all(equal(*pair) for pair in zip(there, here, strict=True))


def test_all_else_equals_what_comes_from_memory(both: tuple[Data, Data], image_folder: Path, tmp_path: Path) -> None:
    memory, streamed = both
    assert streamed.preparation == memory.preparation
    assert streamed.fingerprint == memory.fingerprint
    assert torch.equal(streamed.train.labels, memory.train.labels)
    assert torch.equal(streamed.train.sample(9), memory.train.sample(9))
    test, same = (
        load_test(str(image_folder), memory.preparation, storage=storage, root=tmp_path / "data")  # type: ignore[arg-type]
        for storage in ("stream", "memory")
    )
    assert isinstance(test, Streamed)
    assert torch.equal(test.sample(99), same.sample(99))


def test_a_stream_keeps_no_pixels_on_disk(both: tuple[Data, Data], image_folder: Path, tmp_path: Path) -> None:
    load_data(str(image_folder), size=14, storage="stream", root=tmp_path / "other")
    kept = {file.name for file in (tmp_path / "other").rglob("*.*")}
    assert kept == {"images.json", "moments.npy", "shown.npy", "contents.npy"}


def test_bad_images_are_known_before_the_stream_begins(
    both: tuple[Data, Data], image_folder: Path, spoil: Callable[[Path], dict[str, Path]], tmp_path: Path
) -> None:
    spoil(image_folder / "train" / "leaves")
    with pytest.raises(ValueError, match="^cannot decode 3 of 37 images: .*--skip-bad leaves them out$"):
        load_data(str(image_folder), size=14, storage="stream", root=tmp_path / "data")
    skipped = load_data(str(image_folder), size=14, storage="stream", skip_bad=True, root=tmp_path / "data")
    assert (skipped.fingerprint, skipped.preparation) == (both[0].fingerprint, both[0].preparation)
    assert equal(TrainingImages(skipped.train, 8).batch(0)[0], TrainingImages(both[0].train, 8).batch(0)[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_many_files_are_decoded_by_workers_into_the_same_cache(
    workers: int, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "CHUNK", 7)
    monkeypatch.setattr(decoding, "default_workers", lambda files: workers)
    data = load_data(str(image_folder), size=14, storage="memory", root=tmp_path / "data")
    files = sorted((image_folder / "train").rglob("*.*"), key=lambda file: (file.parent.name, file.name))
    expected = torch.stack([data.preparation.read(file) for file in files])
    assert torch.equal(data.train.sample(99), expected)


def test_a_file_that_is_lost_on_the_way_stops_the_run_with_its_name(both: tuple[Data, Data]) -> None:
    images = with_workers(both[1].train, 1)
    lost = images.listing.folder / images.listing.files[0]
    lost.unlink()
    batches = TrainingImages(images, 34)
    with pytest.raises(RunFailure, match=f"^{lost} cannot be read: No such file .*though it could be when the run"):
        batches.batch(0)


def test_streaming_draws_no_random_numbers_of_the_run(both: tuple[Data, Data]) -> None:
    before = torch.get_rng_state()
    for workers in (0, 2):
        TrainingImages(with_workers(both[1].train, workers), 6).batch(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_work_ahead_leave_interrupts_to_the_run_and_end_with_the_batches(both: tuple[Data, Data]) -> None:
    batches = TrainingImages(with_workers(both[1].train, 2), 6)
    expected = TrainingImages(both[0].train, 6)
    batches.batch(0)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)  # as Ctrl-C does to all of a terminal
    for step in range(1, 9):
        assert equal(batches.batch(step)[0], expected.batch(step)[0])
    assert multiprocessing.active_children() == workers
    batches.batch(30)  # another place: other workers
    wait_for_workers(2)
    del batches
    wait_for_workers(0)


ROOT = Path(__file__).resolve().parents[3]
ENDS = """
import sys
from pathlib import Path
from vision.data.batches import TrainingImages
from vision.data.load import load_data
from dataclasses import replace
data = load_data(sys.argv[1], size=14, storage="stream", root=Path(sys.argv[2]))
batches = TrainingImages(replace(data.train, workers=2), 6)
batches.batch(0)
"""


def test_a_process_ends_while_its_workers_work(image_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDS, str(image_folder), str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_moments_are_exact_where_they_are_large() -> None:
    white = torch.full((2, 3, 300, 300), 255, dtype=torch.uint8)
    assert moments(white).tolist() == [[[255 * 90_000, 255**2 * 90_000]] * 3] * 2
    assert moments(white[:0]).shape == (0, 3, 2)


def test_odd_files_say_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Pillow warns of odd palettes and metadata; a folder of them would fill the screen."""
    for name in ("a", "b"):
        (tmp_path / "odd" / name).mkdir(parents=True)
        palette = Image.new("P", (8, 8), ord(name) % 9)
        palette.putpalette(np.arange(9).repeat(3).tolist())
        palette.save(tmp_path / "odd" / name / "1.png", transparency=bytes(range(9)))
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\x01"  # ends in the middle of an entry
        Image.new("RGB", (8, 8), {"a": "red", "b": "blue"}[name]).save(tmp_path / "odd" / name / "2.jpg", exif=exif)
    data = load_data(str(tmp_path / "odd"), size=7, validation=0, root=tmp_path / "data")
    assert len(data.train) == 4
    assert capfd.readouterr() == ("", "")

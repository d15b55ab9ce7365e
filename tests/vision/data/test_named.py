"""Sets that go by a name: official or refused, whole or absent, and one part at a time."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import re
import socket
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vision.data import named as sources
from vision.data.named import Labelled, held_out, read_named

CIFAR = "cifar-10-batches-py"


# ---------------------------------------------------------------------------------- a publisher


class Publisher(BaseHTTPRequestHandler):
    """Serves `files`; of those in `cut` it announces all and sends half."""

    files: dict[str, bytes]
    cut: set[str]

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, send: bool) -> None:
        name = self.path.strip("/")
        if name not in self.files:
            self.send_error(404)
            return
        body = self.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if send:
            self.wfile.write(body[: len(body) // 2] if name in self.cut else body)

    def log_message(self, *_: object) -> None:
        """Stays silent."""


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server in place of the data sets' homes: a CIFAR-10 of 24 images and an MNIST of 50."""
    torchvision = pytest.importorskip("torchvision")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
    url = f"http://127.0.0.1:{serving.server_port}"
    small_cifar(torchvision.datasets.CIFAR10, f"{url}/cifar.tar.gz", monkeypatch)
    small_mnist(torchvision.datasets.MNIST, f"{url}/", monkeypatch)
    threading.Thread(target=serving.serve_forever, args=(0.01,)).start()
    yield url
    serving.shutdown()
    serving.server_close()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def small_cifar(kind: Any, url: str, patch: pytest.MonkeyPatch) -> None:
    """20 training images in five files and 4 test images, numbered in their first pixel."""
    files = {}
    for number, name in enumerate([name for name, _ in kind.train_list + kind.test_list]):
        data = np.full((4, 3072), number, np.uint8)
        data[:, 0] = range(4)
        files[name] = pickle.dumps({"data": data, "labels": [0, 1, 0, 1]})
    files["batches.meta"] = pickle.dumps({"label_names": ["cat", "dog"]})
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    Publisher.files, Publisher.cut = {"cifar.tar.gz": archive.getvalue()}, set()
    patch.setattr(kind, "url", url)
    patch.setattr(kind, "tgz_md5", md5(archive.getvalue()))
    for attribute in ("train_list", "test_list"):
        patch.setattr(kind, attribute, [[name, md5(files[name])] for name, _ in getattr(kind, attribute)])
    patch.setattr(kind, "meta", {**kind.meta, "md5": md5(files["batches.meta"])})


def small_mnist(kind: Any, url: str, patch: pytest.MonkeyPatch) -> None:
    """30 training and 20 test images, each of its number."""
    parts = {"train": ("train", 30), "test": ("t10k", 20)}
    patch.setattr(sources, "IDX_PARTS", parts)
    for prefix, n in parts.values():
        numbers = np.arange(n, dtype=np.uint8)
        images = np.array([2051, n, 28, 28], ">i4").tobytes() + np.repeat(numbers, 784).tobytes()
        labels = np.array([2049, n], ">i4").tobytes() + (numbers % 10).tobytes()
        Publisher.files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(images)
        Publisher.files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(labels)
    patch.setattr(kind, "mirrors", [url])
    patch.setattr(kind, "resources", [(name, md5(Publisher.files[name])) for name, _ in kind.resources])


def everything(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


# ---------------------------------------------------------------------------------- downloads


def test_cifar_is_downloaded_as_a_whole_and_only_once(
    publisher: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train = read_named("cifar10", "train", tmp_path)
    assert (train.pixels.shape, train.pixels.dtype, train.classes) == ((20, 3, 32, 32), torch.uint8, ("cat", "dog"))
    assert train.labels.tolist() == [0, 1, 0, 1] * 5
    assert train.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3] * 5
    assert train.pixels[:, 2, 31, 31].tolist() == np.repeat(range(5), 4).tolist()
    assert everything(tmp_path / "cifar10") == sorted(
        f"{CIFAR}/{name}" for name in ["batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))]
    )
    Publisher.files.clear()
    assert read_named("cifar10", "test", tmp_path).pixels[:, 1, 0, 0].tolist() == [5] * 4
    assert capfd.readouterr().out == ""


def test_mnist_is_downloaded_as_a_whole_and_only_once(
    publisher: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train = read_named("mnist", "train", tmp_path)
    assert (train.pixels.shape, len(train.classes)) == ((30, 1, 28, 28), 10)
    assert (train.pixels[:, 0, 9, 9] == torch.arange(30)).all()
    assert (train.labels == torch.arange(30) % 10).all()
    Publisher.files.clear()
    assert (read_named("mnist", "test", tmp_path).pixels[:, 0, 0, 0] == torch.arange(20)).all()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "file"), [("cifar10", "cifar.tar.gz"), ("mnist", "t10k-labels-idx1-ubyte.gz")], ids=["cifar10", "mnist"]
)
@pytest.mark.parametrize("fault", ["cut", "absent", "other"])
def test_an_interrupted_download_leaves_nothing_and_says_what_to_do(
    name: str, file: str, fault: str, publisher: str, tmp_path: Path
) -> None:
    whole = Publisher.files[file]
    if fault == "cut":
        Publisher.cut.add(file)
    elif fault == "absent":
        del Publisher.files[file]
    else:
        Publisher.files[file] = gzip.compress(b"moved")
    with pytest.raises(ValueError, match=f"{name} is missing and could not be downloaded from {publisher}/") as error:
        read_named(name, "train", tmp_path)
    where = tmp_path / name / {"cifar10": CIFAR, "mnist": "MNIST/raw"}[name]
    assert f"put its files, unpacked, into {where}, or take `--data digits`" in str(error.value)
    assert "\n" not in str(error.value)
    assert everything(tmp_path) == []
    Publisher.files[file] = whole
    Publisher.cut.clear()
    assert len(read_named(name, "train", tmp_path).labels)


def test_a_download_killed_midway_is_not_taken_for_whole(
    publisher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchvision = pytest.importorskip("torchvision")

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torchvision.datasets.mnist, "read_image_file", kill)  # all is unpacked, not all is checked
        with pytest.raises(KeyboardInterrupt):
            read_named("mnist", "train", tmp_path)
    assert everything(tmp_path) == []


def test_a_silent_server_is_given_up(tmp_path: Path, publisher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision = pytest.importorskip("torchvision")
    monkeypatch.setattr(sources, "TIMEOUT", 0.1)
    before = socket.getdefaulttimeout()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar.gz")
        with pytest.raises(ValueError, match=r"could not be downloaded from .* \(timed out\)"):
            read_named("cifar10", "train", tmp_path)
    assert socket.getdefaulttimeout() == before


# ---------------------------------------------------------------------------------- verification


def test_a_file_with_a_wrong_checksum_is_named(publisher: str, tmp_path: Path) -> None:
    read_named("cifar10", "train", tmp_path)
    file = tmp_path / "cifar10" / CIFAR / "data_batch_3"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        ValueError, match=f"^{file} is not the published file \\(its md5 is .*remove .* downloaded from"
    ):
        read_named("cifar10", "train", tmp_path)
    assert len(read_named("cifar10", "test", tmp_path).labels) == 4
    assert file.read_bytes() == content


def test_a_missing_file_is_named_and_nothing_is_lost(publisher: str, tmp_path: Path) -> None:
    read_named("cifar10", "train", tmp_path)
    file = tmp_path / "cifar10" / CIFAR / "batches.meta"
    file.unlink()
    others = everything(tmp_path)
    with pytest.raises(ValueError, match=f"^{file} is missing: put it there, or remove {file.parent} to have it"):
        read_named("cifar10", "train", tmp_path)
    assert everything(tmp_path) == others


def test_an_idx_file_that_is_cut_off_is_named(publisher: str, tmp_path: Path) -> None:
    read_named("mnist", "train", tmp_path)
    file = tmp_path / "mnist" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"^{file} is not the published file \\(its size in bytes is 23535, not 23536"):
        read_named("mnist", "train", tmp_path)


# ---------------------------------------------------------------------------------- one part at a time

OPENED: list[str] | None = None


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if OPENED is not None and event in ("open", "os.listdir", "os.scandir"):
        OPENED.append(str(arguments[0]))


@pytest.fixture(scope="module")
def _audit() -> None:
    sys.addaudithook(note)  # for the rest of this process


@pytest.fixture
def opened(_audit: None) -> Iterator[list[str]]:
    """Every file and folder that is opened, by whatever library, from the first use of the fixture on."""
    global OPENED
    OPENED = []
    yield OPENED
    OPENED = None


@pytest.mark.parametrize(
    ("name", "train", "test"), [("cifar10", "data_batch_", "test_batch"), ("mnist", "raw/train-", "raw/t10k-")]
)
def test_a_part_opens_no_file_of_the_other(
    name: str, train: str, test: str, publisher: str, tmp_path: Path, opened: list[str]
) -> None:
    read_named(name, "train", tmp_path)  # downloads and unpacks both
    for part, own, other in (("train", train, test), ("test", test, train)):
        opened.clear()
        read_named(name, part, tmp_path)
        assert any(own in path for path in opened)
        assert not any(other in path for path in opened)


def test_a_part_needs_no_file_of_the_other(publisher: str, tmp_path: Path) -> None:
    for name, file in (("cifar10", f"{CIFAR}/test_batch"), ("mnist", "MNIST/raw/t10k-images-idx3-ubyte")):
        whole = read_named(name, "train", tmp_path)
        (tmp_path / name / file).unlink()
        assert (read_named(name, "train", tmp_path).pixels == whole.pixels).all()
        with pytest.raises(ValueError, match=f"{file} is missing"):
            read_named(name, "test", tmp_path)


def test_the_official_cifar_10_is_read_as_torchvision_reads_it(data_root: Path, opened: list[str]) -> None:
    torchvision = pytest.importorskip("torchvision")
    part = read_named("cifar10", "train", data_root)
    assert not any("test_batch" in path for path in opened)
    official = torchvision.datasets.CIFAR10(data_root / "cifar10", train=True)
    assert (part.pixels.permute(0, 2, 3, 1).numpy() == official.data).all()
    assert part.labels.tolist() == official.targets
    assert part.classes == tuple(official.classes)
    assert torch.bincount(part.labels).tolist() == [5000] * 10


def test_digits_come_without_network_in_two_parts(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    parts = [read_named("digits", part, tmp_path) for part in ("train", "test")]
    assert [len(part.labels) for part in parts] == [1438, 359]
    assert everything(tmp_path) == []
    assert rows(*parts) == sorted(
        (*(int(v * 255 / 16 + 0.5) for v in image.ravel()), int(label))
        for image, label in zip(load_digits().images, load_digits().target, strict=True)
    )
    assert torch.bincount(parts[1].labels).tolist() == pytest.approx([35.9] * 10, abs=1.5)
    again = read_named("digits", "test", tmp_path)
    assert (again.pixels == parts[1].pixels).all()


def rows(*parts: Labelled) -> list[tuple[int, ...]]:
    """All images with their labels, as numbers, sorted."""
    return sorted((*row, label) for part in parts for row, label in zip(*listed(part), strict=True))


def listed(part: Labelled) -> tuple[list[list[int]], list[int]]:
    return part.pixels.flatten(1).tolist(), part.labels.tolist()


# ---------------------------------------------------------------------------------- stratified


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), fraction=st.floats(0, 1), seed=st.integers(0, 2**40)
)
def test_held_out_images_are_stratified_to_within_one(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    number = int(fraction * len(labels))
    held = held_out(labels, number, seed)
    assert len(held) == len(set(held.tolist())) == number
    assert (np.sort(held) == held).all()
    quotas = np.array(counts) * number / len(labels)
    assert (np.abs(np.bincount(labels[held], minlength=len(counts)) - quotas) < 1).all()


def test_of_classes_with_equal_claims_any_may_have_an_image_held_out() -> None:
    labels = np.repeat(np.arange(20), 5)
    chosen = [set(labels[held_out(labels, 10, seed)].tolist()) for seed in range(20)]
    assert all(len(classes) == 10 for classes in chosen)
    assert set.union(*chosen) == set(range(20))
    assert max(chosen[0]) >= 10  # not the first ten
    assert chosen[0] == set(labels[held_out(labels, 10, 0)].tolist())


def test_held_out_images_depend_on_the_seed_and_are_the_same_for_ever() -> None:
    labels = np.arange(1000) % 10
    assert held_out(labels, 20, 0).tolist() == held_out(labels, 20, 0).tolist()
    assert held_out(labels, 20, 0).tolist() != held_out(labels, 20, 1).tolist()
    assert held_out(labels, 10, 0).tolist() == [374, 438, 482, 569, 656, 685, 850, 863, 917, 961]


def test_every_name_is_one_of_torchvisions_or_embedded() -> None:
    torchvision = pytest.importorskip("torchvision")
    assert set(sources.NAMES) == {"digits", "fugue-icons", *sources.TORCHVISION}
    for kind in sources.TORCHVISION.values():
        assert re.match("https?://", sources.home(getattr(torchvision.datasets, kind)))

"""Image sets known by name: official files, verified, of which training reads its own part alone."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.cli.exits import FULL_DISK
from core.files.atomic import atomic_write, remove
from core.files.downloads import TIMEOUT
from core.training.order import stream
from vision.captions.held_out import held_out_captions
from vision.captions.icons import ICONS, TEST_SEED, read_icons

TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
}
NAMES = ("digits", *TORCHVISION, ICONS)
INSTEAD = "take `--data digits`, which needs no network"

DIGITS_TEST = 359  # a fifth of scikit-learn's 1,797
DIGITS_SEED = 0  # of that fifth: part of the data, not of a run
IDX_PARTS = {"train": ("train", 60_000), "test": ("t10k", 10_000)}  # MNIST's, and of all that replace it
IDX_PIXELS = 28 * 28
CIFAR_LISTS = ("train_list", "test_list")

Part = Literal["train", "test"]
Ties = Literal["random", "first"]


class Labelled(NamedTuple):
    """pixels: uint8 (N, C, H, W). labels: int64 (N,). classes: their names."""

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]


def read_named(name: str, part: Part, root: Path) -> Labelled:
    """The training or the test part of one of NAMES; the files of the other part are not opened.

    `digits`, 8 x 8 grey, 0..16 scaled to 0..255, comes with scikit-learn and has no official test part: 359 of
    its 1,797 images, stratified, always the same, are kept for it. The classes of `fugue-icons`, in both parts, are the
    captions of all icons; a tenth, of word combinations that no other has, is for testing. All others are
    torchvision's, under `root/NAME`; absent, they are downloaded as a whole or not at all.

    Raises ValueError naming the file that is missing, cannot be downloaded, or is not the published one.
    """
    if name == "digits":
        return _digits(part)
    if name == ICONS:
        return _icons(part, root)
    import torchvision

    kind = getattr(torchvision.datasets, TORCHVISION[name])
    inner = Path(kind.base_folder if _is_cifar(kind) else f"{kind.__name__}/raw")
    folder = root / name / inner
    if not folder.is_dir():
        _download(name, kind, folder, inner)
    published = _published(kind, part)
    _verify(folder, published, home(kind))
    return _labelled(_limited_to(kind, list(published))(root / name, train=part == "train"))


def held_out(labels: NDArray[np.int64], count: int, seed: int, ties: Ties = "random") -> NDArray[np.int64]:
    """Indices, ascending, of `count` images drawn without replacement such that each class keeps its share.

    The number of each class is its exact quota rounded down or up (largest remainders; of equal ones some at random,
    or the first as in older versions).
    """
    sizes = np.bincount(labels)
    quotas, remainders = np.divmod(sizes * count, len(labels))
    chance = np.arange(len(sizes))
    if ties == "random":
        chance = np.random.RandomState(stream(seed, "held out ties")).permutation(chance)
    quotas[np.lexsort((chance, -remainders))[: count - quotas.sum()]] += 1
    order = np.arange(len(labels))
    np.random.RandomState(stream(seed, "held out")).shuffle(order)
    order = order[np.argsort(labels[order], kind="stable")]  # class by class, shuffled within
    place = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[place < quotas[labels[order]]])


def _digits(part: Part) -> Labelled:
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    chosen = held_out(labels, DIGITS_TEST, DIGITS_SEED)
    if part == "train":
        chosen = np.setdiff1d(np.arange(len(labels)), chosen)
    pixels = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    return Labelled(
        torch.from_numpy(pixels)[:, None],  # (N, 8, 8) -> (N, 1, 8, 8)
        torch.from_numpy(labels[chosen]),
        tuple(map(str, digits.target_names)),
    )


def _icons(part: Part, root: Path) -> Labelled:
    pixels, captions = read_icons(root)
    labels = np.arange(len(captions))
    chosen = held_out_captions(captions, labels, None, TEST_SEED)
    if part == "train":
        chosen = np.setdiff1d(labels, chosen)
    return Labelled(pixels[chosen], torch.from_numpy(chosen), captions)


def _labelled(dataset: Any) -> Labelled:
    pixels = torch.as_tensor(dataset.data)
    if pixels.ndim == 3:
        pixels = pixels[:, None]  # (N, H, W) -> (N, 1, H, W)
    else:
        pixels = pixels.permute(0, 3, 1, 2).contiguous()  # (N, H, W, C) -> (N, C, H, W)
    return Labelled(pixels, torch.as_tensor(dataset.targets, dtype=torch.int64), tuple(dataset.classes))


def _is_cifar(kind: Any) -> bool:
    return hasattr(kind, "base_folder")


def _published(kind: Any, part: Part) -> dict[str, str | int]:
    """The files of a part: each with its md5, or its size where no checksum of the unpacked file is known."""
    if _is_cifar(kind):
        files = kind.train_list if part == "train" else kind.test_list
        return dict([*files, (kind.meta["filename"], kind.meta["md5"])])
    prefix, images = IDX_PARTS[part]
    return {  # an IDX header is 4 bytes, and 4 more for each dimension
        f"{prefix}-images-idx3-ubyte": 16 + images * IDX_PIXELS,
        f"{prefix}-labels-idx1-ubyte": 8 + images,
    }


def _limited_to(kind: Any, files: list[str]) -> Any:
    """A torchvision data set of these files alone, taken as verified; the original wants all of them."""
    if _is_cifar(kind):
        lists = {name: [[file, None] for file, _ in getattr(kind, name) if file in files] for name in CIFAR_LISTS}
        return type(kind.__name__, (kind,), lists)
    return type(kind.__name__, (kind,), {"resources": [(file, None) for file in files]})


def home(kind: Any) -> str:
    """Where a torchvision data set is downloaded from."""
    return str(kind.url if _is_cifar(kind) else kind.mirrors[0])


def _verify(folder: Path, published: dict[str, str | int], source: str) -> None:
    from torchvision.datasets.utils import calculate_md5

    again = f"remove {folder} to have it downloaded from {source}"
    for name, wanted in published.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: put it there, or {again}")
        actual = path.stat().st_size if isinstance(wanted, int) else calculate_md5(path)
        if actual != wanted:
            measure = "size in bytes" if isinstance(wanted, int) else "md5"
            raise ValueError(f"{path} is not the published file (its {measure} is {actual}, not {wanted}): {again}")


def _download(name: str, kind: Any, folder: Path, inner: Path) -> None:
    """Has torchvision download, verify and unpack everything aside, so that `folder` is complete or absent."""
    with atomic_write(folder) as aside, _time_limit():
        workspace = aside / "download"
        try:
            kind(workspace, download=True)
        except (OSError, RuntimeError, HTTPException) as error:
            if getattr(error, "errno", None) in FULL_DISK:
                raise
            reason = str(error).splitlines()[-1] if str(error) else type(error).__name__
            raise ValueError(
                f"{name} is missing and could not be downloaded from {home(kind)} ({reason}): "
                f"put its files, unpacked, into {folder}, or {INSTEAD}"
            ) from error
        for file in (workspace / inner).iterdir():
            file.rename(aside / file.name)
        remove(workspace)


@contextmanager
def _time_limit() -> Iterator[None]:
    """Inside, a server that does not answer fails after TIMEOUT, and nothing is printed to stdout."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)

"""fsdd: parts by take, or by speaker, from the names of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vision.data.sounds import write_takes
from vision.data.recordings import list_fsdd


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (write_takes(folder) / "notes.txt").write_text("nothing to hear")
    return folder


def test_the_first_five_takes_are_for_testing(root: Path) -> None:
    train, test = (list_fsdd("fsdd", part, root) for part in ("train", "test"))  # type: ignore[arg-type]
    assert train is not None
    assert test is not None
    assert (len(train), len(test)) == (10 * 3 * 2, 10 * 3 * 5)
    assert {file.rpartition("_")[2] for file in train.files} == {"5.wav", "6.wav"}
    assert {file.rpartition("_")[2] for file in test.files} == {f"{take}.wav" for take in range(5)}
    assert train.classes == tuple("0123456789")
    assert all(int(file[0]) == label for file, label in zip(train.files, train.labels, strict=True))
    assert list_fsdd("fsdd", "validation", root) is None


def test_a_speaker_that_is_left_out_is_tested_and_never_trained_on(root: Path) -> None:
    train, test = (list_fsdd("fsdd:bob", part, root) for part in ("train", "test"))  # type: ignore[arg-type]
    assert train is not None
    assert test is not None
    assert {file.split("_")[1] for file in train.files} == {"ann", "cleo"}
    assert {file.split("_")[1] for file in test.files} == {"bob"}
    assert (len(train), len(test)) == (140, 70)


def test_nobody_of_that_name_and_nothing_at_all(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nobody in .* is called 'bop'; did you mean 'bob'"):
        list_fsdd("fsdd:bop", "train", root)
    with pytest.raises(ValueError, match=r"fsdd/recordings is missing: put the recordings of github.com/.* there"):
        list_fsdd("fsdd", "train", tmp_path)

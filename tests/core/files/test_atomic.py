"""Files and folders that are whole or absent."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from core.files.atomic import atomic_write, sha256


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert sha256(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file(interruption: type[BaseException], tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_write(tmp_path / "file") as aside:
            aside.write_text("half")
            raise interruption

    (tmp_path / "file").write_text("old")
    with pytest.raises(interruption):
        interrupted()
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_replaces_the_one_before(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with atomic_write(tmp_path / "deep" / "file") as aside:
            aside.write_text(content)
        assert (tmp_path / "deep" / "file").read_text() == content


def test_of_two_folders_the_first_stays(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "folder") as slower:
        slower.mkdir()
        (slower / "by").write_text("slower")
        with atomic_write(tmp_path / "folder") as faster:
            faster.mkdir()
            (faster / "by").write_text("faster")
    assert (tmp_path / "folder" / "by").read_text() == "faster"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_does_not_take_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("kept")
    with pytest.raises(OSError, match="taken"), atomic_write(tmp_path / "taken") as aside:
        aside.mkdir()
    assert (tmp_path / "taken").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_killed_processes_left_is_swept_when_old(tmp_path: Path) -> None:
    for name in (".old.1.part", ".young.1.part", "other.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inside").write_text("")
    month_ago = time.time() - 30 * 24 * 3600
    os.utime(tmp_path / ".old.1.part", (month_ago, month_ago))
    os.utime(tmp_path / "other.part", (month_ago, month_ago))
    with atomic_write(tmp_path / "file") as aside:
        aside.write_text("")
    assert {path.name for path in tmp_path.iterdir()} == {".young.1.part", "other.part", "file"}

"""Published files: made from what is at their public home, verified, and named where they are missing."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from core.files import downloads
from core.files.downloads import Remote
from text.corpus.published import (
    CB513,
    FLIP,
    Published,
    cb513_table,
    find_published,
    flip_table,
    label_last,
    multi30k,
    sst2,
    ud_english_ewt,
)

CONTENT = b"one line\nanother\n"


def packed_file(folder: Path) -> Published:
    packed = gzip.compress(CONTENT)
    (folder / "set").mkdir()
    (folder / "set" / "a.en.gz").write_bytes(packed)
    origin = Remote("set/a.en.gz", "https://nowhere.invalid/a.en.gz", sha(packed), "use your own")
    return Published("set/a.en", sha(CONTENT), origin, gzip.decompress)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_it_is_unpacked_once(tmp_path: Path) -> None:
    file = packed_file(tmp_path)
    assert b"".join(find_published(file, tmp_path).read()) == CONTENT
    (tmp_path / "set" / "a.en.gz").unlink()
    assert b"".join(find_published(file, tmp_path).read()) == CONTENT


def test_another_file_in_its_place_is_refused(tmp_path: Path) -> None:
    file = packed_file(tmp_path)
    (tmp_path / "set" / "a.en").write_bytes(CONTENT + b"more")
    with pytest.raises(ValueError, match="a.en is not the published file"):
        find_published(file, tmp_path)


@pytest.mark.parametrize(
    "file", [multi30k("train", "de"), sst2("train"), sst2("glue-train"), ud_english_ewt("dev"), FLIP, CB513]
)
def test_a_missing_file_is_named_with_its_home(
    file: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(downloads, "urlopen", unreachable)
    with pytest.raises(ValueError, match="is missing and could not be downloaded") as caught:
        find_published(file, tmp_path)
    said = str(caught.value)
    assert "https://raw.githubusercontent.com/" in said
    assert f"put the file at {tmp_path / file.origin.path}, or use" in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_every_published_file_that_is_here_is_the_published_one(data_root: Path) -> None:
    files = [multi30k(part, end) for part in ("train", "val", "test_2016_flickr") for end in ("en", "de")]
    files += [sst2(part) for part in ("train", "dev", "test", "glue-train", "glue-dev")]
    files += [*map(ud_english_ewt, ("train", "dev", "test")), FLIP, CB513]
    here = [file for file in files if (data_root / file.path).exists()]
    for file in here:
        assert find_published(file, data_root).path == data_root / file.path


def test_labels_move_behind_their_sentences() -> None:
    assert label_last(b"1 a good one\n0 bad , b\xc3\xa9\n") == b"sentence\tlabel\na good one\t1\nbad , b\xc3\xa9\t0\n"


def test_three_fasta_files_become_one_table() -> None:
    files = {
        "sequences": ">x-A\nMK\nV\n>y-B\nX\n>z-C\nAG\n",
        "mask": ">x-A\n011\n>y-B\n1\n>z-C\n10\n",
        "sampled": ">x-A SET=train VALIDATION=False\nHH\nE\n>y-B SET=train VALIDATION=True\nC\n"
        ">z-C SET=test VALIDATION=False\nEC\n",
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for name, text in files.items():
            out.writestr(f"splits/{name}.fasta", text)
    assert flip_table(archive.getvalue()).decode().splitlines() == [
        "id\tsplit\tsequence\tq3\tresolved",
        "x-A\ttrain\tMKV\tHHE\t011",
        "y-B\tvalid\tX\tC\t1",
        "z-C\ttest\tAG\tEC\t10",
    ]


def test_cb513_loses_its_spaces() -> None:
    content = b"input, dssp3, dssp8, disorder, cb513_mask\nR T,C H,C G,1.0 0.0,1.0 1.0\n"
    assert cb513_table(content) == b"sequence\tq3\tq8\tresolved\tmask\nRT\tCH\tCG\t10\t11\n"

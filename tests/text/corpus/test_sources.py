"""What `data` may name, in which order it is read, what is refused, and how the text is divided."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.corpus import sources
from text.corpus.sources import (
    Document,
    Source,
    content_hash,
    decoded,
    find_source,
    place_to_cut,
    remembered_sha256,
    split,
    texts,
)


def read(source: Source) -> list[str]:
    return [b"".join(document.read()).decode() for document in source.documents()]


def write(folder: Path, **contents: str) -> None:
    for name, text in contents.items():
        file = folder / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def test_a_file_of_any_suffix_is_a_text(tmp_path: Path) -> None:
    write(tmp_path, text_xyz="hello")
    assert read(find_source(tmp_path / "text.xyz")) == ["hello"]


def test_a_document_can_be_read_again(tmp_path: Path) -> None:
    write(tmp_path, a_txt="hello")
    source = find_source(str(tmp_path / "a.txt"))
    assert read(source) == read(source)
    (document,) = source.documents()
    assert list(document.read()) == list(document.read()) == [b"hello"]


def test_a_folder_is_read_in_the_order_of_its_paths_without_what_is_hidden_empty_or_no_text(
    tmp_path: Path,
) -> None:
    write(tmp_path, b_txt="3", a_MD="1", a__z_py="2", c_png="no", empty_txt="", _git__x_txt="no", _h_txt="no")
    assert (tmp_path / ".git" / "x.txt").exists()
    assert read(find_source(tmp_path)) == ["1", "2", "3"]


def test_a_glob_takes_every_file_that_it_matches(tmp_path: Path) -> None:
    write(tmp_path, b_log="2", a_log="1", c_txt="no", deep__d_log="3")
    assert read(find_source(f"{tmp_path}/*.log")) == ["1", "2"]
    assert read(find_source(f"{tmp_path}/**/*.log")) == ["1", "2", "3"]


def test_a_file_with_the_characters_of_a_glob_in_its_name_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("hello")
    assert read(find_source(tmp_path / "a[1].txt")) == ["hello"]


def test_pydoc_needs_neither_network_nor_files(tmp_path: Path) -> None:
    (text,) = read(find_source("pydoc", tmp_path))
    assert len(text) > 200_000
    assert "assert" in text
    assert list(tmp_path.iterdir()) == []


def test_shakespeare_is_taken_from_the_data_root(data_root: Path) -> None:
    (text,) = read(find_source("shakespeare", data_root))
    assert len(text) == 1_115_394
    assert text.startswith("First Citizen:\nBefore we proceed")


def test_shakespeare_without_network_names_the_file_its_place_and_pydoc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ValueError, match=r"shakespeare/input\.txt .*`pydoc`") as error:
        find_source("shakespeare", tmp_path)
    assert str(tmp_path / "shakespeare" / "input.txt") in str(error.value)


def test_an_unknown_name_suggests_the_nearest_and_says_what_is_accepted() -> None:
    with pytest.raises(ValueError, match="data = 'shakespere'.*'shakespeare'"):
        find_source("shakespere")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data = '.*missing\.txt'.*shakespeare, pydoc.*hf:NAME"):
        find_source(tmp_path / "missing.txt")


def test_a_folder_or_glob_without_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path, a_png="no")
    with pytest.raises(ValueError, match=r"\.txt"):
        find_source(tmp_path)
    with pytest.raises(ValueError, match="matches no file"):
        find_source(f"{tmp_path}/*.txt")


def test_empty_texts_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a_txt="", b_txt="")
    for data in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(ValueError, match=f"{data} is empty"):
            content_hash(find_source(data), tmp_path / "hashes")


def test_the_hash_is_of_content_and_documents_not_of_names(tmp_path: Path) -> None:
    def hashed(folder: str, **contents: str) -> str:
        write(tmp_path / folder, **contents)
        return content_hash(find_source(tmp_path / folder), tmp_path / "hashes")

    assert hashed("one", a_txt="ab", b_txt="c") == hashed("two", x_md="ab", y_md="c")
    assert hashed("one") != hashed("three", a_txt="a", b_txt="bc")
    assert hashed("one") != hashed("four", a_txt="c", b_txt="ab")


def test_the_hash_of_a_large_file_is_kept_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "REMEMBERED", 4)
    file, memory = tmp_path / "large.txt", tmp_path / "hashes"
    file.write_bytes(b"12345")
    first = remembered_sha256(file, memory)
    assert first == hashlib.sha256(b"12345").hexdigest()
    (note,) = memory.iterdir()
    note.write_text(note.read_text().replace(first, "from memory"))
    assert remembered_sha256(file, memory) == "from memory"
    status = file.stat()
    file.write_bytes(b"54321")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert remembered_sha256(file, memory) == hashlib.sha256(b"54321").hexdigest()
    note.write_text("damaged")
    assert remembered_sha256(file, memory) == hashlib.sha256(b"54321").hexdigest()


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face data set in a folder of this machine: two splits, two columns of text."""
    config = pytest.importorskip("datasets.config", reason="the datasets library is not installed")
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "rows"
    folder.mkdir()
    for part, lines in (("train", ["one", "", "two\n"]), ("test", ["three"])):
        rows = [json.dumps({"text": text, "other": text.upper(), "n": 1}) for text in lines]
        (folder / f"{part}.jsonl").write_text("\n".join(rows))
    return folder


def test_hugging_face_rows_are_documents(rows: Path) -> None:
    assert read(find_source(f"hf:{rows}")) == ["one", "two\n"]
    assert read(find_source(f"hf:{rows}::test:other")) == ["THREE"]


def test_hugging_face_refuses_what_is_not_there(rows: Path) -> None:
    with pytest.raises(ValueError, match="'n'.*text, other"):
        find_source(f"hf:{rows}::train:n")
    with pytest.raises(ValueError, match=r"cannot be loaded as hf:NAME\[:CONFIG\]"):
        find_source(f"hf:{rows}::validation")
    with pytest.raises(ValueError, match="cannot be loaded as hf:NAME"):
        find_source(f"hf:{rows}/missing")


def test_without_the_datasets_library_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="pip install datasets"):
        find_source("hf:anything")


def test_the_block_size_is_what_documents_are_read_in(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * (2 * sources.BLOCK + 1))
    (document,) = find_source(tmp_path / "a.txt").documents()
    assert [len(block) for block in document.read()] == [sources.BLOCK, sources.BLOCK, 1]


# The text of a source, in blocks or whole


def document(text: str, label: str = "it") -> Document:
    return Document(label, content=text.encode())


def source(*documents: Document) -> Source:
    return Source("some", lambda: iter(documents))


@pytest.mark.parametrize(
    ("text", "end", "place"),
    [
        ("one\n\ntwo\n\nthree", 12, 10),
        ("one\n\ntwo\nthree", 11, 5),
        ("one\ntwo\nthree", 9, 8),
        ("one two three", 5, 5),
        ("one\n\ntwo", 4, 4),  # half a blank line is a line
    ],
)
def test_a_large_text_is_cut_at_a_blank_line_or_else_a_line(text: str, end: int, place: int) -> None:
    assert place_to_cut(text, end) == place


def test_a_document_that_is_not_large_is_encoded_whole() -> None:
    assert list(texts(source(document("One.\n\nTwo.\n")), "document")) == ["One.\n\nTwo.\n"]


def test_a_large_document_is_cut_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "BLOCK", 5)
    monkeypatch.setattr(sources, "LARGEST", 16)
    large = source(document("One.\n\nTwo.\n\nThree.\n\nFour, without an end" + "." * 20, "large.txt"))
    parts = ["One.\n\nTwo.\n\n", "Three.\n\n", "Four, without an", " end............", "........"]
    for _ in range(2):
        assert list(texts(large, "document")) == parts
    [line] = capfd.readouterr().err.splitlines()
    assert "large.txt" in line
    assert "blank lines" in line


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 7))
def test_blocks_join_to_the_text_even_where_they_divide_a_character(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK", size)
        assert "".join(decoded(document(text))) == text


@given(st.lists(st.one_of(st.none(), st.text(max_size=6)), max_size=8), st.integers(1, 30))
def test_the_split_is_after_so_many_characters(stream: list[str | None], cut: int) -> None:
    whole = "".join(text or "" for text in stream)
    sides = list(split(stream, cut))
    assert "".join(text or "" for side, text in sides if side == "train") == whole[:cut]
    assert "".join(text or "" for side, text in sides if side == "validation") == whole[cut:]
    assert sum(text is None for _, text in sides) == stream.count(None)
    assert [side for side, _ in sides] == sorted(side for side, _ in sides)  # "train" comes first


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    ("raw", "byte", "offset"),
    [(b"abc\xe9def", "e9", 3), ("né".encode() + b"\xff", "ff", 3), ("漢".encode() + b"ab\xe6\xbc", "e6", 5)],
)
def test_the_first_byte_that_is_not_utf8_is_named(
    raw: bytes, byte: str, offset: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BLOCK", size)
    with pytest.raises(ValueError, match=f"my.txt .*0x{byte} at offset {offset}$"):
        list(decoded(Document("my.txt", content=raw)))


def test_the_separator_stands_between_documents_only() -> None:
    both = source(document("one"), document("two"))
    assert list(texts(both, "character")) == ["one", "\n\n", "two"]
    assert list(texts(both, "document", separator=None)) == ["one", None, "two"]

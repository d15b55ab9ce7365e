"""What `data` may name, in which order it is read, what is refused, and how the text is divided."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from text.corpus import documents, sources
from text.corpus.documents import Reading
from text.corpus.sources import Source, content_hash, find_source, remembered_sha256


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
    (tmp_path / "a.txt").write_bytes(b"x" * (2 * documents.BLOCK + 1))
    (document,) = find_source(tmp_path / "a.txt").documents()
    assert [len(block) for block in document.read()] == [documents.BLOCK, documents.BLOCK, 1]


# Folders as they are


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path, data__a_txt="1", other__b_txt="2", other__deep__c_txt="3")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "deep" / "back").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "d.txt").symlink_to(tmp_path / "other" / "b.txt")
    assert read(find_source(tmp_path / "data")) == ["1", "2", "2", "3"]


def test_what_a_run_writes_is_no_data(tmp_path: Path) -> None:
    write(tmp_path, a_txt="1", run__config_json="{}", run__metrics_jsonl="{}", run__samples__s_txt="no", z_txt="2")
    (tmp_path / "run" / "checkpoints").mkdir()
    for data in (tmp_path, f"{tmp_path}/**/*.txt"):
        assert read(find_source(data)) == ["1", "2"]
    with pytest.raises(ValueError, match="run holds no text, but is the folder of a run"):
        find_source(tmp_path / "run")
    write(tmp_path, run__own_txt="3")  # a text of the user's, wherever he keeps it
    assert read(find_source(tmp_path / "run")) == read(find_source(f"{tmp_path}/run/**/*.txt")) == ["3"]


@pytest.mark.skipif(sys.platform == "win32" or not os.getuid(), reason="permissions that root and Windows ignore")
def test_an_unreadable_file_is_named_or_left_out(tmp_path: Path) -> None:
    write(tmp_path, a_txt="1", b_txt="2")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(ValueError, match=r"a\.txt cannot be read.*--skip-bad"):
        find_source(tmp_path)
    assert read(find_source(tmp_path, reading=Reading(bad="skip"))) == ["2"]


def test_a_broken_link_is_named_or_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, b_txt="2")
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    for data in (tmp_path, f"{tmp_path}/*.txt"):
        with pytest.raises(ValueError, match=r"a\.txt is a link to what does not exist.*--skip-bad"):
            find_source(data)
        assert read(find_source(data, reading=Reading(bad="skip"))) == ["2"]
        assert "a.txt is a link" in capfd.readouterr().err


def test_a_folder_gives_its_texts_or_else_its_tables_and_says_what_is_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def labels(column: str = "") -> list[str]:
        return [Path(document.label).name for document in find_source(tmp_path, None, Reading(column)).documents()]

    write(tmp_path, b_jsonl='{"text": "1"}', a_csv="text\n2\n", c_png="no")
    assert labels() == ["a.csv", "b.jsonl"]
    assert "1 .png" in capfd.readouterr().err
    write(tmp_path, README_md="About")
    assert labels() == ["README.md"]
    assert "1 .jsonl" in capfd.readouterr().err
    assert labels("text") == ["a.csv", "b.jsonl"]


def test_several_things_are_one_text_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, b_txt="1", folder__a_md="2", rows_jsonl='{"text": "3"}')
    names = (str(tmp_path / "b.txt"), str(tmp_path / "folder"), str(tmp_path / "rows.jsonl"))
    source = find_source(names)
    assert [document.path.name for document in source.documents() if document.path] == ["b.txt", "a.md", "rows.jsonl"]
    assert source.name == ", ".join(names)


@pytest.mark.parametrize("data", ["", "  ", (), ("pydoc", "")])
def test_an_empty_word_is_refused(data: str | tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"data = .* is empty; accepted are"):
        find_source(data)


def test_the_hash_tells_how_the_same_bytes_are_read(tmp_path: Path) -> None:
    write(tmp_path, a_txt='"one"\n', a_jsonl='"one"\n', b_txt='"two"', b_md='\ufeff"two"')
    hashes = [content_hash(find_source(file), tmp_path / "hashes") for file in sorted(tmp_path.glob("*.*"))]
    assert len(set(hashes)) == 4


def test_the_held_out_novel_is_another_book(data_root: Path) -> None:
    names = ["british_novels", "british_novels:valid", "british_novels:test"]
    texts = [b"".join(next(iter(find_source(name).documents())).read()) for name in names]
    assert [len(text) for text in texts] == [17_145_023, 668_092, 498_293]
    assert texts[1].startswith(b"SENSE AND SENSIBILITY")
    assert texts[1][1000:1200] not in texts[0]
    with pytest.raises(ValueError, match="the parts of british_novels are train, valid, test"):
        find_source("british_novels:best")


def test_novels_that_are_missing_or_others_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"british_novels/train.txt is missing: put it at .*train.txt, or"):
        find_source("british_novels", tmp_path)
    (tmp_path / "british_novels").mkdir()
    (tmp_path / "british_novels" / "train.txt").write_text("another")
    with pytest.raises(ValueError, match="train.txt is not the file of that name"):
        find_source("british_novels", tmp_path)

"""The console script: every command in a list, and each as `python -m` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.cli.triptych import PACKAGES, commands, listing, run

ROOT = Path(__file__).parents[3]
SCRIPT = "import sys; from core.cli.triptych import main; main()"


def triptych(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT, *words], cwd=ROOT, capture_output=True, text=True)


def test_every_command_is_listed_with_what_it_does_and_none_is_imported() -> None:
    code = "import sys; from core.cli.triptych import listing; listing(); print(*{'text', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    found = {package: dict(commands(package)) for package in PACKAGES}
    assert {"train", "evaluate", "sample", "export"} <= found["text"].keys()
    assert {"train", "evaluate", "predict", "explain", "export"} <= found["vision"].keys()
    assert {"train", "evaluate", "collect", "rollout", "finetune"} <= found["decision"].keys()
    assert "demo" in found["benchmarks"]
    assert all(summary in listing() for names in found.values() for summary in names.values())
    assert all(summary for names in found.values() for summary in names.values())


def test_the_package_of_a_command_that_only_one_has_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["tokenize"])
    assert ended.value.code == 2
    assert "error: name SOURCE: python -m text.tokenize" in capsys.readouterr().err
    with pytest.raises(ValueError, match="unknown word 'train'"):
        run(["train"])


def test_it_runs_a_command_as_python_m_does() -> None:
    ours = triptych("text", "train", "--help")
    theirs = subprocess.run([sys.executable, "-m", "text.train", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert ours.returncode == theirs.returncode == 0
    assert "python -m text.train" in ours.stdout
    assert ours.stdout == theirs.stdout


def test_a_mistake_of_a_command_ends_as_the_command_does() -> None:
    done = triptych("text", "train", "no-such-preset")
    assert done.returncode == 2
    assert "no-such-preset" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["txt", "train"], ["'txt'", "'text'"]),
        (["text", "trian"], ["'trian'", "'train'"]),
        (["text"], ["triptych text", "train", "sample"]),
    ],
)
def test_an_unknown_word_names_the_nearest(words: list[str], parts: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        run(words)
    assert all(part in str(caught.value) for part in parts)


def test_without_arguments_it_lists() -> None:
    done = triptych()
    assert done.returncode == 0
    assert done.stdout.strip() == listing().strip()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with two kinds of things kept, and files of others beside them."""
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path))
    for kind in ("text", "images"):
        entry = tmp_path / "cache" / kind / (kind[0].encode().hex() * 16)
        entry.mkdir(parents=True)
        (entry / "content.bin").write_bytes(b"x" * 1500)
    (tmp_path / "cache" / "text" / "thesis.txt").write_text("mine")
    (tmp_path / "shakespeare.txt").write_text("to be")
    return tmp_path


def test_the_cache_is_listed(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["cache"])
    *entries, total = capsys.readouterr().out.splitlines()
    assert ["images" in entries[0], "text" in entries[1], len(entries)] == [True, True, 2]
    assert "1.5 kB" in entries[0]
    assert total == f"3 kB kept in {cache / 'cache'}"


@pytest.mark.parametrize(("words", "left"), [(["text"], {"images"}), ([], set())])
def test_the_cache_is_cleared_of_what_is_ours(cache: Path, words: list[str], left: set[str]) -> None:
    run(["cache", "--clear", *words])
    assert {path.parent.parent.name for path in (cache / "cache").rglob("content.bin")} == left
    assert (cache / "cache" / "text" / "thesis.txt").read_text() == "mine"
    assert (cache / "shakespeare.txt").exists()


@pytest.mark.parametrize("words", [["--clear", "texts"], ["clear"]])
def test_a_kind_that_is_not_there_clears_nothing(cache: Path, words: list[str]) -> None:
    with pytest.raises(ValueError, match=f"'{words[-1]}' is not in the cache, which has: images, text"):
        run(["cache", *words])
    assert len(list((cache / "cache").rglob("content.bin"))) == 2

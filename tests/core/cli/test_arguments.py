"""The fields of a dataclass as options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from core.cli.arguments import ALONE, REQUIRED, TEXT, named_path, parse_fields, run_folder
from core.config import PositionConfig


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    """A fraction."""
    sizes: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate = {self.rate} must not be negative")

    def unused(self) -> dict[str, str]:
        return {"sizes": "rate = 0 needs none"} if self.rate == 0 else {}


@dataclass(frozen=True)
class Base:
    name: str = "x"
    """Inherited, 100 % of it."""


@dataclass(frozen=True)
class Options(Base):
    out: Path | None = None
    count: int | None = 3
    """How many."""
    pair: tuple[float, float] = (0.9, 0.95)
    mode: Literal["off", "fast", "slow"] = field(default="off", metadata={ALONE: "fast"})
    json: bool = False
    inner: Inner = field(default_factory=Inner)
    table: dict[str, int] | None = None
    """Not for the command line."""


def parsed(line: str) -> Options:
    return parse_fields(Options(), line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", Options()),
        ("--name y --count 5", Options(name="y", count=5)),
        ("--count None --out a/b", Options(count=None, out=Path("a/b"))),
        ("--pair 0.1 -2e-3 --inner.rate=1", Options(pair=(0.1, -0.002), inner=Inner(rate=1.0))),
        ("--inner.sizes 3 4 5 --json", Options(inner=Inner(sizes=(3, 4, 5)), json=True)),
        ("--inner.sizes --no-json", Options(inner=Inner(sizes=()))),
        ("--mode", Options(mode="fast")),
        ("--mode --json", Options(mode="fast", json=True)),
        ("--mode slow", Options(mode="slow")),
        ("--count 1e3 --inner.sizes 2.5e2 7.0 -3", Options(count=1000, inner=Inner(sizes=(250, 7, -3)))),
    ],
)
def test_words_become_the_values_of_fields(line: str, expected: Options) -> None:
    assert parsed(line) == expected


def test_hyphens_and_underscores_are_the_same() -> None:
    @dataclass(frozen=True)
    class Named:
        two_words: str = "x"

    assert parse_fields(Named(), ["--two-words", "a_b"]) == parse_fields(Named(), ["--two_words=a_b"]) == Named("a_b")


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("--nmae y", ["--nmae", "did you mean --name?"]),
        ("--rate 3", ["--rate", "did you mean --inner.rate?"]),
        ("--zzz 3", ["--zzz", "--help"]),
        ("--table 3", ["--table"]),
        ("more", ["'more'"]),
        ("--name", ["--name", "one argument"]),
        ("--count many", ["--count", "'many'", "int"]),
        ("--count 1.5", ["--count", "'1.5'", "int"]),
        ("--count 1e999", ["--count", "'1e999'", "int"]),
        ("--pair 0.9", ["--pair", "2 arguments"]),
        ("--mode quick", ["--mode", "'quick'", "'fast'", "'slow'"]),
        ("--inner.rate -1", ["inner", "rate = -1.0"]),
        ("--inner.rate 0 --inner.sizes 3", ["--inner.sizes has no effect", "rate = 0"]),
    ],
)
def test_a_mistake_is_one_sentence_that_names_option_word_and_what_is_accepted(line: str, parts: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parsed(line)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


def test_what_another_choice_leaves_without_effect_gets_its_default() -> None:
    sines = PositionConfig("sinusoidal", pairing="halves")
    assert parse_fields(sines, ["--kind", "learned"]) == PositionConfig("learned")
    assert parse_fields(sines, ["--kind", "rotary"]) == PositionConfig("rotary", pairing="halves")
    with pytest.raises(ValueError, match="--pairing has no effect"):
        parse_fields(sines, ["--kind", "learned", "--pairing", "halves"])


def test_help_shows_the_docstrings_below_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_fields(Options(), ["--help"], prog="python -m x", description="Two lines\nas written.")
    assert not end.value.code
    shown = capsys.readouterr().out
    assert "Two lines\nas written." in shown
    text = " ".join(shown.split())
    for part in ("--name STR Inherited, 100 % of it. (default: x)", "--inner.rate FLOAT A fraction. (default: 0.5)"):
        assert part in text
    assert "--pair FLOAT FLOAT (default: 0.9 0.95)" in text
    assert "--table" not in text


def test_a_run_folder_comes_first() -> None:
    assert run_folder(["a/run", "--json"], "text.evaluate") == (Path("a/run"), ["--json"])
    assert run_folder(["--help"], "text.evaluate")[1] == ["--help"]
    for line in ([], ["--json"]):
        with pytest.raises(ValueError, match=r"python -m text\.evaluate DIR"):
            run_folder(line, "text.evaluate")


@pytest.mark.parametrize("word", ["", "  "])
def test_an_empty_word_names_nothing(word: str) -> None:
    """As an unset variable gives it."""
    for option in ("--name", "--out"):
        for words in ([option, word], [f"{option}={word}"]):
            with pytest.raises(ValueError, match=f"{option}: '{word}' is empty"):
                parse_fields(Options(), words)
    with pytest.raises(ValueError, match="DIR: .* is empty"):
        run_folder([word], "text.evaluate")


def test_the_home_folder_is_found_in_every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    home = parse_fields(Options(), ["--out=~/x", "--name=~/data/*.txt"])
    assert (home.out, home.name) == (Path("/home/me/x"), "/home/me/data/*.txt")
    assert run_folder(["~/run"], "text.evaluate")[0] == named_path("~/run", "DIR") == Path("/home/me/run")


@dataclass(frozen=True)
class Writing:
    prompt: str | None = field(default=None, metadata={TEXT: True})
    """What to continue."""
    out: Path = field(default=Path(), metadata={REQUIRED: True})
    """Where to."""


@pytest.mark.parametrize("word", ["", "~/x", "None", " "])
def test_text_is_taken_as_it_stands(word: str) -> None:
    assert parse_fields(Writing(), [f"--prompt={word}"]).prompt == word


def test_what_is_required_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_fields(Writing(), ["--help"], prog="python -m x")
    shown = " ".join(capsys.readouterr().out.split())
    assert "python -m x --out OUT [--field VALUE ...]" in shown
    assert "Where to. (required)" in shown
    assert "What to continue. (default: none)" in shown


def test_an_unquoted_pattern_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(ValueError, match=r"unexpected word 'b.txt'; .*a pattern must be quoted: '\*.txt'"):
        parsed("--name a.txt b.txt")
    with pytest.raises(ValueError, match="options begin with --$"):
        parsed("--name a.txt c.txt")


@dataclass(frozen=True)
class Named:
    data: str | tuple[str, ...] = "a"
    stop: tuple[str, ...] = ()


def test_one_word_or_several() -> None:
    def named(line: str) -> Named:
        return parse_fields(Named(), line.split())

    assert named("").data == "a"
    assert named("--data b").data == "b"
    assert named("--data b c").data == ("b", "c")
    assert named("--data b --data c").data == "c"  # the last one, as of any option
    assert named("--stop x y --stop z").stop == ("x", "y", "z")
    with pytest.raises(ValueError, match="--data"):
        named("--data")

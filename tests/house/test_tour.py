"""The tour, and one batch through each panel, run as they stand."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from benchmarks.measure.record import ROOT

TOUR, BATCHES = ((ROOT / "docs" / name).read_text("utf-8") for name in ("tour.md", "one-batch.md"))
PANELS = {section.split(":")[0]: section for section in re.split(r"^## ", BATCHES, flags=re.MULTILINE)[1:]}
LESSONS = {section.split(".")[0]: section for section in re.split(r"^## (?=\d)", TOUR, flags=re.MULTILINE)[1:]}
STOPS = 8


def run(text: str, name: str) -> int:
    """Runs the snippets of a text one after another; how many lines there were."""
    code = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    lines: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(code, out=lines.append)
    assert results.failed == 0, "".join(lines)
    return results.attempted


def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(TOUR, "docs/tour.md") > 60


def test_every_lesson_has_code_a_file_and_its_view_and_most_a_picture() -> None:
    assert [*LESSONS] == [str(n) for n in range(1, len(LESSONS) + 1)]
    for mark in (">>> ", "](../", "**In the page**"):
        assert [name for name, text in LESSONS.items() if mark not in text] == []
    assert len([text for text in LESSONS.values() if "![" in text]) >= 8


def test_the_lessons_are_in_the_list_of_contents() -> None:
    titles = re.findall(r"^## (\d+\. .*)$", TOUR, re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    assert re.findall(r"\]\(#([\w-]+)\)", TOUR) == anchors


@pytest.mark.parametrize("panel", PANELS)
def test_a_batch_goes_through_its_panel(panel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(PANELS[panel], f"docs/one-batch.md, {panel}") > STOPS


@pytest.mark.parametrize("panel", PANELS)
def test_a_batch_has_few_stops_and_visits_few_files(panel: str) -> None:
    assert len(re.findall(r"^\*\*\d\.", PANELS[panel], re.MULTILINE)) == STOPS
    assert len(set(re.findall(rf"\.\./{panel.lower()}/[\w/]+\.py", PANELS[panel]))) <= STOPS


def test_a_batch_goes_through_every_panel() -> None:
    assert [*PANELS] == ["Text", "Vision", "Decision"]

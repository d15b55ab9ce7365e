"""The tour of each panel runs as it stands."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from benchmarks.measure.record import ROOT

PAGE = (ROOT / "docs" / "tour.md").read_text("utf-8")
PANELS = {section.split(":")[0]: section for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}
STOPS = 8


@pytest.mark.parametrize("panel", PANELS)
def test_a_panels_tour_runs(panel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = doctest.DocTestParser().get_doctest(PANELS[panel], {}, panel, "docs/tour.md", 0)
    lines: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(code, out=lines.append)
    assert results.attempted > STOPS
    assert results.failed == 0, "".join(lines)


@pytest.mark.parametrize("panel", PANELS)
def test_a_tour_has_few_stops_and_visits_few_files(panel: str) -> None:
    assert len(re.findall(r"^\*\*\d\.", PANELS[panel], re.MULTILINE)) == STOPS
    assert len(set(re.findall(rf"\.\./{panel.lower()}/[\w/]+\.py", PANELS[panel]))) <= STOPS


def test_the_tour_has_every_panel() -> None:
    assert [*PANELS] == ["Text", "Vision", "Decision"]

"""Every line of docs/own-data.md is executed: each panel's section is one shell session, in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure.record import ROOT

PAGE = (ROOT / "docs" / "own-data.md").read_text("utf-8")
SECTIONS = {section.split("\n")[0]: section for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}
INTERPRETER = {"sh": "bash -e", "python": "python"}


def test_every_panel_has_a_section() -> None:
    assert [*SECTIONS] == ["Text", "Images", "Trajectories"]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_runs_from_its_first_line_to_its_last(section: str, tmp_path: Path) -> None:
    found = re.findall(r"^```(\w+)\n(.*?)^```", SECTIONS[section], re.DOTALL | re.MULTILINE)
    assert {language for language, _ in found} <= {*INTERPRETER}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "SDL_VIDEODRIVER": "dummy"}
    for language, code in found:
        words = INTERPRETER[language].split()
        done = subprocess.run(words, input=code, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"

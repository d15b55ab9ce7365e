"""Every line of some pages is executed: each of their sections is one shell session, in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure.record import ROOT


def sections(page: str) -> dict[str, str]:
    """The sections of a page of docs/ by their headings."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    return {section.split("\n")[0]: section for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}


OWN_DATA, AFTER_TRAINING = sections("own-data.md"), sections("after-training.md")
SECTIONS = OWN_DATA | AFTER_TRAINING
INTERPRETER = {"sh": "bash -e", "python": "python"}
SHOWN = {"console", "pycon"}  # behind a prompt: a server and who asks it, which test_serving.py runs


def test_every_panel_has_a_section() -> None:
    assert [*OWN_DATA] == ["Text", "Images", "Trajectories"]


@pytest.mark.parametrize(
    "section", [*OWN_DATA, *(pytest.param(each, marks=pytest.mark.slow) for each in AFTER_TRAINING)]
)
def test_a_section_runs_from_its_first_line_to_its_last(section: str, tmp_path: Path) -> None:
    found = re.findall(r"^```(\w+)\n(.*?)^```", SECTIONS[section], re.DOTALL | re.MULTILINE)
    assert {language for language, _ in found} <= {*INTERPRETER, *SHOWN}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "SDL_VIDEODRIVER": "dummy"}
    for language, code in found:
        if language in SHOWN:
            continue
        words = INTERPRETER[language].split()
        done = subprocess.run(words, input=code, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"

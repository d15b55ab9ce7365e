"""Spoken digits: every speaker left out in turn, measured by the commands and written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import vision_sounds
from tests.vision.data.sounds import write_takes


def test_both_parts_are_measured_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path))
    monkeypatch.setattr(vision_sounds, "SPEAKERS", ("ann",))
    write_takes(tmp_path, ("ann", "bob"), takes=6)
    words = ["--seeds", "1", "--steps", "2", "--results", str(tmp_path)]
    vision_sounds.run(vision_sounds.parse(words))
    found = json.loads((tmp_path / "vision_sounds.json").read_text())
    assert [*found] == ["speakers", "official"], "the harder question first"
    for part, count in (("speakers", 60), ("official", 100)):
        [accuracy] = next(iter(found[part]["figures"]["each"].values()))
        assert accuracy * count == pytest.approx(round(accuracy * count), rel=1e-4)
        assert found[part]["figures"]["mean"] == accuracy
    assert "| ann" in capsys.readouterr().out

"""Spoken digits: every speaker left out in turn, measured by the commands and written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import vision_sounds
from tests.vision.data.sounds import write_takes


@pytest.mark.slow
def test_every_speaker_is_left_out_and_what_is_measured_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path))
    monkeypatch.setattr(vision_sounds, "SPEAKERS", ("ann",))
    write_takes(tmp_path, ("ann", "bob"), takes=6)
    assert vision_sounds.parse([]).parts == ["speakers", "official"], "the harder question first"
    words = ["--parts", "speakers", "--steps", "2", "--results", str(tmp_path)]
    vision_sounds.run(vision_sounds.parse(words))
    [(part, found)] = json.loads((tmp_path / "vision_sounds.json").read_text()).items()
    [(speaker, [accuracy])] = found["figures"]["each"].items()
    assert (part, speaker, found["figures"]["mean"]) == ("speakers", "ann", accuracy)
    assert accuracy * 60 == pytest.approx(round(accuracy * 60), rel=1e-4)
    assert "| ann" in capsys.readouterr().out

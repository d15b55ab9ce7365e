"""JSON files."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.files.json_files import read_json


def test_json_that_is_absent_or_broken_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no config.json in"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        read_json(tmp_path / "config.json")

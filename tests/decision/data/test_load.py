"""Data sets by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from decision.data.sources import load_data
from tests.decision.examples import same, trajectories


def test_a_file_is_found_as_a_path_and_under_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = trajectories([3, 4])
    data.save(tmp_path / "local" / "data.npz")
    assert same(load_data(tmp_path / "local" / "data.npz"), data)
    assert same(load_data("local/data.npz", root=tmp_path), data)
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path))
    assert same(load_data("local/data.npz"), data)


@pytest.mark.parametrize("name", ["nothing.npz", "nothing.hdf5", ""])
def test_data_that_is_not_there_is_refused_with_what_is_accepted(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"^there is no data '{name}'; accepted are: a file that decision.collect"):
        load_data(name, root=tmp_path)

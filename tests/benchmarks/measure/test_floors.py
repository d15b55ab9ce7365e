"""The oldest versions are those of pyproject.toml."""

from __future__ import annotations

import pytest

from benchmarks.measure.floors import constraints, floors


def test_a_floor_becomes_a_version_with_its_bug_fixes() -> None:
    given = ["torch>=2.10", "datasets>=3", "minari[hdf5]>=0.5.3", "gymnasium[a,b]>=1.0"]
    assert [*constraints(given)] == ["torch==2.10.*", "datasets==3.0.*", "minari==0.5.3.*", "gymnasium==1.0.*"]


@pytest.mark.parametrize("requirement", ["torch", "torch==2.10", "torch>=2,<3"])
def test_a_requirement_without_a_plain_floor_is_refused(requirement: str) -> None:
    with pytest.raises(ValueError, match=requirement):
        [*constraints([requirement])]


def test_every_dependency_of_this_project_has_a_floor() -> None:
    assert {"torch==2.10.*", "pytest==8.3.*"} <= {*floors()}

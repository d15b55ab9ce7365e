"""Configurations survive JSON exactly, and what does not fit is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.files.serialize import from_dict, nearest, to_dict


@dataclass(frozen=True)
class Inner:
    kind: Literal["a", "b", 3] = "a"
    rates: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    needed: int
    out: Path = Path("runs")
    steps: int | None = None
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    several: list[Inner] = field(default_factory=list)
    table: dict[str, float] = field(default_factory=dict)
    flag: bool = False
    number_or_name: float | str = 0.5


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INNERS = st.builds(
    Inner,
    kind=st.sampled_from(["a", "b", 3]),
    rates=st.tuples(FLOATS, FLOATS),
    names=st.lists(st.text()).map(tuple),
)
OUTERS = st.builds(
    Outer,
    needed=st.integers(),
    out=st.text("ab/.").map(Path),
    steps=st.none() | st.integers(),
    inner=INNERS,
    maybe=st.none() | INNERS,
    several=st.lists(INNERS, max_size=2),
    table=st.dictionaries(st.text(), FLOATS, max_size=2),
    flag=st.booleans(),
    number_or_name=FLOATS | st.text(),
)


@given(OUTERS)
def test_every_configuration_survives_json(config: Outer) -> None:
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config), allow_nan=False))) == config


def test_absent_keys_take_their_defaults() -> None:
    assert from_dict(Outer, {"needed": 1, "inner": {"kind": "b"}}) == Outer(needed=1, inner=Inner(kind="b"))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"needed": 1, "stepz": 2}, "unknown key 'stepz' of Outer; did you mean 'steps'?"),
        ({"needed": 1, "inner": {"kinds": "a"}}, "unknown key 'inner.kinds' of Inner; did you mean 'kind'?"),
        ({}, "missing key 'needed' of Outer"),
        ({"needed": "1"}, "needed = '1' is not of type int"),
        ({"needed": True}, "needed = True is not of type int"),
        ({"needed": 1, "flag": 1}, "flag = 1 is not of type bool"),
        ({"needed": 1, "inner": {"kind": "c"}}, "inner.kind = 'c' is not one of: a, b, 3"),
        ({"needed": 1, "inner": {"rates": [1.0]}}, r"inner.rates = \[1.0\] must hold 2 values"),
        ({"needed": 1, "inner": {"names": [1]}}, r"inner.names\[0\] = 1 is not of type str"),
        ({"needed": 1, "maybe": {"kind": 4}}, "maybe.kind = 4 is not one of: a, b, 3"),
        ({"needed": 1, "inner": 7}, "inner must be an object of named values, got 7"),
    ],
)
def test_what_does_not_fit_is_named(data: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        from_dict(Outer, data)


def test_a_number_that_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"number_or_name = inf cannot be written as JSON"):
        to_dict(Outer(needed=1, number_or_name=float("inf")))


def test_nearest_names_the_likely_word_or_all() -> None:
    assert nearest("shakespear", ["pydoc", "shakespeare"]) == "did you mean 'shakespeare'?"
    assert nearest("zzz", ["pydoc", "shakespeare"]) == "known are: pydoc, shakespeare"

"""A field without effect is declared once, and refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from core.checks import check_choices, refuse_unused, unused_fields


@dataclass(frozen=True)
class Inner:
    kind: Literal["a", 1] = "a"
    size: int = 3
    names: list[str] = field(default_factory=list)

    def unused(self) -> dict[str, str]:
        return {} if self.kind == "a" else dict.fromkeys(("size", "names"), "only a reads it")


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    rest: int = 0


def test_fields_without_effect_are_collected_by_dotted_name():
    assert unused_fields(Outer()) == {}
    assert unused_fields(Outer(Inner(1))) == dict.fromkeys(("inner.size", "inner.names"), "only a reads it")


@pytest.mark.parametrize(("config", "named"), [(Inner(1, 4), "size = 4"), (Inner(1, names=["x"]), r"names = \['x'\]")])
def test_a_field_without_effect_is_refused_unless_it_holds_its_default(config, named):
    with pytest.raises(ValueError, match=f"{named} .*only a reads it"):
        refuse_unused(config)
    refuse_unused(Inner(1))
    refuse_unused(Inner("a", 4, ["x"]))


@pytest.mark.parametrize("kind", ["b", True, 1.0, None])
def test_a_choice_is_one_of_the_listed_values_and_of_its_type(kind):
    with pytest.raises(ValueError, match=f"kind = {kind!r} .*a, 1"):
        check_choices(Inner(kind))

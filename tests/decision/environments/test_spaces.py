"""Spaces: as Gymnasium's, through JSON and back, and what fits what."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from core.files.serialize import from_dict, to_dict
from decision.environments.spaces import (
    Space,
    channels_first,
    contains,
    describe,
    describe_actions,
    frames,
    mismatch,
    spanned,
    unfit,
)

KNOWN = [
    spaces.Box(-np.inf, np.inf, (11,), np.float64),
    spaces.Box(np.array([-1, -2.5]), np.array([3, np.inf]), dtype=np.float64),
    spaces.Box(np.arange(6, dtype=np.float32).reshape(2, 3), 9.5),
    spaces.Box(-1, 1, (), np.float32),
    spaces.Box(-5, 5, (3,), np.int64),
    spaces.Box(0, 255, (40, 36, 3), np.uint8),
    spaces.Discrete(3),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, 0]]),
]


@pytest.mark.parametrize("space", KNOWN, ids=str)
def test_a_space_survives_its_description_and_json(space: spaces.Space[Any]) -> None:
    described = describe(space)
    assert from_dict(Space, json.loads(json.dumps(to_dict(described)))) == described
    assert described.gym() == space
    space.seed(0)
    assert all(described.gym().contains(space.sample()) for _ in range(10))


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.int8, np.uint8])
def test_whole_numbers_may_reach_the_ends_of_their_type(kind: Any) -> None:
    limits = np.iinfo(kind)
    for low, high in ((limits.min, limits.max), (0, limits.max), (limits.min, 7)):
        box = spaces.Box(low, high, (2,), kind)
        assert describe(box).gym() == box


def test_a_bound_in_name_only_is_none() -> None:
    most = np.finfo(np.float32).max
    low, high = describe(spaces.Box(np.array([-most, -3.0], np.float32), np.array([5.0, most], np.float32))).bounds()
    assert low.tolist() == [-math.inf, -3]
    assert high.tolist() == [5, math.inf]


def test_the_bounds_of_a_large_box_take_no_room() -> None:
    image = describe(spaces.Box(0, 255, (210, 160, 3), np.uint8))
    assert (image.low, image.high) == ((0.0,), (255.0,))
    low, high = image.bounds()
    assert low.shape == high.shape == (210, 160, 3)
    assert (low.min(), high.max()) == (0, 255)


def test_bounds_are_infinite_where_there_are_none() -> None:
    low, high = describe(KNOWN[1]).bounds()
    assert low.tolist() == [-1, -2.5]
    assert high.tolist() == [3, math.inf]


def test_dictionaries_and_tuples_are_laid_out_as_gymnasium_flattens_them() -> None:
    nested = spaces.Dict(b=spaces.Box(0, 1, (2,)), a=spaces.Tuple([spaces.Discrete(3), spaces.MultiBinary(2)]))
    flat = describe(nested)
    assert flat.gym() == spaces.flatten_space(nested)
    assert (flat.kind, flat.size) == ("box", 7)


@pytest.mark.parametrize("nested", [spaces.Dict(a=spaces.Discrete(3)), spaces.Tuple([spaces.Box(0, 1, (2,))])])
def test_nested_actions_are_refused(nested: spaces.Space[Any]) -> None:
    with pytest.raises(ValueError, match=f"^a space {type(nested).__name__} is neither a Box nor made of choices"):
        describe_actions(nested)


@pytest.mark.parametrize(
    ("shape", "is_image", "first"),
    [
        ((84, 84, 3), True, False),
        ((4, 84, 84), True, True),
        ((36, 36, 3), True, False),
        ((35, 84, 3), False, False),
        ((7, 7, 3), False, False),
        ((3, 7, 7), False, True),
        ((84, 3, 90), False, False),
        ((84, 84), True, False),
        ((84, 20), False, False),
        ((4, 84, 84, 3), True, False),
        ((4, 3, 84, 84), True, True),
        ((4, 84, 84, 1), True, False),
        ((4, 9, 9, 3), False, False),
        ((84,), False, None),
    ],
)
def test_bytes_are_an_image_where_two_axes_are_long_enough(
    shape: tuple[int, ...], is_image: bool, first: bool | None
) -> None:
    space = Space("box", shape, "uint8", (0.0,), (255.0,))
    assert space.is_image is is_image
    if first is not None:
        assert channels_first(frames(shape)[1:]) is first


def test_bits_are_choices_of_two() -> None:
    bits = spaces.MultiBinary((2, 2))
    described = describe(bits)
    assert (described.kind, described.shape, described.counts) == ("multidiscrete", (2, 2), (2, 2, 2, 2))
    assert bits.contains(described.gym().sample())


@pytest.mark.parametrize(
    ("space", "stored", "is_image"),
    [(KNOWN[0], "float32", False), (KNOWN[4], "float32", False), (KNOWN[5], "uint8", True), (KNOWN[6], "int64", False)],
    ids=str,
)
def test_what_values_are_stored_as(space: spaces.Space[Any], stored: str, is_image: bool) -> None:
    described = describe(space)
    assert described.stored == np.dtype(stored)
    assert described.is_image is is_image


@pytest.mark.parametrize(
    ("space", "start"),
    [
        (spaces.Text(5), "a space Text"),
        (spaces.Sequence(spaces.Discrete(3)), "a space Sequence"),
        (spaces.Dict(a=spaces.Discrete(2), b=spaces.Text(5)), "at key 'b', a space Text"),
        (spaces.Dict(a=spaces.Tuple([spaces.Discrete(2), spaces.Text(5)])), "at key 'a/1', a space Text"),
        (spaces.Tuple([spaces.Dict(c=spaces.Sequence(spaces.Discrete(3)))]), "at key '0/c', a space Sequence"),
    ],
    ids=str,
)
def test_other_spaces_are_refused_with_their_key(space: spaces.Space[Any], start: str) -> None:
    with pytest.raises(ValueError, match=f"^{start} is neither a Box nor made of choices"):
        describe(space)


def test_pictures_in_a_dictionary_keep_their_place() -> None:
    grey, colour = spaces.Box(0, 255, (40, 36), np.uint8), spaces.Box(0, 255, (3, 40, 36), np.uint8)
    nested = spaces.Dict(a=spaces.Tuple([spaces.MultiBinary(2), grey]), b=spaces.Dict(c=colour), z=spaces.Discrete(3))
    described = describe(nested)
    assert described.pictures == ((2, 40, 36), (2 + 40 * 36, 3, 40, 36))
    nested.seed(0)
    value = nested.sample()
    flat = spaces.flatten(nested, value)
    for (first, *shape), picture in zip(described.pictures, (value["a"][1], value["b"]["c"]), strict=True):
        assert np.array_equal(flat[first : first + math.prod(shape)].reshape(shape), picture)
    assert describe(spaces.Dict(a=spaces.Box(0, 255, (7, 7, 3), np.uint8))).pictures == ()


@pytest.mark.parametrize("kind", [np.int32, np.int8, np.int64])
def test_choices_keep_their_type(kind: Any) -> None:
    try:
        space = spaces.Discrete(3, start=1, dtype=kind)
    except TypeError:
        pytest.skip("this version of Gymnasium has choices of one type")
    assert space.contains(describe(space).gym().sample())


@pytest.mark.parametrize(
    ("values", "held"),
    [
        (np.array([3.5, 250.0]), False),
        (np.array([3.0, 250.0]), True),
        (np.array([-1, 3]), False),
        (np.array([0, 300]), False),
        (np.array([np.nan, 0]), False),
    ],
)
def test_what_a_type_does_not_hold(values: np.ndarray[Any, Any], held: bool) -> None:
    assert (unfit(values, Space("box", (2,), "uint8", (0.0,), (255.0,))) is None) == held
    assert unfit(values, Space("box", (2,), "float32", (0.0,), (1.0,))) is None
    assert unfit(np.array([5, 7]), Space("multidiscrete", (2,), "int64", counts=(2, 2), start=(5, 5))) is not None
    assert unfit(np.array([5, 6]), Space("multidiscrete", (2,), "int64", counts=(2, 2), start=(5, 5))) is None


def test_spans_are_those_of_the_data() -> None:
    box = spanned(np.array([[0.5, -7.0], [-2.5, 7.0]]))
    assert [each.tolist() for each in box.bounds()] == [[-2.5, -7], [0.5, 7]]
    choice = spanned(np.array([1, 3, 2]))
    assert (choice.kind, choice.counts, choice.start, choice.extent) == ("discrete", (4,), (0,), "data")
    below = spanned(np.array([[-2, 1], [0, 0]], np.int32))
    assert (below.kind, below.counts, below.start) == ("multidiscrete", (3, 2), (-2, 0))
    for outer, fits in (
        (spaces.Box(-10, 10, (2,)), True),
        (spaces.Box(-5, 10, (2,)), False),
        (spaces.Box(-9, 9, (3,)), False),
    ):
        assert contains(describe(outer), box) == fits
        assert (mismatch(describe(outer), box, "compared") == "") == fits
    assert contains(describe(spaces.Discrete(5)), choice)
    assert not contains(describe(spaces.Discrete(3)), choice)
    assert mismatch(describe(spaces.Discrete(5)), choice) != ""  # as an observation


def test_what_does_not_fit_says_why() -> None:
    narrow, wide = (describe(spaces.Box(-1, 1, (3,), kind)) for kind in (np.float32, np.float64))
    assert mismatch(narrow, wide, "compared") == ""
    assert mismatch(narrow, describe(spaces.Box(-1, 1, (4,)))) == "box (3,) of float32, not box (4,) of float32"
    assert mismatch(describe(KNOWN[6]), describe(KNOWN[7])) == "discrete (3,), not discrete (3,) from (-1,)"
    assert mismatch(describe(spaces.Discrete(2)), narrow) == "discrete (2,), not box (3,) of float32"
    pixels = describe(spaces.Box(0, 255, (3,), np.uint8))
    assert mismatch(pixels, narrow) == "box (3,) of uint8, not box (3,) of float32"


def test_bounds_are_compared_where_they_matter() -> None:
    near = describe(spaces.Box(-1, 1, (3,)))
    far = describe(spaces.Box(-1, np.array([1, 2, 1], np.float32)))
    assert mismatch(near, far) == ""
    assert mismatch(near, far, "compared") == "a box whose high[1] is 1, not 2"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"kind": "text"}, "kind = 'text' is not one of: box, discrete, multidiscrete"),
        ({"dtype": "float33"}, "dtype = 'float33' .*NumPy"),
        ({"shape": (0,)}, r"shape = \(0,\) must not have an axis below 1"),
        ({"low": (1.0, 2.0)}, r"low of a box \(3,\) must hold 1 or 3 numbers"),
        ({"counts": (2,)}, "counts and start have no effect in a box"),
        ({"kind": "discrete"}, r"counts = \(\) and start = \(\) of discrete \(3,\) must hold 3 numbers each"),
        ({"kind": "multidiscrete", "counts": (2, 0, 2), "start": (0, 0, 0)}, "counts above 0"),
        ({"kind": "multidiscrete", "counts": (2, 2, 2), "start": (0, 0, 0)}, "have no effect in a multidiscrete"),
    ],
)
def test_bad_descriptions_are_refused(changed: dict[str, Any], sentence: str) -> None:
    good = {"kind": "box", "shape": (3,), "dtype": "float32", "low": (None,), "high": (None,)}
    with pytest.raises(ValueError, match=sentence):
        Space(**(good | changed))

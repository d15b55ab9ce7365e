"""A window grows, then begins anew with its last part."""

from __future__ import annotations

from itertools import pairwise

import pytest

from core.decoding.window import DecodingWindow


class Resets:
    """A state that counts how often it was reset."""

    count = 0

    def reset(self) -> None:
        self.count += 1


@pytest.mark.parametrize("fraction", [1 / 2, 1 / 4])
@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 16, 23])
def test_windows_grow_to_the_capacity_then_begin_anew_with_a_part_of_it(capacity, fraction):
    window = DecodingWindow(state := Resets(), capacity, fraction)
    left = [window.extend(end) for end in range(1, 10 * capacity + 1)]
    firsts = [sum(left[: i + 1]) for i in range(len(left))]
    assert window.first == firsts[-1]
    assert state.count == len([n for n in left if n])
    sizes = [end - first for end, first in enumerate(firsts, start=1)]
    assert sizes[:capacity] == list(range(1, capacity + 1))
    assert max(sizes) == capacity
    assert min(sizes[capacity:]) == max(1, int(capacity * fraction))
    for i, (before, after) in enumerate(pairwise(firsts)):
        assert after == before or sizes[i] == capacity


def test_a_window_may_begin_after_the_first_place():
    window = DecodingWindow(Resets(), 4, 1 / 2, first=6)
    assert [window.extend(end) for end in (8, 10, 11)] == [0, 0, 3]
    assert window.first == 9

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.data.space import Space

SIZE = 1000
# A step takes so many units, or gives back the taken range of that number.
STEPS = st.lists(st.tuples(st.sampled_from(["take", "give"]), st.integers(1, 300)), max_size=80)


def test_what_was_freed_last_is_taken_first():
    space = Space(100)
    starts = [space.take(10) for _ in range(6)]
    space.give(starts[1], 10)
    space.give(starts[3], 10)
    assert space.take(10) == starts[3]
    assert space.take(10) == starts[1]


def test_a_small_free_range_is_preferred_to_the_large_rest():
    space = Space(1000)
    first, second = space.take(10), space.take(10)
    assert (first, second) == (0, 10)
    space.give(0, 10)
    assert space.take(8) == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_neighbours_merge_in_whatever_order_they_come_back(order):
    space = Space(30)
    starts = [space.take(10) for _ in range(3)]
    for index in order:
        space.give(starts[index], 10)
    assert space.take(30) == 0


def test_no_space_at_all():
    assert Space(0).take(1) is None


def test_surplus_leaves_what_is_taken_next():
    space = Space(100)
    starts = [space.take(10) for _ in range(10)]
    space.give(starts[0], 10)
    space.give(starts[5], 10)
    assert space.surplus(0) == [(50, 10), (0, 10)]
    assert space.surplus(4) == [(54, 6), (0, 10)]
    assert space.surplus(20) == []


@given(STEPS)
def test_ranges_never_overlap_and_nothing_is_lost(steps):
    space = Space(SIZE)
    taken: list[tuple[int, int]] = []
    for step, number in steps:
        if step == "take":
            start = space.take(number)
            if start is not None:
                assert start >= 0
                assert start + number <= SIZE
                assert all(start + number <= other or start >= other + size for other, size in taken)
                taken.append((start, number))
        elif taken:
            space.give(*taken.pop(number % len(taken)))
        free = sum(size for _, size in space.surplus(0))
        assert free + sum(size for _, size in taken) == SIZE
        largest = max((size for _, size in space.surplus(0)), default=0)
        assert space.take(largest + 1) is None
    for start, size in taken:
        space.give(start, size)
    assert space.take(SIZE) == 0

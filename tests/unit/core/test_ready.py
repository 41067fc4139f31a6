"""The queue of ready tasks that need the same; its use is tested with `placement`."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.ready import Line
from heald.core.resources import Resources

CLAIMS = st.tuples(st.integers(-3, 3), st.integers(0, 3), st.integers(1, 40))


def test_priority_goes_before_depth_and_depth_before_age() -> None:
    line = Line(Resources())
    line.push(1, priority=0, depth=0)
    line.push(2, priority=0, depth=5)
    line.push(3, priority=1, depth=0)
    assert [line.pop() for _ in range(3)] == [3, 2, 1]


def test_an_empty_line_has_no_head() -> None:
    with pytest.raises(IndexError):
        Line(Resources()).pop()


@given(st.lists(CLAIMS, unique_by=lambda claim: claim[2]), st.sets(st.integers(1, 40)))
def test_it_is_a_priority_queue_without_what_was_discarded(claims: list[tuple[int, int, int]], gone: set[int]) -> None:
    line, model = Line(Resources()), []
    for priority, depth, task in claims:
        line.push(task, priority, depth)
        if task not in gone:
            heapq.heappush(model, (-priority, -depth, task))
    for priority, depth, task in claims:
        assert task not in gone or line.discard(task, priority, depth)
    assert len(line) == len(model)
    while model:
        expected = heapq.heappop(model)
        assert line.head == expected
        assert line.pop() == expected[2]
    assert not line

"""Round numbers on an axis."""

from __future__ import annotations

import pytest

from heald.report.scale import ticks


@pytest.mark.parametrize("seconds", [1e-6, 0.003, 0.9, 1.0, 1.5, 59, 61, 3599, 3600, 86_400, 3e6, 4e7])
@pytest.mark.parametrize("most", [2, 4, 7])
def test_as_many_as_there_is_room_for(seconds: float, most: int) -> None:
    marks = ticks(seconds, most)
    assert 2 <= len(marks) <= most + 1 or seconds > 1e6
    assert marks[0] == (0.0, "0 s")
    assert all(0 <= place <= 1 + 1e-9 for place, _ in marks)
    assert len({label for _, label in marks}) == len(marks)


def test_labels_keep_to_one_unit() -> None:
    assert [label for _, label in ticks(2, 4)] == ["0 s", "0.5 s", "1 s", "1.5 s", "2 s"]
    assert [label for _, label in ticks(90_000, 3)] == ["0 s", "12h 00m", "1d 00h"]


def test_no_time_no_ticks() -> None:
    assert ticks(0, 5) == []

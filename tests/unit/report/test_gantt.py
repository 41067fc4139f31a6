"""The chart as text: bars where they belong, in as many columns as there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heald.core.history import History
from heald.report.gantt import gantt_text

from .conftest import FAILS, Story


def test_nothing_of_a_run_that_did_nothing() -> None:
    assert gantt_text(History()) == ""


def test_a_bar_for_each_task_while_there_are_few(story: Story) -> None:
    story.task("first", 0, 10)
    story.task("second", 10, 20, worker=2, failure=FAILS)
    first, second, busy, axis = gantt_text(story.close(20), 56).splitlines()
    assert first == f"first#1    {'█' * 17}{' ' * 17} 10.0 s"
    assert second == f"second#2   {' ' * 17}{'█' * 16}× 10.0 s"
    assert busy == f"cores busy {'█' * 34} max 1.0"
    assert axis.split() == ["0", "s", "10", "s", "20", "s"]


def test_a_row_for_each_name_when_there_are_many(crowd: Callable[[int], History]) -> None:
    chart = gantt_text(crowd(1000))
    assert [line.split()[0] for line in chart.splitlines()[:3]] == ["simulate", "analyse", "cores"]
    assert "500x 10 ms" in chart
    assert "×" in chart.splitlines()[1]
    assert "max 4.0" in chart


def test_only_names_with_most_time_when_these_are_many(story: Story) -> None:
    for number in range(50):
        story.task(f"name-{number:02}", number, number + 2)
    chart = gantt_text(story.close(52))
    assert len(chart.splitlines()) == 23
    assert "and 30 names more" in chart


@pytest.mark.parametrize("width", [40, 80, 200])
def test_fits_its_width(story: Story, width: int, crowd: Callable[[int], History]) -> None:
    story.task("a name that is far too long for any sensible chart", 0, 100)
    for history in (story.close(100), crowd(500)):
        assert max(map(len, gantt_text(history, width).splitlines())) <= width


def test_names_cannot_break_the_chart(story: Story) -> None:
    story.task("two\nlines \x1b[31m", 0, 1)
    chart = gantt_text(story.close(1))
    assert len(chart.splitlines()) == 3
    assert "\x1b" not in chart


def test_short_tasks_can_be_seen(story: Story) -> None:
    story.task("long", 0, 1000)
    story.task("blink", 500, 500.001, worker=2)
    assert "▁" in gantt_text(story.close(1000)).splitlines()[1] or "█" in gantt_text(story.history).splitlines()[1]


def test_tasks_that_took_no_time_can_be_seen(story: Story) -> None:
    story.task("long", 0, 10)
    story.task("instant", 5, 5, worker=2)
    assert gantt_text(story.close(10)).splitlines()[1].count("█") == 1

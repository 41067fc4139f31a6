"""Bars in lanes: where they are, and few of them however many tasks there are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable

from heald.core.history import History
from heald.report.figures import figures
from heald.report.timeline import LANES, timeline

from .conftest import FAILS, Story


def drawn(history: History) -> str:
    return timeline(figures(history), defaultdict(lambda: "c0"))


def bars(page: str) -> list[tuple[float, float]]:
    """Where bars begin, and how wide they are, in percent."""
    found = re.findall(r'<(?:rect class="bar[^"]*"|svg) x="([\d.]+)%" width="([\d.]+)%"', page)
    return [(float(begin), float(width)) for begin, width in found]


def test_bars_are_where_the_time_was(story: Story) -> None:
    story.task("a", 2, 4)
    story.task("b", 5, 10)
    assert bars(drawn(story.close(10))) == [(20.0, 20.0), (50.0, 50.0)]


def test_short_neighbours_are_drawn_together(crowd: Callable[[int], History]) -> None:
    page = drawn(crowd(20_000))
    assert 100 < len(bars(page)) < 3000
    assert "tasks of 10 ms each" in page
    assert "failed" in page


def test_a_short_task_by_itself_can_be_seen(story: Story) -> None:
    story.task("blink", 5000, 5000.001)
    assert bars(drawn(story.close(10_000))) == [(50.0, 0.15)]


def test_wide_bars_have_names_and_titles(story: Story) -> None:
    story.task("fit <1>", 0, 10, cpus=3)
    page = drawn(story.close(10))
    assert '<text x="5" y="13">fit &lt;1&gt;#1</text>' in page
    assert "<title>fit &lt;1&gt;#1: done, 10.0 s, 3 cores</title>" in page


def test_failures_and_running_tasks_are_marked(story: Story) -> None:
    story.task("bad", 0, 4, failure=FAILS)
    story.task("now", 5)
    page = timeline(figures(story.history, figures(story.history).start + 10), defaultdict(lambda: "c0"))
    assert 'class="bar c0 failed"' in page
    assert 'class="bar c0 running"' in page


def test_lanes_are_bounded(story: Story) -> None:
    for worker in range(1, LANES + 21):
        story.task("a", 0, worker, worker=worker)
    page = drawn(story.close(100))
    assert page.count('class="row lane"') == LANES
    assert "20 more workers are not drawn" in page
    assert f'title="worker-{LANES + 20}"' in page
    assert 'title="worker-1"' not in page


def test_a_resumed_run_is_marked(story: Story) -> None:
    story.task("a", 0, 10)
    story.open_again(100)
    story.task("b", 100, 110)
    page = drawn(story.close(110))
    assert bars(page) == [(0.0, 50.0), (50.0, 50.0)]
    assert 'class="again" x1="50.000%"' in page

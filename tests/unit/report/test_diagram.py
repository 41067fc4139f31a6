"""The drawing of a graph is one piece of SVG, in which nothing stands on anything else."""

from __future__ import annotations

import re
from collections import defaultdict
from xml.etree import ElementTree

import pytest

from heald.core.history import History
from heald.report.diagram import diagram
from heald.report.layer import plan

from .conftest import FAILS, Story


def drawn(history: History) -> str:
    return diagram(plan(history), history, defaultdict(lambda: "c0"))


def corners(page: str) -> list[tuple[float, float]]:
    return [
        (float(x), float(y))
        for x, y in re.findall(r'class="box [a-z]*" transform="translate\(([\d.]+) ([\d.]+)\)', page)
    ]


def chain(story: Story, length: int) -> History:
    last = [story.task("first", 0, 1)]
    for number in range(length):
        last = [story.task(f"step {number}", needs=last)]
    return story.history


def fan(story: Story, width: int) -> History:
    root = story.task("root", 0, 1)
    story.task("end", needs=[story.task("leaf", needs=[root]) for _ in range(width)])
    return story.history


@pytest.mark.parametrize("tell", [chain, fan])
def test_boxes_do_not_overlap_and_lie_within(story: Story, tell: object) -> None:
    page = drawn(tell(story, 12))  # type: ignore[operator]
    root = ElementTree.fromstring(page)
    places = corners(page)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 <= x <= width - 140 and 0 <= y <= height - 30 for x, y in places)
    for place, (x, y) in enumerate(places):
        assert not any(abs(x - other) < 140 and abs(y - aside) < 30 for other, aside in places[:place])


def test_a_chain_goes_down_and_a_fan_across(story: Story) -> None:
    places = corners(drawn(chain(story, 9)))
    assert len({x for x, _ in places}) == 1
    places = corners(drawn(fan(Story(), 9)))
    assert len({x for x, _ in places}) == 3


def test_boxes_tell_how_their_tasks_are(story: Story) -> None:
    bad = story.task("<bad>", 0, 1, failure=FAILS)
    story.task("after", needs=[bad])
    page = drawn(story.history)
    assert 'class="box failed"' in page
    assert "<title>&lt;bad&gt;#1: 1 failed</title>" in page
    assert "<bad>" not in page


def test_groups_are_counted(story: Story) -> None:
    assert "×50" in drawn(fan(story, 50))
    assert "root → leaf: 50 dependencies" in drawn(fan(Story(), 50))

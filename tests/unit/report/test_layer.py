"""Graphs in layers: who stands where, what is grouped, what is left out."""

from __future__ import annotations

from heald.core.history import History
from heald.report.layer import plan

from .conftest import Story


def levels(history: History, most: int = 40) -> list[set[str]]:
    found = plan(history, most)
    return [{found.boxes[at].label for at in layer if at < len(found.boxes)} for layer in found.layers]


def diamond(story: Story) -> History:
    first = story.task("a")
    second = story.task("b", needs=[first])
    third = story.task("c", needs=[second])
    story.task("d", needs=[first, third])
    return story.history


def test_a_layer_is_the_longest_way_from_a_beginning(story: Story) -> None:
    assert levels(diamond(story)) == [{"a#1"}, {"b#2"}, {"c#3"}, {"d#4"}]


def test_arrows_over_several_layers_pass_between(story: Story) -> None:
    found = plan(diamond(story))
    assert found.arrows == {(0, 1): 1, (1, 2): 1, (2, 3): 1, (0, 3): 1}
    assert found.ways == {(0, 3): (4, 5)}
    assert [len(layer) for layer in found.layers] == [1, 2, 2, 1]


def test_many_tasks_are_grouped_by_name(story: Story) -> None:
    roots = [story.task("root") for _ in range(30)]
    leaves = [story.task("leaf", needs=[root]) for root in roots]
    story.task("end", needs=leaves)
    found = plan(story.history)
    assert found.grouped
    assert [(box.label, len(box.tasks)) for box in found.boxes] == [("root", 30), ("leaf", 30), ("end", 1)]
    assert found.arrows == {(0, 1): 30, (1, 2): 30}


def test_what_no_arrow_touches_is_only_counted(story: Story) -> None:
    story.task("alone")
    found = plan(diamond(story))
    assert (found.alone, len(found.boxes)) == (1, 4)


def test_too_many_names_leave_out_those_with_few_tasks(story: Story) -> None:
    root = story.task("root")
    for number in range(60):
        for _ in range(1 + number // 30):
            story.task(f"name-{number}", needs=[root])
    found = plan(story.history, 20)
    assert (len(found.boxes), found.omitted) == (20, 41)
    assert all(len(box.tasks) == 2 for box in found.boxes)


def test_names_may_need_each_other(story: Story) -> None:
    last = story.task("ping")
    for number in range(60):
        last = story.task("pong" if number % 2 == 0 else "ping", needs=[last])
    found = plan(story.history)
    assert {box.label for box in found.boxes} == {"ping", "pong"}
    assert len(found.arrows) == 2


def test_a_ring_of_names_ends(story: Story) -> None:
    last = story.task("a")
    for number in range(90):
        last = story.task("bca"[number % 3], needs=[last])
    assert sum(map(len, levels(story.history))) == 3


def test_neighbours_stand_beside_each_other(story: Story) -> None:
    tops = [story.task("top") for _ in range(4)]
    for top in reversed(tops):
        story.task("low", needs=[top])
    upper, lower = plan(story.history).layers
    found = plan(story.history)
    order = {after: before for before, after in found.arrows}
    assert [order[at] for at in lower] == list(upper)


def test_an_empty_run_has_no_layers() -> None:
    assert plan(History()).layers == ()

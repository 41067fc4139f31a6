"""Figures of runs: what counts, from when to when, and what is left out."""

from __future__ import annotations

import pytest

from heald.core.event import Failure, Finished
from heald.core.history import History
from heald.core.retry import DEPENDENCY
from heald.core.state import State
from heald.core.task import JOIN, Payload
from heald.report.figures import figures

from .conftest import FAILS, START, Story


def test_a_run_without_anything() -> None:
    found = figures(History())
    assert (found.tasks, found.seconds, found.busy, found.spans, found.lanes) == (0, 0.0, 0.0, (), {})
    assert found.busy_cores(3) == [0.0, 0.0, 0.0]


def test_spans_are_in_the_order_of_their_starts(story: Story) -> None:
    story.task("late", 5, 6)
    story.task("early", 1, 3, worker=2, cpus=2)
    found = figures(story.close(10))
    assert [(span.name, span.lane, span.start - START, span.seconds) for span in found.spans] == [
        ("early", "worker-2", 1.0, 2.0),
        ("late", "worker-1", 5.0, 1.0),
    ]
    assert (found.seconds, found.busy, found.tasks) == (10.0, 5.0, 2)
    assert (found.command, found.host) == (("fit.py", "--fast"), "box")


def test_busy_cores_share_out_each_span(story: Story) -> None:
    story.task("a", 0, 4)
    story.task("b", 3, 8, worker=2, cpus=2)
    assert figures(story.close(8)).busy_cores(4) == pytest.approx([1.0, 2.0, 2.0, 2.0])


def test_lanes_count_numbers_as_numbers(story: Story) -> None:
    for worker in (10, 2, 1):
        story.task("a", worker, worker + 1, worker=worker)
    assert list(figures(story.close(20)).lanes) == ["worker-1", "worker-2", "worker-10"]


def test_running_tasks_go_on_until_now(story: Story) -> None:
    story.task("a", 2)
    assert figures(story.history, START + 12).spans[0].seconds == 10.0
    assert figures(story.history).spans[0].seconds == 0.0
    assert figures(story.history, START + 12).counts == {State.running: 1}


def test_a_join_and_what_never_ran_occupy_no_worker(story: Story) -> None:
    story.task("join", 1, 9, kind=JOIN)
    story.task("waits")
    story.cancel(story.task("given up"), 3)
    found = figures(story.close(10))
    assert found.spans == ()
    assert found.counts == {State.done: 1, State.ready: 1, State.cancelled: 1}


def test_an_attempt_that_measured_nothing_lasted_until_its_end(story: Story) -> None:
    story.task("lost", 1, 4, usage=False, failure=FAILS)
    assert figures(story.close(5)).spans[0].seconds == 3.0


def test_time_between_two_processes_is_left_out(story: Story) -> None:
    story.task("a", 0, 10)
    killed = story.task("b", 5)
    story.open_again(1000)
    record = story.history.records[killed]
    story.tell(Finished(killed, START + 1004, record.attempt, Payload(b"")))
    story.task("c", 1001, 1005)
    found = figures(story.close(1010))
    assert found.gaps == ((START + 10, START + 1000),)
    assert found.seconds == 20.0
    assert found.elapsed(START + 1001) == 11.0
    assert found.elapsed(START + 500) == 10.0
    assert found.busy_cores(20)[12] == pytest.approx(1.0)


def test_time_between_processes_that_ran_nothing_is_left_out(story: Story) -> None:
    story.open_again(500)
    story.task("a", 501, 502)
    assert figures(story.close(503)).seconds == 3.0


def test_sorts_have_the_most_time_first(story: Story) -> None:
    for _ in range(3):
        story.task("short", 0, 1)
    story.task("long", 0, 9, failure=FAILS)
    long, short = figures(story.close(10)).sorts
    assert (long.name, long.tasks, long.done, long.failed, long.seconds) == ("long", 1, 0, 1, 9.0)
    assert (short.name, short.tasks, short.mean, short.longest) == ("short", 3, 1.0, 1.0)


def test_faults_begin_with_what_failed_by_itself(story: Story) -> None:
    for _ in range(9):
        story.task("child", 0, 1, failure=Failure(DEPENDENCY, "it needed another", final=True))
    first = story.task("parent", 0, 1, failure=FAILS)
    parent, child = figures(story.close(2)).faults
    assert (parent.name, parent.kind, parent.count) == ("parent", "user", 1)
    assert parent.examples[0][0] == first
    assert (child.count, len(child.examples)) == (9, 5)


def test_counts_what_was_known_before(story: Story) -> None:
    known = story.task("a")
    story.tell(Finished(known, START + 1, 0, Payload(b""), recalled=True))
    story.task("b", 1, 2)
    found = figures(story.close(3))
    assert found.recalled == 1
    assert len(found.spans) == 1


def test_slowest_are_few(story: Story) -> None:
    for seconds in range(1, 21):
        story.task("a", 0, seconds)
    assert [span.seconds for span in figures(story.close(20)).slowest] == [*range(20, 10, -1)]


def test_running_counts_spans_whatever_their_cores(story: Story) -> None:
    story.task("a", 0, 1, cpus=2)
    story.task("a", 0, 8, worker=2, cpus=2)
    found = figures(story.close(8))
    assert found.running(found.spans, 4) == pytest.approx([1.5, 1.0, 1.0, 1.0])
    assert found.running(found.spans[:0], 2) == [0.0, 0.0]

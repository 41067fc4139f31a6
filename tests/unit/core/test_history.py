"""What the fold of a run's events knows of each task, and how a later process goes on with it.

That it agrees with the graph that the events came from is tried with generated ones, in test_graph.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heald.core.event import (
    Cancelled,
    Closed,
    Defined,
    Due,
    Expanded,
    Failure,
    Finished,
    Opened,
    Placed,
    Removed,
    Retried,
    Returned,
    Started,
    Submitted,
    Usage,
)
from heald.core.graph import Graph
from heald.core.history import History, Record
from heald.core.retry import USER, WORKER_LOST, Retry
from heald.core.state import State
from heald.core.task import FUNCTION, Payload, Task, Work

WORK = Work("f", FUNCTION, b"function")
TRIED = Work("tried", FUNCTION, b"function", retry=Retry(limit=50, delay=1.0))
VALUE = Payload(b"value")
NO = Failure(USER, "ValueError: no")
OPENED = Opened(1.0, 4711, "here", "me", "3.13", "0.1.0", ("run.py",))


@pytest.fixture
def history() -> History:
    history = History()
    history.extend([Defined(work.digest(), work) for work in (WORK, TRIED)])
    return history


def submitted(task: int, *inputs: int, work: Work = WORK, time: float = 10.0) -> Submitted:
    return Submitted(task, time, Task(task, work.digest(), Payload(b""), inputs))


def placed(task: int, attempt: int = 1) -> Placed:
    return Placed(task, 11.0, attempt, "process", f"worker-{attempt}")


def states(history: History) -> list[str]:
    return [record.state.name for record in history.records.values()]


def test_record_has_the_life_of_a_task(history: History) -> None:
    usage = Usage(11.5, 2.0, 1.5, 1000, 0)
    history.extend([submitted(1), placed(1), Started(1, 12.0, 1, 4711), Finished(1, 14.0, 1, VALUE, usage)])
    record = history.records[1]
    assert record == Record(
        record.task, 10.0, State.done, 1, 11.0, 11.5, 14.0, "process", "worker-1", 4711, VALUE, usage
    )
    assert record.failure is None
    assert history.work(record) is history.works[WORK.digest()]


def test_states_follow_the_events(history: History) -> None:
    seen = []
    for event in (
        submitted(1),
        placed(1),
        Returned(1, 12.0, 1),
        placed(1, 2),
        Started(1, 12.0, 2, 4711),
        Finished(1, 14.0, 2, NO),
    ):
        history.apply(event)
        seen += states(history)
    assert seen == ["ready", "placed", "ready", "placed", "running", "failed"]
    assert history.records[1].failure == Failure(USER, "ValueError: no", chain=("f#1",), attempt=2)


def test_the_end_of_one_task_is_told_of_others(history: History) -> None:
    history.extend([submitted(1), submitted(2, 1), submitted(3, 2), placed(1)])
    assert states(history) == ["placed", "waiting", "waiting"]
    history.apply(Finished(1, 13.0, 1, VALUE))
    assert states(history) == ["done", "ready", "waiting"]
    history.extend([placed(2), Finished(2, 14.0, 1, NO)])
    assert states(history) == ["done", "failed", "failed"]
    assert history.records[3].settled == 14.0
    assert history.records[3].attempt == 0


def test_failed_attempts_that_were_tried_again_are_remembered_up_to_a_number(history: History) -> None:
    history.apply(submitted(1, work=TRIED))
    for attempt in range(1, 31):
        lost = Failure(WORKER_LOST if attempt == 1 else USER, f"failure {attempt}")
        history.extend([placed(1, attempt), Finished(1, 12.0, attempt, lost), Due(1, 13.0, attempt)])
    record = history.records[1]
    assert record.failed[-1] == (30, "failure 30")
    assert len(record.failed) == 10
    assert record.state is State.ready


def test_usage_of_a_cancelled_attempt_comes_after_its_end(history: History) -> None:
    history.extend([submitted(1), placed(1), Cancelled(1, 12.0, "by its owner")])
    history.apply(Finished(1, 13.0, 1, Failure("cancelled", "stopped"), Usage(11.5, 1.0)))
    record = history.records[1]
    assert (record.state, record.settled) == (State.cancelled, 12.0)
    assert record.usage == Usage(11.5, 1.0)
    history.apply(Finished(1, 14.0, 7, VALUE, Usage(99.0, 99.0)))
    assert record.usage == Usage(11.5, 1.0)


@pytest.mark.parametrize(
    "late",
    [
        submitted(1, work=TRIED),
        placed(1, 1),
        placed(1, 2),
        Started(1, 99.0, 1, 1),
        Returned(1, 99.0, 1),
        Finished(1, 99.0, 1, VALUE),
    ],
)
def test_late_events_change_nothing(history: History, late: Any) -> None:
    history.extend([submitted(1, work=TRIED), placed(1), Finished(1, 12.0, 1, NO), Due(1, 12.0, 1), placed(1, 2)])
    history.apply(Started(1, 13.0, 2, 4711))
    record = history.records[1]
    before = {name: getattr(record, name) for name in Record.__struct_fields__}
    history.apply(late)
    assert {name: getattr(record, name) for name in Record.__struct_fields__} == before


def test_events_of_unknown_tasks_are_passed_over(history: History) -> None:
    history.extend([placed(9), Started(9, 1.0, 1, 1), Finished(9, 1.0, 1, VALUE), Cancelled(9, 1.0, "who?")])
    assert not history.records


def test_recalled_value_was_not_run(history: History) -> None:
    history.extend([submitted(1), Finished(1, 11.0, 0, VALUE, recalled=True)])
    record = history.records[1]
    assert (record.state, record.recalled, record.attempt, record.usage) == (State.done, True, 0, None)


def test_join_has_the_values_of_its_tasks(history: History) -> None:
    history.extend([submitted(1), placed(1), submitted(2), placed(2), Finished(2, 12.0, 1, VALUE)])
    history.apply(Expanded(1, 13.0, 1, (2,), None))
    assert history.records[1].outcome == VALUE


# -- several processes -----------------------------------------------------------------------------------------------


def test_next_process_takes_up_what_was_not_done(history: History) -> None:
    history.extend([OPENED, submitted(1), placed(1), Finished(1, 12.0, 1, VALUE), submitted(2), placed(2)])
    history.apply(Started(2, 12.0, 1, 4711))
    history.apply(OPENED)
    assert states(history) == ["done", "waiting"]
    assert not history.graph.nodes
    history.apply(submitted(2, time=20.0))
    assert states(history) == ["done", "ready"]
    history.extend([placed(2, 2), Finished(2, 22.0, 2, VALUE)])
    record = history.records[2]
    assert (record.state, record.attempt, record.submitted) == (State.done, 2, 10.0)


def test_next_process_may_find_the_last_attempt_still_running(history: History) -> None:
    history.extend([submitted(1), placed(1), OPENED, submitted(1), placed(1, 2), OPENED, submitted(1), placed(1, 1)])
    assert states(history) == ["ready"], "that one was over"
    history.apply(placed(1, 2))
    assert states(history) == ["placed"]
    history.apply(Finished(1, 22.0, 2, VALUE))
    assert states(history) == ["done"]
    assert history.records[1].attempt == 2


def test_failed_task_is_run_again_by_the_next_process(history: History) -> None:
    history.extend([submitted(1), placed(1), Finished(1, 12.0, 1, NO), submitted(2, 1)])
    assert states(history) == ["failed", "failed"]
    history.extend([OPENED, submitted(1), submitted(2, 1)])
    assert states(history) == ["ready", "waiting"]
    history.extend([placed(1, 2), Finished(1, 22.0, 2, VALUE)])
    assert states(history) == ["done", "ready"]
    assert history.records[2].failure is None


def test_value_of_the_process_before_serves_new_tasks(history: History) -> None:
    history.extend([submitted(1), placed(1), Finished(1, 12.0, 1, VALUE), OPENED, submitted(2, 1)])
    assert states(history) == ["done", "ready"]
    assert history.graph.nodes[2].inputs == [VALUE]


def test_input_whose_end_is_not_known_fails_what_needs_it(history: History) -> None:
    history.apply(submitted(2, 1))
    assert history.records[2].failure is not None
    assert history.records[2].failure.message == "task 1 failed: its end is not in the journal"


def test_it_knows_who_opened_the_run_and_whether_it_was_closed(history: History) -> None:
    history.extend([OPENED, Closed(5.0)])
    assert history.opened == [OPENED]
    assert history.closed == Closed(5.0)
    history.apply(OPENED)
    assert history.closed is None
    assert history.events == 2 + 3


# -- what is done from outside ---------------------------------------------------------------------------------------

FOREVER = Cancelled(1, 30.0, "cancelled from outside of the script", final=True)


def test_cancellation_of_what_nobody_drives_holds(history: History) -> None:
    history.extend([OPENED, submitted(1), placed(1), submitted(2, 1)])
    history.interrupt()
    history.apply(FOREVER)
    record = history.records[1]
    assert (record.state, record.settled) == (State.cancelled, 30.0)
    assert record.failure is not None
    assert record.failure.final
    assert record.failure.chain == ("f#1",)
    assert record.failure.hint == "heald task retry 1 lets it run after all"
    history.apply(OPENED)
    assert states(history) == ["cancelled", "waiting"]


def test_cancellation_by_the_journal_alone_reaches_what_waits(history: History) -> None:
    """As a fresh look at the journal has it: the graph still holds what the killed process left."""
    history.extend([OPENED, submitted(1), placed(1), submitted(2, 1), FOREVER])
    assert states(history) == ["cancelled", "cancelled"]
    assert history.records[2].failure is not None
    assert not history.records[2].failure.final


def test_what_is_done_is_not_cancelled_and_what_failed_is(history: History) -> None:
    history.extend([submitted(1), placed(1), Finished(1, 12.0, 1, VALUE), FOREVER])
    assert states(history) == ["done"]
    history.extend([submitted(2), placed(2), Finished(2, 12.0, 1, NO)])
    history.apply(Cancelled(2, 13.0, "by its owner"))
    assert states(history) == ["done", "failed"]
    history.apply(Cancelled(2, 13.0, "from outside", final=True))
    assert states(history) == ["done", "cancelled"]


def test_retried_task_waits_and_remembers(history: History) -> None:
    history.extend([submitted(1), placed(1), Finished(1, 12.0, 1, NO), Retried(1, 30.0), Retried(9, 30.0)])
    record = history.records[1]
    assert (record.state, record.outcome, record.settled, record.recalled) == (State.waiting, None, 0.0, False)
    assert record.failed == ((1, "ValueError: no"),)
    assert not history.graph.nodes
    history.extend([submitted(1), placed(1, 2), Finished(1, 32.0, 2, VALUE)])
    assert (record.state, record.attempt, record.outcome) == (State.done, 2, VALUE)


def test_former_end_serves_tasks_that_come_meanwhile(history: History) -> None:
    """The process that told its script the value goes on using it."""
    history.extend([submitted(1), placed(1), Finished(1, 12.0, 1, VALUE), Retried(1, 30.0), submitted(2, 1)])
    assert states(history) == ["waiting", "ready"]
    assert history.graph.nodes[2].inputs == [VALUE]


def test_retry_of_what_waits_changes_no_state(history: History) -> None:
    history.extend([OPENED, submitted(1), OPENED, Retried(1, 30.0), submitted(2, 1)])
    assert states(history) == ["waiting", "failed"]
    assert 1 in history.former


def test_removed_task_never_was(history: History) -> None:
    history.extend([submitted(1), placed(1), Finished(1, 12.0, 1, VALUE), Removed(1, 30.0), Removed(9, 30.0)])
    assert not history.records
    assert history.remnants == {1}
    assert history.former.keys() == {1, 9}
    history.extend([submitted(2, 1), submitted(3, 9)])  # of a process that still holds the values
    assert states(history) == ["ready", "ready"]


def test_it_knows_what_joins_returned(history: History) -> None:
    history.extend([submitted(1), placed(1), submitted(2), Expanded(1, 13.0, 1, (2,), None)])
    assert history.expanded == {1: (2,)}


# -- size ------------------------------------------------------------------------------------------------------------


def test_the_collector_need_not_look_at_millions_of_tasks(history: History) -> None:
    history.extend([submitted(1), submitted(2), placed(2), Finished(2, 12.0, 1, VALUE)])
    assert not any(gc.is_tracked(record) for record in history.records.values())
    assert not gc.is_tracked(history.graph.nodes[1])
    assert list(history.graph.nodes) == [1]


def test_what_was_under_way_when_the_process_died_waits(history: History) -> None:
    history.extend([submitted(1), submitted(2), placed(1), Finished(1, 12.0, 1, VALUE), placed(2)])
    history.interrupt()
    assert states(history) == ["done", "waiting"]
    assert not history.graph.nodes


# -- plain lives -----------------------------------------------------------------------------------------------------


def test_the_graph_is_not_asked_about_plain_lives(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what makes a million of them quick to read; that it is asked about all others is tried in test_graph."""
    monkeypatch.delattr(Graph, "apply")
    for task in range(1, 4):
        life: list[Any] = [submitted(task), placed(task), Started(task, 12.0, 1, 4711)]
        history.extend(life[:task])
    history.extend([submitted(4), placed(4), Finished(4, 13.0, 1, VALUE, Usage(11.5, 2.0))])
    history.extend([submitted(5), Finished(5, 13.0, 0, VALUE, recalled=True)])
    assert states(history) == ["ready", "placed", "running", "done", "done"]
    assert history.records[4].usage == Usage(11.5, 2.0)
    assert history.records[5].recalled


def test_the_graph_hears_of_a_task_when_another_needs_it(history: History) -> None:
    history.extend([submitted(1), placed(1), Started(1, 12.0, 1, 4711), submitted(2, 1)])
    node = history.graph.nodes[1]
    assert (node.state, node.attempt, node.children) == (State.running, 1, [2])
    history.apply(Finished(1, 13.0, 1, NO))
    assert states(history) == ["failed", "failed"]


def test_whoever_looks_at_the_graph_sees_all_that_is_not_over(history: History) -> None:
    history.extend([submitted(1), submitted(2), placed(2), Finished(2, 12.0, 1, VALUE), submitted(3), placed(3)])
    assert {task: node.state.name for task, node in history.graph.nodes.items()} == {1: "ready", 3: "placed"}
    history.apply(Finished(3, 13.0, 1, VALUE))
    assert list(history.graph.nodes) == [1]


TASKS = [submitted(1), submitted(2, work=TRIED), submitted(3, 1), submitted(4), submitted(5, 2, 4)]
ids, attempts = st.integers(1, 5), st.integers(0, 3)
anything = st.one_of(
    st.sampled_from(TASKS),
    st.sampled_from([OPENED, Closed(5.0)]),
    st.builds(placed, ids, attempts),
    st.builds(Started, ids, st.just(12.0), attempts, st.just(4711)),
    st.builds(
        Finished, ids, st.just(13.0), attempts, st.sampled_from([VALUE, NO]), st.just(Usage(11.5, 1.0)), st.booleans()
    ),
    st.builds(Returned, ids, st.just(13.0), attempts),
    st.builds(Due, ids, st.just(13.0), attempts),
    st.builds(Expanded, ids, st.just(13.0), attempts, st.tuples(ids, ids), st.just(VALUE)),
    st.builds(Cancelled, ids, st.just(13.0), st.just("by its owner")),
    st.builds(Retried, ids, st.just(13.0)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(anything, min_size=10, max_size=60))
def test_plain_lives_end_as_the_graph_says(events: list[Any]) -> None:
    """Whatever happens, in whatever order, the graph could as well have been asked about every task from the first."""
    quick, asked = History(), History()
    for one in (quick, asked):
        one.extend([Defined(work.digest(), work) for work in (WORK, TRIED)])
    here: set[int] = set()
    for event in events:
        if event is OPENED:
            here.clear()
        if isinstance(event, Submitted):
            if event.task in here:  # a process submits a task once
                continue
            here.add(event.task)
        quick.apply(event)
        asked.apply(event)
        assert asked.graph is not None  # looking at it shows it everything
    assert quick.records == asked.records
    assert quick.graph.nodes == asked.graph.nodes


def test_tally_counts_by_name_and_state(history: History) -> None:
    history.extend([submitted(1), submitted(2), submitted(3, work=TRIED), placed(2), Finished(2, 12.0, 1, VALUE)])
    assert history.tally() == {"f": {State.ready: 1, State.done: 1}, "tried": {State.ready: 1}}

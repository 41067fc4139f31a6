"""What the fold of a run's events knows of each task, and how a later process goes on with it.

That it agrees with the graph that the events came from is tried with generated ones, in test_graph.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest

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
    Returned,
    Started,
    Submitted,
    Usage,
)
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
    assert history.records[1].failure == Failure(USER, "ValueError: no", chain=("f#1",))


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


def test_attempts_of_the_process_before_are_late(history: History) -> None:
    history.extend([submitted(1), placed(1), OPENED, submitted(1), placed(1, 1)])
    assert states(history) == ["ready"]
    history.apply(placed(1, 2))
    assert states(history) == ["placed"]


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

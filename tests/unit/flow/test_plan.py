"""What goes with a task that is cancelled, retried or removed, from events that the tests make up."""

from __future__ import annotations

import time
from typing import Any

import pytest

from heald.core.event import (
    Cancelled,
    Defined,
    Expanded,
    Failure,
    Finished,
    Opened,
    Placed,
    Removed,
    Retried,
    Started,
    Submitted,
)
from heald.core.history import History
from heald.core.retry import USER, Retry
from heald.core.task import FUNCTION, JOIN, Payload, Task, Work
from heald.flow.plan import Plan

WORK = Work("f", FUNCTION, b"function")
TRIED = Work("tried", FUNCTION, b"function", retry=Retry(limit=5, delay=60.0))
SPREAD = Work("spread", JOIN, b"function")
OPENED = Opened(1.0, 4711, "here", "me", "3.13", "0.1.0", ("run.py",))
VALUE, NO = Payload(b"value"), Failure(USER, "ValueError: no")


def submitted(task: int, *inputs: int, work: Work = WORK) -> Submitted:
    return Submitted(task, 10.0, Task(task, work.digest(), Payload(b"a"), inputs))


def placed(task: int, attempt: int = 1) -> list[Any]:
    return [Placed(task, 11.0, attempt, "process", "worker-1"), Started(task, 12.0, attempt, 4711)]


def ended(task: int, outcome: Any = VALUE) -> list[Any]:
    return [*placed(task), Finished(task, 13.0, 1, outcome)]


@pytest.fixture
def history() -> History:
    """1 is done, 2 failed; 3 needs both, 4 needs 3; 5 runs, 6 waits for it, 7 for 6; 8 is done and needs 1."""
    history = History()
    history.extend(Defined(work.digest(), work) for work in (WORK, TRIED, SPREAD))
    history.extend([OPENED, submitted(1), submitted(2), submitted(3, 1, 2), submitted(4, 3)])
    history.extend([submitted(5), submitted(6, 5), submitted(7, 6), submitted(8, 1)])
    history.extend([*ended(1), *ended(2, NO), *placed(5), *ended(8)])
    return history


def planned(history: History, verb: str, *tasks: int, living: bool = True) -> dict[int, str | None]:
    """What each task is to be touched for, None for those that stay, with the reason."""
    if not living:
        history.interrupt()
    plan = Plan(history, living=living)
    for task in tasks:
        getattr(plan, verb)(history.records[task])
    assert sorted([*plan.chosen, *plan.roots]) == plan.tasks
    return {task: change.note if change.done else f"NOT: {change.note}" for task, change in plan.changes.items()}


class TestCancel:
    def test_what_waits_goes_with_it(self, history: History) -> None:
        assert planned(history, "cancel", 5) == {5: "", 6: "it needs f#5", 7: "it needs f#5"}

    def test_those_that_were_chosen_too_count_for_themselves(self, history: History) -> None:
        assert planned(history, "cancel", 5, 7) == {5: "", 6: "it needs f#5", 7: ""}
        assert planned(history, "cancel", 7, 5) == {7: "", 5: "", 6: "it needs f#5"}

    @pytest.mark.parametrize("living", [True, False], ids=["living", "ended"])
    def test_what_is_done_stays(self, history: History, living: bool) -> None:
        assert planned(history, "cancel", 1, living=living) == {1: "NOT: it is done"}

    def test_what_failed_can_be_kept_from_the_next_start(self, history: History) -> None:
        assert planned(history, "cancel", 2) == {2: "NOT: it is over"}
        assert planned(history, "cancel", 2, living=False) == {2: ""}
        history.apply(OPENED)
        history.opened[-1] = Opened(time.time(), 1, "here", "me", "3.13", "0.1.0", ())
        assert planned(history, "cancel", 2) == {2: ""}  # this process has not come to it

    def test_once_is_enough(self, history: History) -> None:
        history.apply(Cancelled(5, 20.0, "enough", final=True))
        assert planned(history, "cancel", 5, living=False) == {5: "NOT: it was cancelled already"}
        assert planned(history, "cancel", 6, living=False) == {6: ""}  # it was not, for itself

    def test_tasks_of_a_join_go_with_it(self, history: History) -> None:
        history.extend([submitted(9, work=SPREAD), submitted(10), submitted(11), *placed(9), *ended(10)])
        history.apply(Expanded(9, 14.0, 1, (10, 11), VALUE))
        assert planned(history, "cancel", 9) == {9: "", 11: "spread#9 returned it"}
        assert planned(history, "cancel", 11) == {11: "", 9: "it needs f#11"}


class TestRetry:
    def test_what_needs_it_goes_with_it(self, history: History) -> None:
        expected = {2: "", 3: "it needs f#2", 4: "it needs f#2"}
        assert planned(history, "retry", 2) == expected
        assert planned(history, "retry", 2, living=False) == expected

    def test_what_it_failed_of_goes_with_it(self, history: History) -> None:
        assert planned(history, "retry", 4) == {4: "", 2: "f#4 needs it", 3: "f#4 needs it"}
        assert planned(history, "retry", 3) == {3: "", 2: "f#3 needs it", 4: "it needs f#3"}

    def test_each_is_named_once(self, history: History) -> None:
        assert planned(history, "retry", 2, 3, 4) == {2: "", 3: "", 4: ""}

    def test_what_is_done_is_run_again(self, history: History) -> None:
        found = planned(history, "retry", 1, living=False)
        assert found == {1: "", 3: "it needs f#1", 4: "it needs f#1", 8: "it needs f#1"}

    def test_not_while_something_that_needs_it_goes_on(self, history: History) -> None:
        history.extend([submitted(9, 8), *placed(9)])
        assert planned(history, "retry", 1) == {1: "NOT: f#9, which needs it, is not over"}
        assert planned(history, "retry", 8) == {8: "NOT: f#9, which needs it, is not over"}

    def test_what_is_not_over_stays(self, history: History) -> None:
        assert planned(history, "retry", 5, 6) == {
            5: "NOT: it is running, not over",
            6: "NOT: it is waiting, not over",
        }
        assert planned(history, "retry", 5, 6, living=False) == {
            5: "NOT: it has not run yet",
            6: "NOT: it has not run yet",
        }

    def test_a_pause_can_be_cut_short(self, history: History) -> None:
        history.extend([submitted(9, work=TRIED), *ended(9, NO)])
        assert planned(history, "retry", 9) == {9: ""}

    def test_what_waits_already_to_be_run_again_may_be_asked_for_once_more(self, history: History) -> None:
        history.extend([Retried(2, 20.0), Retried(3, 20.0), Retried(4, 20.0)])
        assert planned(history, "retry", 2) == {2: "", 3: "it needs f#2", 4: "it needs f#2"}
        assert planned(history, "retry", 2, living=False) == {2: "NOT: it has not run yet"}

    def test_a_join_goes_with_the_task_that_it_failed_of(self, history: History) -> None:
        history.extend([submitted(9, work=SPREAD), submitted(10), *placed(9), Expanded(9, 14.0, 1, (10,), None)])
        history.extend(ended(10, NO))
        assert planned(history, "retry", 9) == {9: "", 10: "spread#9 needs it"}
        assert planned(history, "retry", 10) == {10: "", 9: "it needs f#10"}

    def test_a_long_chain_takes_no_time(self) -> None:
        history = History()
        history.extend([Defined(WORK.digest(), WORK), OPENED, submitted(1)])
        history.extend(submitted(task, task - 1) for task in range(2, 20_000))
        history.extend(ended(1, NO))
        begun = time.process_time()
        for verb in ("retry", "remove"):
            assert len(planned(history, verb, *history.records, living=False)) == 19_999
        assert time.process_time() - begun < 5


class TestRemove:
    def test_what_needs_it_goes_with_it(self, history: History) -> None:
        assert planned(history, "remove", 1) == {
            1: "",
            3: "it needs f#1",
            4: "it needs f#1",
            8: "it needs f#1",
        }

    def test_what_is_not_over_stays_while_the_run_lives(self, history: History) -> None:
        assert planned(history, "remove", 5) == {5: "NOT: it is not over"}
        history.extend([submitted(9, 8), *placed(9)])
        assert planned(history, "remove", 1) == {1: "NOT: f#9, which needs it, is not over"}
        assert planned(history, "remove", 5, living=False) == {5: "", 6: "it needs f#5", 7: "it needs f#5"}

    def test_what_needs_it_may_be_gone_already(self, history: History) -> None:
        history.apply(Removed(4, 20.0))
        assert planned(history, "remove", 3) == {3: ""}


def test_changes_say_where_tasks_were(history: History) -> None:
    plan = Plan(history, living=True)
    plan.cancel(history.records[5])
    change = plan.changes[5]
    assert (change.task, change.name, change.state, change.done, change.note) == (5, "f", "running", True, "")

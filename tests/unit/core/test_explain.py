from __future__ import annotations

import pytest

from heald.core.event import (
    Cancelled,
    Closed,
    Failure,
    Finished,
    Opened,
    Placed,
    Retried,
    Started,
    Submitted,
    Usage,
)
from heald.core.explain import ended, explain, told
from heald.core.history import History
from heald.core.retry import CANCELLED, WORKER_LOST, Retry
from heald.core.task import Payload, Task

from .conftest import VALUE, Driver


@pytest.fixture
def run() -> Driver:
    return Driver()


def history(run: Driver) -> History:
    history = History()
    history.extend(run.events)
    return history


# -- tasks that are not over -----------------------------------------------------------------------------------------


def test_ready_task_is_told_why_it_has_no_place(run: Driver) -> None:
    task = run.submit()
    assert explain(run.graph, task, lambda node: "both cores are busy") == "f#1 is ready to run: both cores are busy"
    assert explain(run.graph, task, lambda node: "") == "f#1 is ready to run: it is next in line"
    assert explain(run.graph, task) == "f#1 is ready to run: it waits for a place"


def test_placed_task_is_told_behind_what(run: Driver) -> None:
    tasks = [run.submit() for _ in range(5)]
    run.start(tasks[0])
    for task in tasks[1:]:
        run.place(task)
    first = explain(run.graph, tasks[1], ahead=lambda node: tasks[:1])
    assert first == "f#2 is with a worker, attempt 1, behind f#1 (running)"
    last = explain(run.graph, tasks[4], ahead=lambda node: tasks[:4])
    assert last.endswith("behind f#1 (running), f#2 (placed), f#3 (placed) and 1 more")
    assert explain(run.graph, tasks[1], ahead=lambda node: []) == "f#2 is with a worker, attempt 1, and begins"


def test_running_task(run: Driver) -> None:
    task = run.submit()
    run.start(task)
    assert explain(run.graph, task) == "f#1 runs, attempt 1"


def test_waiting_task_is_told_for_whom(run: Driver) -> None:
    parents = [run.submit() for _ in range(5)]
    child = run.submit(*parents, parents[1])
    run.finish(parents[0])
    run.start(parents[1])
    words = "f#6: it waits for f#2 (running), f#3 (ready), f#4 (ready) and 1 more"
    assert explain(run.graph, child) == words


def test_waiting_task_is_told_what_holds_up_the_chain(run: Driver) -> None:
    first = run.submit(work=run.work("slow"))
    run.start(first)
    for last in range(first, 20_000):
        run.graph.apply(child(run, last))
    last += 1
    words = f"f#{last}: it waits for f#{last - 1} (waiting); in the end for slow#1 (running)"
    assert explain(run.graph, last) == words


def child(run: Driver, parent: int) -> Submitted:
    return Submitted(parent + 1, 1.0, Task(parent + 1, run.work(), Payload(b""), (parent,)))


def test_join_is_told_to_wait_for_what_it_returned(run: Driver) -> None:
    join, inner, over = run.submit(work=run.work("sweep")), run.submit(), run.submit()
    run.finish(over)
    run.expand(join, inner, over, inner)
    assert explain(run.graph, join) == "sweep#1: its body has run; it waits for what that returned: f#2 (ready)"


def test_pause_is_told_with_its_length_and_its_reason(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=2, delay=1.5)))
    run.fail(task)
    words = "f#1 waits for the end of a pause of 1.5 s before attempt 2; attempt 1 failed: ValueError: no"
    assert explain(run.graph, task) == words
    run.due(task)
    assert explain(run.graph, task) == "f#1 is ready to run: it waits for a place; attempt 1 failed: ValueError: no"


def test_task_that_is_over_is_not_in_the_graph(run: Driver) -> None:
    assert explain(run.graph, 7) == "task 7 is over, or was never here"


# -- tasks that are over ---------------------------------------------------------------------------------------------


def test_done_task_is_told_how_it_went(run: Driver) -> None:
    task = run.submit()
    run.place(task)
    run.apply(Finished(task, run.time, 1, VALUE, Usage(1e9, 1.25, 0.5, 2_000_000)))
    assert told(history(run), task).splitlines() == [
        "f#1 is done",
        "  it ended with attempt 1 on worker-1 of process: 1.25 s, 0.5 s of CPU, 2 MB",
    ]


def test_failed_task_is_told_why_with_its_attempts_logs_and_hint(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=1)))
    run.fail(task, "its worker was killed by SIGKILL", kind=WORKER_LOST)
    run.fail(task, "ValueError: first")
    run.fail(task, "ValueError: last", hint="give it a number", stdout="/logs/1.out", stderr="/logs/1.err")
    assert told(history(run), task).splitlines() == [
        "f#1 failed: ValueError: last",
        "  attempt 1 failed: its worker was killed by SIGKILL",
        "  attempt 2 failed: ValueError: first",
        "  it ended with attempt 3 on worker-1 of process",
        "  stdout: /logs/1.out",
        "  stderr: /logs/1.err",
        "  hint: give it a number",
    ]


def test_task_that_failed_by_another_is_told_the_chain(run: Driver) -> None:
    a = run.submit(work=run.work("a"))
    b = run.submit(a, work=run.work("b"))
    c = run.submit(b, work=run.work("c"))
    run.fail(a, stderr="/logs/a.err")
    assert told(history(run), c).splitlines() == [
        "c#3 failed, since a#1 failed: ValueError: no",
        "  needed by: a#1 <- b#2 <- c#3",
        "  stderr: /logs/a.err",
    ]


def test_cancelled_task_is_told_why(run: Driver) -> None:
    parent = run.submit()
    child = run.submit(parent)
    run.start(parent)
    run.cancel(parent, "the session was closed")
    found = history(run)
    assert told(found, parent).splitlines() == [
        "f#1 was cancelled: the session was closed",
        "  it ended with attempt 1 on worker-1 of process",
    ]
    assert told(found, child).splitlines() == [
        "f#2 was cancelled: f#1, which it needs, was cancelled: the session was closed",
        "  needed by: f#1 <- f#2",
    ]


def test_recalled_and_refused_tasks_were_not_run(run: Driver) -> None:
    known, refused = run.submit(), run.submit()
    run.apply(Finished(known, run.time, 0, VALUE, recalled=True))
    run.apply(Finished(refused, run.time, 0, Failure("refused", "no node has 99 cpus"), recalled=True))
    found = history(run)
    assert told(found, known).splitlines() == [
        "f#1 is done",
        "  it was not run: its value was known, from a memo or from an earlier process",
    ]
    assert told(found, refused).splitlines() == ["f#2 failed: no node has 99 cpus", "  it was not run"]


def test_task_that_goes_on_is_told_where_it_is(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=1)))
    run.fail(task)
    run.place(task)
    run.apply(Started(task, run.time, 2, 4711))
    assert told(history(run), task).splitlines() == ["f#1 runs, attempt 2", "  attempt 1 failed: ValueError: no"]


def test_task_that_its_process_left_behind(run: Driver) -> None:
    task = run.submit()
    run.start(task)
    found = history(run)
    found.extend([Closed(2.0), Opened(3.0, 1, "here", "me", "3.13", "0.1.0", ())])
    assert told(found, task).startswith("f#1 was not over when the process that drove it ended")
    assert told(found, 99) == "there is no task 99 in this run"


def test_task_that_is_to_be_run_again(run: Driver) -> None:
    task = run.submit()
    run.fail(task)
    found = history(run)
    found.apply(Retried(task, 9.0))
    assert told(found, task).splitlines() == [
        "f#1 is to be run again, the next time that the script comes to it",
        "  attempt 1 failed: ValueError: no",
    ]
    found.extend([Submitted(task, 10.0, found.records[task].task), Placed(task, 11.0, 2, "process", "worker-1")])
    assert told(found, task).splitlines()[:2] == [
        "f#1 is with a worker, attempt 2, and begins",
        "  somebody asked for it to be run again",
    ]
    found.apply(Finished(task, 12.0, 2, VALUE))
    assert told(found, task).splitlines()[:2] == ["f#1 is done", "  somebody asked for it to be run again"]


def test_task_that_was_cancelled_from_outside(run: Driver) -> None:
    task = run.submit()
    found = history(run)
    found.apply(Cancelled(task, 9.0, "cancelled from outside of the script", final=True))
    assert told(found, task).splitlines() == [
        "f#1 was cancelled: from outside of the script",
        "  hint: heald task retry 1 lets it run after all",
    ]


def test_ends_in_a_line() -> None:
    assert ended("f#1", None) == "f#1 is done"
    assert ended("f#1", Failure(CANCELLED, "by its owner")) == "f#1 was cancelled: by its owner"

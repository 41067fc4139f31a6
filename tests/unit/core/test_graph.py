"""The graph: its rules by examples; its invariants, and that a restart is a replay, under generated events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heald.core.event import Cancelled, Due, Event, Expanded, Failure, Finished, Placed, Returned, Started, Submitted
from heald.core.graph import Joined, Pause, Ready, Settle, Stop, Withdraw
from heald.core.history import History
from heald.core.resources import Resources
from heald.core.retry import (
    CANCELLED,
    DEPENDENCY,
    KINDS,
    OUT_OF_MEMORY,
    REFUSED,
    REQUEUED,
    RESULT,
    USER,
    WALLTIME,
    WORKER_LOST,
    Retry,
)
from heald.core.state import CASCADES, TRANSITIONS, State
from heald.core.task import Payload, Task

from .conftest import SHAPE, VALUE, Driver

LONG = 100_000


@pytest.fixture
def run() -> Driver:
    return Driver()


# -- one task --------------------------------------------------------------------------------------------------------


def test_task_without_inputs_is_ready_at_once(run: Driver) -> None:
    task = run.submit()
    assert run.states(task) == ["ready"]
    assert run.graph.nodes[task].label == "f#1"


def test_task_goes_through_its_states_to_its_value_and_handle(run: Driver) -> None:
    task = run.submit(handle="the future")
    seen = run.states(task)
    run.place(task)
    seen += run.states(task)
    run.apply(Started(task, run.time, 1, 4711))
    seen += run.states(task)
    actions = run.finish(task)
    assert [*seen, *run.states(task)] == ["ready", "placed", "running", "done"]
    assert actions == [Settle(task, State.done, VALUE, "the future")]
    assert not run.graph.nodes


def test_short_attempt_ends_without_a_start(run: Driver) -> None:
    task = run.submit()
    run.place(task)
    assert run.finish(task) == [Settle(task, State.done, VALUE)]


def test_given_back_task_is_ready_for_another_attempt(run: Driver) -> None:
    task = run.submit()
    run.place(task)
    assert run.give_back(task) == [Ready(task)]
    assert run.place(task) == 2
    run.apply(Started(task, run.time, 2, 4711))
    assert run.give_back(task) == [Ready(task)]


def test_failure_begins_its_chain_with_the_task(run: Driver) -> None:
    task = run.submit()
    run.fail(task)
    assert run.failure(task) == Failure(USER, "ValueError: no", chain=("f#1",), attempt=1)


@pytest.mark.parametrize("outcome", [VALUE, Failure(REFUSED, "too large"), Failure(WORKER_LOST, "no worker lives")])
def test_what_is_known_before_it_runs_ends_it_at_once(run: Driver, outcome: Any) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=9)))
    (settle,) = run.apply(Finished(task, run.time, 0, outcome, recalled=True))
    assert isinstance(settle, Settle)
    assert settle.state is (State.failed if isinstance(outcome, Failure) else State.done)


def test_value_from_an_earlier_process_ends_a_task_that_waits(run: Driver) -> None:
    parent = run.submit()
    child = run.submit(parent)
    run.apply(Finished(child, run.time, 0, VALUE, recalled=True))
    run.finish(parent)
    assert run.states(parent, child) == ["done", "done"]


# -- late and repeated events ----------------------------------------------------------------------------------------


def test_events_of_an_older_attempt_change_nothing(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=5)))
    run.start(task)
    run.fail(task)
    run.start(task)
    for late in (
        Placed(task, 1.0, 1, "process", "worker-1"),
        Placed(task, 1.0, 2, "process", "worker-1"),
        Started(task, 1.0, 1, 4711),
        Returned(task, 1.0, 1),
        Expanded(task, 1.0, 1, (), SHAPE),
        Finished(task, 1.0, 1, VALUE),
        Due(task, 1.0, 1),
    ):
        assert run.apply(late) == []
    assert run.states(task) == ["running"]


def test_repeated_placement_of_an_attempt_that_failed_changes_nothing(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=5)))
    run.fail(task)
    run.apply(Placed(task, 1.0, 1, "process", "worker-1"))
    assert run.states(task) == ["ready"]


def test_repeated_end_of_an_attempt_is_not_charged_twice(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=1)))
    run.fail(task)
    assert run.states(task) == ["ready"]
    assert run.apply(Finished(task, 1.0, 1, Failure(USER, "ValueError: no"))) == []
    assert run.apply(Finished(task, 1.0, 1, VALUE)) == []
    assert run.states(task) == ["ready"]


def test_events_after_the_end_and_of_strangers_change_nothing(run: Driver) -> None:
    task = run.submit()
    run.start(task)
    run.cancel(task)
    for late in (Finished(task, 1.0, 1, VALUE), Cancelled(task, 1.0, "again"), Started(task, 1.0, 1, 1)):
        assert run.apply(late) == []
    assert run.graph.apply(Cancelled(99, 1.0, "who?")) == []
    assert run.states(task) == ["cancelled"]


def test_repeated_submission_changes_nothing(run: Driver) -> None:
    task = run.submit()
    run.start(task)
    record = run.graph.nodes[task].record
    assert run.graph.apply(Submitted(task, 1.0, record)) == []
    assert run.states(task) == ["running"]


@pytest.mark.parametrize("state", [state for state in State if not state.final], ids=lambda state: state.name)
@pytest.mark.parametrize("kind", [Placed, Started, Returned, Expanded, Finished, Due], ids=lambda kind: kind.__name__)
def test_event_that_the_table_does_not_list_changes_nothing(run: Driver, state: State, kind: type) -> None:
    task = run.submit(*([run.submit()] if state is State.waiting else []))
    if state > State.ready:
        run.place(task)
    if state is State.running:
        run.apply(Started(task, 1.0, 1, 4711))
    attempt = run.graph.nodes[task].attempt
    event: Any = {
        Placed: lambda: Placed(task, 1.0, attempt + 1, "process", "worker-1"),
        Started: lambda: Started(task, 1.0, attempt, 4711),
        Returned: lambda: Returned(task, 1.0, attempt),
        Expanded: lambda: Expanded(task, 1.0, attempt, (), SHAPE),
        Finished: lambda: Finished(task, 1.0, attempt, VALUE, recalled=state <= State.ready),
        Due: lambda: Due(task, 1.0, attempt),
    }[kind]()
    run.apply(event)  # which checks what it changes
    listed = (state, kind.__name__.lower()) in TRANSITIONS and not (kind is Due and state is State.waiting)
    assert (run.state(task) is not state) == listed


# -- dependencies ----------------------------------------------------------------------------------------------------


def test_task_waits_for_all_that_it_needs(run: Driver) -> None:
    first, second = run.submit(), run.submit()
    child = run.submit(first, second)
    assert run.finish(second) == [Settle(second, State.done, VALUE)]
    assert run.states(child) == ["waiting"]
    assert Ready(child) in run.finish(first, Payload(b"first"))
    assert run.graph.nodes[child].inputs == [Payload(b"first"), VALUE]


def test_the_same_input_twice_is_one_dependency_and_two_values(run: Driver) -> None:
    parent = run.submit()
    child = run.submit(parent, parent)
    run.finish(parent)
    assert run.states(child) == ["ready"]
    assert run.graph.nodes[child].inputs == [VALUE, VALUE]
    failing = run.submit()
    twice = run.submit(failing, failing)
    run.fail(failing)
    assert run.states(twice) == ["failed"]


def test_values_of_tasks_that_are_over_are_given(run: Driver) -> None:
    over, open_ = run.submit(), run.submit()
    run.finish(over, Payload(b"over"))
    child = run.submit(over, open_)
    run.finish(open_)
    assert run.graph.nodes[child].inputs == [Payload(b"over"), VALUE]
    assert run.states(run.submit(over)) == ["ready"]


def test_child_of_a_failed_task_fails_at_once_and_names_it(run: Driver) -> None:
    parent = run.submit()
    run.fail(parent)
    child = run.submit(parent, run.submit())
    assert run.failure(child).message == "f#1 failed: ValueError: no"
    assert run.failure(child).chain == ("f#3", "f#1")


def test_parent_whose_failure_nobody_named_is_known_by_its_number(run: Driver) -> None:
    failure = Failure(CANCELLED, "by its owner")
    (settle,) = run.graph.apply(_submission(run, 7), {7: failure})
    assert isinstance(settle, Settle)
    assert settle.outcome.message == "task 7, which it needs, was cancelled: by its owner"


def _submission(run: Driver, *inputs: int) -> Submitted:
    return Submitted(50, 1.0, Task(50, run.work(), Payload(b""), inputs))


def test_failure_cascades_with_the_chain_and_all_that_is_known_of_it(run: Driver) -> None:
    a = run.submit()
    b = run.submit(a)
    c = run.submit(b)
    other = run.submit()
    cause = Failure(
        USER, "ValueError: no", Payload(b"e"), "trace", (), "fix it", 3, "command-failed", "/logs/out", "/logs/err"
    )
    run.finish(a, cause)
    assert run.states(a, b, c, other) == ["failed", "failed", "failed", "ready"]
    assert run.failure(c) == Failure(
        DEPENDENCY,
        "f#1 failed: ValueError: no",
        Payload(b"e"),
        "trace",
        ("f#3", "f#2", "f#1"),
        "fix it",
        3,
        "",  # the code is of the failure of another task
        "/logs/out",
        "/logs/err",
    )


def test_dependency_failures_are_not_tried_again(run: Driver) -> None:
    a = run.submit()
    b = run.submit(a, work=run.work(retry=Retry(limit=9, on=KINDS)))
    run.fail(a)
    assert run.states(b) == ["failed"]


def test_depth_and_priority_are_passed_on(run: Driver) -> None:
    urgent = run.work(priority=7)
    a, b = run.submit(), run.submit()
    c = run.submit(a, work=urgent)
    d = run.submit(c, b)
    nodes = run.graph.nodes
    assert [nodes[task].depth for task in (a, b, c, d)] == [0, 0, 1, 2]
    assert [nodes[task].work.priority for task in (a, c)] == [0, 7]


# -- retries ---------------------------------------------------------------------------------------------------------


def test_failed_attempts_are_tried_again_until_the_limit(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=2)))
    assert run.fail(task) == [Ready(task)]
    assert run.fail(task) == [Ready(task)]
    assert isinstance(run.fail(task, "the last")[0], Settle)
    assert run.failure(task).message == "the last"


def test_pause_before_a_retry_ends_when_it_is_due(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=3, delay=2.0)))
    assert run.fail(task) == [Pause(task, 1, 2.0)]
    assert run.states(task) == ["waiting"]
    assert run.due(task) == [Ready(task)]
    assert run.apply(Due(task, 1.0, 1)) == []
    assert run.fail(task) == [Pause(task, 2, 4.0)]
    assert run.apply(Due(task, 1.0, 1)) == []
    assert run.states(task) == ["waiting"]


def test_who_asks_to_be_run_again_is_charged_nothing(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=1, delay=60.0)))
    for _ in range(5):
        assert run.fail(task, "saved", kind=REQUEUED) == [Ready(task)]
    assert run.fail(task) == [Pause(task, 6, 60.0)]


def test_lost_workers_are_not_charged_to_the_task_and_have_a_limit_of_their_own(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=1, lost=2)))
    run.fail(task, kind=WORKER_LOST)
    run.fail(task, kind=WORKER_LOST)
    assert run.fail(task) == [Ready(task)]
    run.fail(task, "its worker was killed", kind=WORKER_LOST)
    assert run.failure(task).kind == WORKER_LOST


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (OUT_OF_MEMORY, Resources(memory=100, walltime=10), Resources(memory=300, walltime=10)),
        (WALLTIME, Resources(memory=100, walltime=10), Resources(memory=100, walltime=30)),
        (USER, Resources(memory=100, walltime=10), Resources(memory=100, walltime=10)),
    ],
)
def test_next_attempt_asks_for_more_of_what_was_short(
    run: Driver, kind: str, before: Resources, after: Resources
) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=2, grow=3), resources=before))
    assert run.graph.nodes[task].needs == before
    run.fail(task, kind=kind)
    assert run.graph.nodes[task].needs == after


def test_hook_forbids_another_try(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=9)))
    run.fail(task, final=True)
    assert run.states(task) == ["failed"]


@pytest.mark.parametrize("kind", [RESULT, REFUSED, CANCELLED])
def test_some_failures_are_never_tried_again(run: Driver, kind: str) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=9, on=KINDS)))
    run.fail(task, kind=kind)
    assert run.state(task) is (State.cancelled if kind == CANCELLED else State.failed)


# -- cancellation ----------------------------------------------------------------------------------------------------


def test_cancelled_attempt_is_stopped(run: Driver) -> None:
    ready, placed, running = run.submit(), run.submit(), run.submit()
    run.place(placed)
    run.start(running)
    assert [type(action) for action in run.cancel(ready)] == [Withdraw, Settle]
    assert run.cancel(placed)[0] == Stop(placed, 1, "by its owner")
    assert run.cancel(running)[0] == Stop(running, 1, "by its owner")


def test_cancellation_reaches_all_that_need_it_and_nothing_else(run: Driver) -> None:
    parent = run.submit()
    child = run.submit(parent)
    grandchild = run.submit(child)
    beside = run.submit()
    run.cancel(parent)
    assert run.states(parent, child, grandchild, beside) == ["cancelled"] * 3 + ["ready"]
    assert run.failure(grandchild).message == "f#1, which it needs, was cancelled: by its owner"
    assert run.failure(grandchild).chain == ("f#3", "f#2", "f#1")


def test_cancelled_child_leaves_its_parent(run: Driver) -> None:
    parent = run.submit()
    child = run.submit(parent)
    run.cancel(child)
    run.finish(parent)
    assert run.states(parent, child) == ["done", "cancelled"]


def test_cancelled_pause_is_over(run: Driver) -> None:
    task = run.submit(work=run.work(retry=Retry(limit=1, delay=1.0)))
    run.fail(task)
    run.cancel(task)
    assert run.apply(Due(task, 1.0, 1)) == []


# -- joins -----------------------------------------------------------------------------------------------------------


def test_join_waits_for_what_its_body_returned(run: Driver) -> None:
    join = run.submit()
    a, b = run.submit(), run.submit()
    run.start(join)
    assert run.expand(join, a, b) == []
    assert run.states(join) == ["waiting"]
    run.finish(b, Payload(b"b"))
    assert run.finish(a, Payload(b"a"))[-1] == Settle(
        join, State.done, Joined(SHAPE, (Payload(b"a"), Payload(b"b"))), None
    )


def test_join_of_one_future_has_its_value(run: Driver) -> None:
    join, inner = run.submit(), run.submit()
    child = run.submit(join)
    run.expand(join, inner, shape=None)
    run.finish(inner, Payload(b"it"))
    assert run.settled[join].outcome == Payload(b"it")
    assert run.graph.nodes[child].inputs == [Payload(b"it")]


def test_join_of_nothing_is_done_at_once(run: Driver) -> None:
    join = run.submit()
    assert run.expand(join) == [Settle(join, State.done, Joined(SHAPE, ()))]


def test_join_of_tasks_that_are_over_is_done_at_once(run: Driver) -> None:
    over, join = run.submit(), run.submit()
    run.finish(over)
    assert run.expand(join, over, over) == [Settle(join, State.done, Joined(SHAPE, (VALUE, VALUE)))]


def test_join_of_the_same_future_twice(run: Driver) -> None:
    join, inner = run.submit(), run.submit()
    run.expand(join, inner, inner)
    run.finish(inner)
    assert run.settled[join].outcome == Joined(SHAPE, (VALUE, VALUE))


def test_join_lets_go_of_its_arguments_once_its_body_has_run(run: Driver) -> None:
    argument, inner = run.submit(), run.submit()
    join = run.submit(argument)
    run.finish(argument)
    run.expand(join, inner)
    assert run.graph.nodes[join].got == {}


def test_failing_task_fails_its_join_and_those_behind_it(run: Driver) -> None:
    join = run.submit(work=run.work("sweep", retry=Retry(limit=5)))
    good, bad, child = run.submit(), run.submit(work=run.work("g")), run.submit(join)
    run.expand(join, good, bad)
    run.fail(bad)
    assert run.states(join, child, good) == ["failed", "failed", "ready"]
    assert run.failure(child).chain == (f"f#{child}", "sweep#1", "g#3")


def test_join_of_a_failed_task_fails_at_once(run: Driver) -> None:
    bad, join = run.submit(), run.submit()
    run.fail(bad)
    run.expand(join, bad)
    assert run.failure(join).chain == ("f#2", "f#1")


def test_cancelled_join_takes_its_tasks_with_it(run: Driver) -> None:
    outer, middle, inner, running = (run.submit() for _ in range(4))
    run.expand(outer, middle)
    run.expand(middle, inner, running)
    run.start(running)
    actions = run.cancel(outer)
    assert run.states(outer, middle, inner, running) == ["cancelled"] * 4
    assert any(isinstance(action, Stop) and action.task == running for action in actions)
    assert run.failure(inner).message == "f#2, which returned its future, was cancelled"


def test_cancelled_inner_task_cancels_its_join(run: Driver) -> None:
    join, inner, sister = run.submit(), run.submit(), run.submit()
    run.expand(join, inner, sister)
    run.cancel(inner)
    assert run.states(join, inner, sister) == ["cancelled"] * 3


def test_join_that_returns_what_waits_for_it_is_refused(run: Driver) -> None:
    join = run.submit(work=run.work("join"))
    near = run.submit(join)
    far = run.submit(near, work=run.work("far"))
    run.expand(join, run.submit(), far)
    assert run.failure(join).code == "cycle"
    assert "returned the future of far#3, which waits for it" in run.failure(join).message
    assert run.failure(join).hint
    assert run.states(near, far) == ["failed", "failed"]


def test_join_that_returns_itself_is_refused(run: Driver) -> None:
    join = run.submit()
    run.expand(join, join)
    assert run.failure(join).code == "cycle"


def test_cycle_through_another_join_is_found(run: Driver) -> None:
    first, second = run.submit(), run.submit()
    run.expand(first, second)
    run.expand(second, first)
    assert run.failure(second).code == "cycle"
    assert run.states(first) == ["failed"]


def test_join_may_return_what_its_own_input_was(run: Driver) -> None:
    a = run.submit()
    join = run.submit(a)
    run.finish(a)
    run.expand(join, a)
    assert run.states(join) == ["done"]


# -- long chains -----------------------------------------------------------------------------------------------------


def chain(run: Driver, length: int = LONG) -> None:
    work = run.work()
    for task in range(1, length + 1):
        run.graph.apply(_record(task, work, (task - 1,) if task > 1 else ()))


def _record(task: int, work: bytes, inputs: tuple[int, ...] = ()) -> Submitted:
    return Submitted(task, 1.0, Task(task, work, Payload(b""), inputs))


@pytest.mark.parametrize(
    ("event", "state", "words"),
    [
        (Finished(1, 1.0, 1, Failure(USER, "ValueError: no")), State.failed, "f#1 failed: ValueError: no"),
        (Cancelled(1, 1.0, "by its owner"), State.cancelled, "f#1, which it needs, was cancelled: by its owner"),
    ],
    ids=["failed", "cancelled"],
)
def test_end_of_a_long_chain_takes_linear_time_and_memory(run: Driver, event: Any, state: State, words: str) -> None:
    chain(run)
    run.graph.apply(Placed(1, 1.0, 1, "process", "worker-1"))
    settles = [action for action in run.graph.apply(event) if isinstance(action, Settle)]
    assert [action.task for action in settles] == list(range(1, LONG + 1))
    assert {action.state for action in settles} == {state}
    assert max(len(action.outcome.message) + 100 * len(action.outcome.chain) for action in settles) < 2000
    last = settles[-1].outcome
    assert last.message == words
    assert last.chain[0] == f"f#{LONG}"
    assert last.chain[-1] == "f#1"
    assert len(last.chain) == 13
    assert last.chain.count("…") == 1
    assert not run.graph.nodes


def test_long_chain_runs_to_its_end(run: Driver) -> None:
    chain(run)
    for task in range(1, LONG + 1):
        run.graph.apply(Placed(task, 1.0, 1, "process", "worker-1"))
        ready = run.graph.apply(Finished(task, 1.0, 1, VALUE))[1:]
        assert ready == ([Ready(task + 1)] if task < LONG else [])


@pytest.mark.parametrize("end", [VALUE, Failure(USER, "no"), Failure(CANCELLED, "stopped")], ids=["done", "bad", "off"])
def test_long_chain_of_joins_ends(run: Driver, end: Any) -> None:
    work = run.work()
    for task in range(1, LONG + 1):
        run.graph.apply(_record(task, work))
        run.graph.apply(Placed(task, 1.0, 1, "join", "thread"))
        if task > 1:
            run.graph.apply(Expanded(task - 1, 1.0, 1, (task,), None))
    settles = [one for one in run.graph.apply(Finished(LONG, 1.0, 1, end)) if isinstance(one, Settle)]
    assert len(settles) == LONG
    assert not run.graph.nodes


def test_wide_fan_ends(run: Driver) -> None:
    work = run.work()
    run.graph.apply(_record(1, work))
    for task in range(2, LONG):
        run.graph.apply(_record(task, work, (1,)))
    run.graph.apply(_record(LONG, work, tuple(range(2, LONG))))
    run.graph.apply(Placed(1, 1.0, 1, "process", "worker-1"))
    run.graph.apply(Finished(1, 1.0, 1, Failure(USER, "no")))
    assert not run.graph.nodes


# -- generated events ------------------------------------------------------------------------------------------------

RETRIES = [Retry(), Retry(limit=1), Retry(limit=2, delay=1.0), Retry(limit=1, on=KINDS, lost=1), Retry(lost=0)]
OUTCOMES = [VALUE, VALUE, *(Failure(kind, f"it failed: {kind}") for kind in KINDS if kind != DEPENDENCY)]
ACTS = ["submit", "submit", "place", "start", "finish", "finish", "give_back"]
ACTS += ["expand", "due", "cancel", "stale", "wrong", "recall"]
steps = st.lists(
    st.tuples(
        st.sampled_from(ACTS),
        st.integers(0, 50),
        st.lists(st.integers(0, 50), max_size=4),
    ),
    min_size=20,  # short lists reach little
    max_size=80,
)


def pick(tasks: list[int], number: int) -> int | None:
    return tasks[number % len(tasks)] if tasks else None


def step(run: Driver, act: str, number: int, others: list[int]) -> None:
    """One thing that an engine, its workers or its users might do next; or that reaches it late, or twice."""
    known = list(range(1, run.tasks + 1))
    if act == "submit":
        inputs = [pick(known, other) for other in others] if known else []
        run.submit(*inputs, work=run.work(retry=RETRIES[number % len(RETRIES)]))  # type: ignore[arg-type]
    elif act == "stale" and run.events:
        event: Any = run.events[number % len(run.events)]
        if getattr(event, "task", 0) and (not isinstance(event, Submitted) or event.task in run.graph.nodes):
            late(run, event)
    elif act == "wrong":
        task = pick(known, number)
        if task is not None:
            late(run, Finished(task, run.time, number + 90, VALUE))
            late(run, Returned(task, run.time, number + 90))
    else:
        wanted = {
            "place": (State.ready,),
            "recall": (State.ready,),
            "start": (State.placed,),
            "due": (State.waiting,),
            "cancel": tuple(State),
        }.get(act, (State.placed, State.running))
        task = pick([one for one, node in run.graph.nodes.items() if node.state in wanted], number)
        if task is not None:
            act_on(run, act, task, number, [one for other in others if (one := pick(known, other))])


def act_on(run: Driver, act: str, task: int, number: int, others: list[int]) -> None:
    attempt = run.graph.nodes[task].attempt
    if act == "start":
        run.apply(Started(task, run.time, attempt, 4711))
    elif act == "finish":
        run.finish(task, OUTCOMES[number % len(OUTCOMES)])
    elif act == "expand":
        run.expand(task, *others, shape=None if len(others) == 1 and number % 2 else SHAPE)
    elif act == "recall":
        run.apply(Finished(task, run.time, attempt, OUTCOMES[number % len(OUTCOMES)], recalled=True))
    else:
        getattr(run, act)(task)


def late(run: Driver, event: Any) -> None:
    """What is over, of another attempt or not expected now changes nothing at all."""
    node = run.graph.nodes.get(event.task)
    if node is not None:
        attempt = getattr(event, "attempt", node.attempt)
        expected = (node.state, type(event).__name__.lower()) in TRANSITIONS
        if expected and (attempt > node.attempt if isinstance(event, Placed) else attempt == node.attempt):
            return  # it is not late
    before = snapshot(run)
    assert run.apply(event) == []
    assert snapshot(run) == before


def snapshot(run: Driver) -> dict[int, tuple[Any, ...]]:
    return {
        task: (node.state, node.attempt, node.missing, node.needs, list(node.children or ()))
        for task, node in run.graph.nodes.items()
    }


def drain(run: Driver) -> None:
    """Everything goes well from here on."""
    while run.graph.nodes:
        active = [task for task, node in run.graph.nodes.items() if node.state is not State.waiting]
        if active:
            run.finish(active[0])
        else:
            paused = [task for task, node in run.graph.nodes.items() if not node.missing]
            assert paused, "what is left waits for nothing that could happen"
            run.due(paused[0])


@settings(max_examples=100, deadline=None)
@given(steps)
def test_any_events_keep_the_tables_and_settle_every_task_once(script: list[Any]) -> None:
    run = Driver()  # which checks each change
    for act, number, others in script:
        step(run, act, number, others)
        for node in run.graph.nodes.values():
            missing = {task for task in node.needed if task in run.graph.nodes} if node.missing else set()
            assert bool(node.missing) == bool(missing)
            assert node.missing <= len(node.needed)
    drain(run)
    assert run.settled.keys() == set(range(1, run.tasks + 1))


@settings(max_examples=100, deadline=None)
@given(steps)
def test_replay_of_the_events_gives_the_same_graph(script: list[Any]) -> None:
    run = Driver()
    for act, number, others in script:
        step(run, act, number, others)
    compare(run, run.events)
    drain(run)
    compare(run, run.events)


def with_graph(events: list[Event]) -> History:
    """The history whose graph was asked about every task from its beginning."""
    history = History()
    for event in events:
        history.apply(event)
        assert history.graph is not None  # looking at it is what shows it everything
    return history


def compare(run: Driver, events: list[Event]) -> None:
    history = History()
    history.extend(events)
    assert history.records == with_graph(events).records
    assert history.records.keys() == set(range(1, run.tasks + 1))
    for task, record in history.records.items():
        assert record.state is run.state(task)
        if record.state.final:
            assert record.outcome == run.settled[task].outcome
        else:
            assert (node := history.graph.nodes[task]).attempt == run.graph.nodes[task].attempt == record.attempt
            assert node.needs == run.graph.nodes[task].needs


def test_tables_name_every_open_state_and_only_ways_forward() -> None:
    kinds = {"submitted", "placed", "started", "returned", "expanded", "finished", "due", "cancelled"}
    assert {kind for _, kind in TRANSITIONS} == kinds
    assert {state for state, _ in TRANSITIONS} == set(CASCADES) == {state for state in State if not state.final}
    assert all(targets for targets in TRANSITIONS.values())

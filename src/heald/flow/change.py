"""What somebody outside of a run does to its tasks, whether the run lives or not: cancel, retry, remove.

A living run is asked (`run.control`); of one that has ended, the journal is changed. What that comes to is `plan`'s to
say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from heald.core.errors import UsageError
from heald.core.event import Cancelled, Event, Removed, Retried
from heald.core.history import Record
from heald.core.task import Payload
from heald.flow.driver import asked, driver_of
from heald.flow.plan import Change, Plan
from heald.run import amend
from heald.run.change import Again, Cancel, Changed, Remove, Retry, TaskRequest
from heald.store.folder import Folder
from heald.store.owner import Owner

if TYPE_CHECKING:
    from heald.flow.run import Run

_BATCH = 1 << 20  # bytes of arguments that are handed to a run at once


class _Verb(NamedTuple):
    """`word` on the command line; `plan` takes in a task that was chosen; then what is asked, or written."""

    word: str
    plan: Callable[[Plan, Record], None]
    requests: Callable[[Plan], Iterator[TaskRequest]]
    events: Callable[[Plan], Iterable[Event]]


def cancel(run: Run, tasks: int | Iterable[int], reason: str, *, pretend: bool) -> list[Change]:
    """Have tasks, and those that wait for them, not run: see `Run.cancel`."""

    def events(plan: Plan) -> Iterator[Event]:
        now = time.time()
        for task in plan.chosen:
            yield Cancelled(task, now, reason, final=True)
        for task, root in plan.roots.items():
            yield Cancelled(
                task, now, f"{plan.label(root)}, which it needs, was cancelled: {reason.removeprefix('cancelled ')}"
            )

    return _change(
        run, tasks, _Verb("cancel", Plan.cancel, lambda plan: iter([Cancel(plan.chosen, reason)]), events), pretend
    )


def retry(run: Run, tasks: int | Iterable[int], *, pretend: bool) -> list[Change]:
    """Have tasks, and those that need them, run again: see `Run.retry`."""
    return _change(run, tasks, _Verb("retry", Plan.retry, _again, lambda plan: _each(Retried, plan.tasks)), pretend)


def remove(run: Run, tasks: int | Iterable[int], *, pretend: bool) -> list[Change]:
    """Remove all that is known of tasks, and of those that need them: see `Run.remove`."""

    def events(plan: Plan) -> list[Event]:
        return [*_each(Removed, plan.tasks), *_each(Removed, plan.history.remnants)]  # also what the living run left

    verb = _Verb("rm", Plan.remove, lambda plan: iter([Remove(tuple(plan.tasks))]), events)
    changes = _change(run, tasks, verb, pretend)
    if not pretend:
        amend.discard(run.folder, [change.task for change in changes if change.done])
    return changes


def _each(kind: type[Retried | Removed], tasks: Iterable[int]) -> list[Event]:
    now = time.time()
    return [kind(task, now) for task in tasks]


def _change(run: Run, tasks: int | Iterable[int], verb: _Verb, pretend: bool) -> list[Change]:
    chosen = [tasks] if isinstance(tasks, int) else sorted(set(tasks))

    def planned(*, living: bool) -> Plan:
        history = run.history()
        if not living:
            history.interrupt()  # whoever drove it is gone, though this process may hold the run by now
        plan = Plan(history, living=living)
        for task in chosen:
            if task not in history.records:
                raise UsageError(f"there is no task {task} in {run.path}", hint="heald task ls lists all")
            verb.plan(plan, history.records[task])
        return plan

    run.history()  # raises for a run without a journal
    driver = driver_of(run, f"heald task {verb.word} --run {{}} {_spans(chosen)}")
    if pretend:
        plan = planned(living=driver is not None)
    elif driver is not None:
        plan = planned(living=True)
        if plan.tasks:
            _ask(run, driver, plan, verb.requests(plan))
    else:
        with _taken(run.folder):
            plan = planned(living=False)
            _write(run.folder, list(verb.events(plan)))
    return sorted(plan.changes.values(), key=lambda change: change.task)


def _ask(run: Run, driver: Owner, plan: Plan, requests: Iterator[TaskRequest]) -> None:
    """Have the living run do it; its answers go into the plan."""
    answers: dict[int, Changed] = {}
    for request in requests:
        answers.update(asked(run, driver, request))
    for task, change in plan.changes.items():
        if change.done:
            said = answers.get(task) or Changed(answers[plan.roots[task]].done)  # what waits for it shares its fate
            note = "; ".join(filter(None, (change.note, said.note)))
            plan.changes[task] = msgspec.structs.replace(change, done=said.done, note=note)


def _again(plan: Plan) -> Iterator[TaskRequest]:
    """The tasks to be run again, with what the run has forgotten of them, in batches."""
    batch: list[Again] = []
    size = 0
    for task in plan.tasks:
        record = plan.history.records[task]
        given = {}
        for one in record.task.inputs:
            needed = plan.history.records.get(one)
            if needed is not None and one not in plan.changes and isinstance(needed.outcome, Payload):
                given[one] = needed.outcome
        batch.append(Again(record.task, record.attempt, given))
        size += len(record.task.arguments.data) + sum(len(value.data) for value in given.values())
        if size > _BATCH:
            yield Retry(tuple(batch))
            batch, size = [], 0
    if batch:
        yield Retry(tuple(batch))


@contextmanager
def _taken(folder: Folder) -> Iterator[None]:
    """Own a run that nobody drives; afterwards it is as dead as before."""
    dead = folder.owner
    folder.claim()
    try:
        yield
    finally:
        folder.release(dead)


def _write(folder: Folder, events: list[Event]) -> None:
    removed = [event for event in events if isinstance(event, Removed)]
    if removed:
        amend.purge(folder, removed)
    elif events:
        amend.append(folder, events)


def _spans(tasks: list[int]) -> str:
    """Ids as people write them.

    >>> _spans([1, 2, 3, 7])
    '1-3 7'
    """
    spans: list[list[int]] = []
    for task in tasks:
        if spans and task == spans[-1][1] + 1:
            spans[-1][1] = task
        else:
            spans.append([task, task])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)

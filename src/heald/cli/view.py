"""Tasks and runs as the command line shows them: flat records, alike in tables and in JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from heald.cli.quantity import amount, duration
from heald.core.attempt import Attempt
from heald.core.event import Failure, Usage
from heald.core.history import History, Record
from heald.core.resources import Resources
from heald.core.state import State
from heald.core.task import Payload
from heald.flow.run import RUNNING, Run


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """One task. `seconds` of the last attempt, so far for one that runs; `cpu` in seconds, `memory` in bytes."""

    id: int
    name: str
    kind: str
    state: str
    attempt: int
    executor: str
    worker: str
    pid: int
    submitted: datetime
    started: datetime | None
    ended: datetime | None
    seconds: float | None
    cpu: float | None
    memory: int | None
    exit: int | None
    recalled: bool
    tags: dict[str, str]
    failure: dict[str, Any] | None


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a task."""

    number: int
    executor: str
    worker: str
    pid: int
    placed: datetime | None
    started: datetime | None
    ended: datetime | None
    seconds: float | None
    cpu: float | None
    memory: int | None
    exit: int | None
    failure: dict[str, Any] | None


class NameView(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of one name. `seconds`: of all their attempts that ended last, together."""

    name: str
    tasks: int
    done: int
    failed: int
    seconds: float

    @property
    def mean(self) -> float:
        """Seconds of one of them."""
        return self.seconds / (self.done + self.failed) if self.done + self.failed else 0.0


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """One run. The counts are of tasks by state; None when it keeps no journal."""

    run: str
    state: str
    host: str
    pid: int
    started: datetime | None
    ended: datetime | None
    command: str
    counts: dict[str, int] | None


def task_view(record: Record, history: History, now: float) -> TaskView:
    """One task at the time `now`."""
    work, usage = history.work(record), _measured(record.usage)
    running = record.state is State.running
    return TaskView(
        id=record.task.id,
        name=work.name,
        kind=work.kind,
        state=record.state.name,
        attempt=record.attempt,
        executor=record.executor,
        worker=record.worker,
        pid=record.pid,
        submitted=datetime.fromtimestamp(record.submitted, UTC),
        started=_time(record.started),
        ended=_time(record.settled),
        seconds=now - record.started if running else usage.seconds if usage else None,
        cpu=usage.cpu if usage and not running else None,
        memory=usage.memory if usage and not running else None,
        exit=usage.exit if usage and not running else None,
        recalled=record.recalled,
        tags=dict(work.tags),
        failure=_failure(record.failure),
    )


def attempt_view(attempt: Attempt) -> AttemptView:
    """One try of a task."""
    usage = _measured(attempt.usage)
    return AttemptView(
        number=attempt.number,
        executor=attempt.executor,
        worker=attempt.worker,
        pid=attempt.pid,
        placed=_time(attempt.placed),
        started=_time(attempt.started),
        ended=_time(attempt.ended),
        seconds=usage.seconds if usage else None,
        cpu=usage.cpu if usage else None,
        memory=usage.memory if usage else None,
        exit=usage.exit if usage else None,
        failure=_failure(attempt.failure),
    )


def run_view(run: Run) -> RunView:
    """A run, with its tasks counted."""
    state, owner = run.state, run.owner
    history = run.history() if run.recorded else None
    opened = history.opened[-1] if history is not None and history.opened else None
    closed = history.closed if history is not None else None
    return RunView(
        run=run.path.name if run.path.parent.name == "runs" else str(run.path),
        state=state,
        host=opened.host if opened else owner.host if owner else "",
        pid=opened.pid if opened else owner.pid if owner else 0,
        started=_time(opened.time) if opened else datetime.fromisoformat(owner.since) if owner else None,
        ended=_time(closed.time) if closed is not None and state != RUNNING else None,
        command=shlex.join(opened.command) if opened else "",
        counts=counts(history.records.values()) if history is not None else None,
    )


def counts(records: Iterable[Record]) -> dict[str, int]:
    """How many tasks there are in each state, in the order of a task's life."""
    found = dict.fromkeys(State, 0)
    for record in records:
        found[record.state] += 1
    return {state.name: count for state, count in found.items()}


def names(history: History) -> list[NameView]:
    """The tasks by name, those that took longest first."""
    found: dict[str, list[float]] = {}
    for record in history.records.values():
        row = found.setdefault(history.work(record).name, [0, 0, 0, 0.0])
        row[0] += 1
        row[1] += record.state is State.done
        row[2] += record.state is State.failed
        row[3] += record.usage.seconds if record.usage else 0.0
    views = [
        NameView(name=name, tasks=int(tasks), done=int(done), failed=int(failed), seconds=seconds)
        for name, (tasks, done, failed, seconds) in found.items()
    ]
    return sorted(views, key=lambda view: -view.seconds)


def busy(history: History, now: float) -> tuple[float, float]:
    """Seconds since the process of the run began (or until it ended), and core seconds of the attempts that it made."""
    if not history.opened:
        return 0.0, 0.0
    begun = history.opened[-1].time
    last, cores = begun, 0.0
    for record in history.records.values():
        last = max(last, record.settled, record.placed, record.started)
        if record.started >= begun:
            needs = history.work(record).resources
            seconds = now - record.started if record.state is State.running else 0.0
            if record.usage is not None and record.settled:
                seconds = record.usage.seconds
            cores += seconds * needs.cpus * needs.ranks
    return (history.closed.time if history.closed else last) - begun, cores


def needs(resources: Resources) -> str:
    """What an attempt needs, in words.

    >>> needs(Resources(cpus=2, ranks=4, memory=10**9, walltime=600))
    '4 ranks, 2 cores each, 1 GB of memory, at most 10m 00s'
    """
    parts = [f"{resources.ranks} ranks"] if resources.ranks > 1 else []
    parts.append(f"{resources.cpus} core{'s' * (resources.cpus > 1)}{' each' * (resources.ranks > 1)}")
    if resources.gpus:
        parts.append(f"{resources.gpus:g} GPU{' each' * (resources.ranks > 1)}")
    if resources.nodes > 1:
        parts.append(f"on {resources.nodes} nodes")
    if resources.memory:
        parts.append(f"{amount(resources.memory)} of memory")
    if resources.walltime:
        parts.append(f"at most {duration(resources.walltime)}")
    return ", ".join(parts)


def size_of(outcome: Any) -> int:
    """Bytes of a value as it was kept."""
    if not isinstance(outcome, Payload):
        return sum(map(size_of, getattr(outcome, "values", ())))
    return len(outcome.data) + sum(ref.size for ref in outcome.buffers) + sum(map(size_of, outcome.inputs))


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _measured(usage: Usage | None) -> Usage | None:
    """The usage, if anything was run at all."""
    return usage if usage is not None and usage.started else None


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    shown = ("kind", "message", "hint", "code", "exit", "chain", "stdout", "stderr", "traceback")
    return {name: getattr(failure, name) for name in shown}

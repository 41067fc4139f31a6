"""Tasks and runs as the command line shows them: flat records, alike in tables and in JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from heald.core.attempt import Attempt
from heald.core.event import Failure, Usage
from heald.core.history import History, Record
from heald.core.quantity import amount, duration
from heald.core.resources import Resources
from heald.core.state import State
from heald.core.task import Payload
from heald.flow.run import RUNNING, Run
from heald.store.folder import runs_directory


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


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """One run. The counts are of tasks by state; None when it keeps no journal. `supervisor`: the process that looks
    after the script while it runs detached, else 0.
    """

    run: str
    state: str
    host: str = ""
    pid: int = 0
    supervisor: int = 0
    started: datetime | None = None
    ended: datetime | None = None
    command: str = ""
    counts: dict[str, int] | None = None


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
    supervisor = run.detached.supervisor if run.supervised else None
    history = run.history() if run.recorded else None
    opened = history.opened[-1] if history is not None and history.opened else None
    closed = history.closed if history is not None else None
    return RunView(
        run=run.path.name if run.path.parent in (Path.cwd(), runs_directory()) else str(run.path),
        state=state,
        host=opened.host if opened else owner.host if owner else "",
        pid=opened.pid if opened else owner.pid if owner else 0,
        supervisor=supervisor.pid if supervisor else 0,
        started=_time(opened.time) if opened else datetime.fromisoformat(owner.since) if owner else None,
        ended=_time(closed.time) if closed is not None and state != RUNNING else None,
        command=shlex.join(opened.command) if opened else "",
        counts=counts(history.records.values()) if history is not None else None,
    )


def counts(records: Iterable[Record]) -> dict[str, int]:
    """How many tasks there are in each state, in the order of a task's life."""
    found = Counter(map(attrgetter("state"), records))
    return {state.name: found[state] for state in State}


def needs(resources: Resources) -> str:
    """What an attempt needs, in words.

    >>> needs(Resources(cpus=2, ranks=4, memory=10**9, walltime=600))
    '4 ranks, 2 cores each, 1 GB of memory, at most 10m 00s'
    """
    parts = [f"{resources.ranks} ranks"] if resources.ranks > 1 else []
    parts.append(f"{resources.cpus} core{'s' * (resources.cpus > 1)}{' each' * (resources.ranks > 1)}")
    if resources.gpus:
        parts.append(f"{resources.gpus:g} GPU{' each' * (resources.ranks > 1)}")
    if resources.nodes > 1 or resources.hosts:
        where = f"on {resources.nodes} node{'s' * (resources.nodes > 1)}"
        parts.append(where + (f" of {', '.join(resources.hosts)}" if resources.hosts else ""))
    if resources.tasks_per_node:
        parts.append(f"{resources.tasks_per_node} such tasks on a node")
    if resources.memory:
        parts.append(f"{amount(resources.memory)} of memory")
    if resources.walltime:
        parts.append(f"at most {duration(resources.walltime)}")
    if resources.notice:
        parts.append(f"told {duration(resources.notice)} before its end")
    return ", ".join(parts)


def size_of(outcome: Any) -> int:
    """Bytes of a value as it was kept."""
    return outcome.size if isinstance(outcome, Payload) else sum(map(size_of, getattr(outcome, "values", ())))


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

"""How a run went: what `heald run show` says."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime
from heapq import nlargest
from operator import attrgetter
from typing import Any

import msgspec

from heald.cli.moment import moment
from heald.cli.table import Column, table
from heald.cli.view import RunView, TaskView, run_view, task_view
from heald.core.errors import JournalError
from heald.core.history import History
from heald.core.quantity import amount, duration
from heald.core.retry import DEPENDENCY
from heald.core.state import State
from heald.flow.run import ENDED, KILLED, Run

_SLOWEST = 5
_SHOWN = 10  # names and failures shown to people before the rest are only counted


class NameView(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of one name; `seconds`: of their last attempts, together."""

    name: str
    tasks: int
    done: int
    failed: int
    seconds: float

    @property
    def mean(self) -> float:
        """Seconds of one of them."""
        return self.seconds / max(1, self.done + self.failed)


class FailureView(msgspec.Struct, frozen=True, kw_only=True):
    """Failures of one name and class: how many, and the first of them."""

    name: str
    kind: str
    count: int
    first: int
    message: str


class Summary(RunView, frozen=True, kw_only=True):
    """One run with all that is known of it. `seconds`: since its process began, or until that ended; `cores`: how many
    were busy meanwhile, on average. `processes`: how many have worked on it, one after another. `bytes`: its journal.
    """

    folder: str
    directory: str
    python: str
    heald: str
    processes: int
    seconds: float
    cores: float
    names: list[NameView]
    failures: list[FailureView]
    slowest: list[TaskView]
    logs: str
    bytes: int


def summary(run: Run) -> Summary:
    """How a run goes or went. Raises JournalError when its journal says nothing, as one cut off at its head does."""
    now = time.time()
    view, history = run_view(run), run.history()
    if not history.opened:
        hint = "its process begins just now; or it was killed then: start its script again"
        raise JournalError(f"the journal of {run.path} says nothing yet", hint=hint)
    opened = history.opened[-1]
    seconds, cores = _busy(history, now, over=view.state in (ENDED, KILLED))
    timed = [record for record in history.records.values() if record.usage is not None and record.usage.started]
    slowest = nlargest(_SLOWEST, timed, key=attrgetter("usage.seconds"))
    return Summary(
        **msgspec.structs.asdict(view),
        folder=str(run.path),
        directory=opened.directory,
        python=opened.python,
        heald=opened.heald,
        processes=len(history.opened),
        seconds=seconds,
        cores=cores / seconds if seconds else 0.0,
        names=_names(history),
        failures=_failures(history),
        slowest=[task_view(record, history, now) for record in slowest],
        logs=str(run.logs),
        bytes=run.folder.journal.stat().st_size,
    )


def _busy(history: History, now: float, *, over: bool) -> tuple[float, float]:
    """Seconds that the process of the run has had so far, and core seconds of the attempts that it made."""
    records, begun, cores = history.records.values(), history.opened[-1].time, 0.0
    width = {digest: work.resources.cpus * work.resources.ranks for digest, work in history.works.items()}
    for record in records:
        if record.started >= begun:
            seconds = record.usage.seconds if record.usage is not None else 0.0
            if record.state is State.running:
                seconds = now - record.started
            cores += seconds * width[record.task.work]
    end = now
    if history.closed is not None:
        end = history.closed.time
    elif over:
        end = max([begun, *(max(record.settled, record.placed, record.started) for record in records)])
    return end - begun, cores


def _names(history: History) -> list[NameView]:
    """The tasks by name, those that took longest first."""
    works, seconds = history.works, defaultdict[str, float](float)
    for record in history.records.values():
        seconds[works[record.task.work].name] += record.usage.seconds if record.usage is not None else 0.0
    views = [
        NameView(name=name, tasks=of.total(), done=of[State.done], failed=of[State.failed], seconds=seconds[name])
        for name, of in history.tally().items()
    ]
    return sorted(views, key=lambda view: -view.seconds)


def _failures(history: History) -> list[FailureView]:
    """The failures by name and class: causes before what followed from them, the most frequent first."""
    found: dict[tuple[str, str], FailureView] = {}
    for record in history.records.values():
        failure = record.failure
        if failure is None or record.state is not State.failed:
            continue
        name, kind, task = history.work(record).name, failure.kind, record.task.id
        known = found.get((name, kind)) or FailureView(
            name=name, kind=kind, count=0, first=task, message=failure.message
        )
        found[name, kind] = msgspec.structs.replace(known, count=known.count + 1)
    return sorted(found.values(), key=lambda view: (view.kind == DEPENDENCY, -view.count))


def lines(found: Summary, width: int | None) -> list[str]:
    """The same for people."""
    today = datetime.now(UTC)
    counts = found.counts or {}
    states = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    again = f"; {found.processes} processes have worked on it" if found.processes > 1 else ""
    watched = f"process {found.supervisor} starts it again when something kills it" if found.supervisor else ""
    cores = f"{found.cores:.1f} cores busy on average" if found.cores else "and ran nothing"
    facts = {
        "command": found.command,
        "in": found.directory,
        "started": f"{moment(found.started, today)} on {found.host}, process {found.pid}{again}",
        "detached": watched,
        "lasted": f"{duration(found.seconds)}, {cores}",
        "tasks": f"{sum(counts.values()):,}: {states}" if states else "none yet",
        "logs": found.logs,
        "journal": amount(found.bytes),
    }
    text = [f"{found.folder} {_STATES.get(found.state, found.state)}"]
    text += [f"  {word:<8} {fact}" for word, fact in facts.items() if fact]
    for columns, rows in ((_NAMES, found.names), (_FAILURES, found.failures), (_TASKS, found.slowest)):
        shown: list[Any] = rows[:_SHOWN]
        if shown:
            text += ["", *table(columns, shown, width)]
        if len(rows) > len(shown):
            text.append(f"and {len(rows) - len(shown):,} more: --json")
    if found.failures:
        text += ["", f"Why? heald task explain {found.failures[0].first}"]
    return text


_STATES = {
    KILLED: "was killed: start its script again, and it goes on where it was",
    "unknown": "is written on another machine, or was when that died",
}

_NAMES = [
    Column("BY NAME", lambda view: view.name, flexible=True),
    Column("TASKS", lambda view: f"{view.tasks:,}", right=True),
    Column("DONE", lambda view: f"{view.done:,}", right=True),
    Column("FAILED", lambda view: f"{view.failed:,}", right=True),
    Column("MEAN", lambda view: duration(view.mean), right=True),
    Column("TOTAL", lambda view: duration(view.seconds), right=True),
]
_FAILURES = [
    Column("FAILED", lambda view: view.name, flexible=True),
    Column("TASKS", lambda view: f"{view.count:,}", right=True),
    Column("OF", lambda view: view.kind),
    Column("FIRST", lambda view: f"#{view.first}", right=True),
    Column("WHICH SAYS", lambda view: view.message, flexible=True),
]
_TASKS = [
    Column("SLOWEST", lambda view: f"{view.name}#{view.id}", flexible=True),
    Column("STATE", lambda view: view.state),
    Column("TIME", lambda view: duration(view.seconds or 0.0), right=True),
    Column("CPU", lambda view: duration(view.cpu or 0.0), right=True),
    Column("MEMORY", lambda view: amount(view.memory or 0), right=True),
]

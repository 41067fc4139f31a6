"""All about one task: what `heald task show` says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from heald.cli.log import output
from heald.cli.moment import moment
from heald.cli.table import Column, table
from heald.cli.view import AttemptView, TaskView, attempt_view, needs, size_of, task_view
from heald.core.attempt import attempts
from heald.core.history import History, Record
from heald.core.quantity import amount, duration
from heald.flow.run import Run

_NAMED = 6  # tasks that it needs, or that need it, named before the rest are only counted


class Sheet(TaskView, frozen=True, kw_only=True):
    """One task with all that is known of it: besides what a list shows, its options, its neighbours and its attempts.

    `value`: bytes of what it returned. `key`: names the call by content, the same in every run.
    """

    resources: dict[str, Any]
    retry: dict[str, Any]
    environment: dict[str, Any]
    priority: int
    memo: bool
    needs: list[str]
    needed_by: list[str]
    key: str
    value: int
    stdout: str
    stderr: str
    words: str
    attempts: list[AttemptView]


def sheet(run: Run, history: History, record: Record, now: float) -> Sheet:
    """All about a task at the time `now`."""
    work, task = history.work(record), record.task
    paths = {stream: output(run, history, record, stream) for stream in ("out", "err")}
    after = [other for other in history.records.values() if task.id in other.task.inputs]
    return Sheet(
        **msgspec.structs.asdict(task_view(record, history, now)),
        resources=msgspec.structs.asdict(work.resources),
        retry=msgspec.structs.asdict(work.retry),
        environment=msgspec.structs.asdict(work.environment),
        priority=work.priority,
        memo=work.memo,
        needs=[_label(history, history.records[one]) for one in task.inputs if one in history.records],
        needed_by=[_label(history, one) for one in after],
        key=task.key.hex(),
        value=size_of(record.outcome),
        stdout=str(paths["out"] or ""),
        stderr=str(paths["err"] or ""),
        words=needs(work.resources),
        attempts=[attempt_view(one) for one in attempts(run.events(), task.id)],
    )


def lines(found: Sheet, now: float) -> list[str]:
    """The same for people."""
    today = datetime.fromtimestamp(now, UTC)
    facts = {
        "kind": found.kind + (", results are kept in the memo" if found.memo else ""),
        "asks for": found.words,
        "needs": _some(found.needs),
        "needed by": _some(found.needed_by),
        "tags": ", ".join(f"{key}={value}" for key, value in found.tags.items()),
        "submitted": moment(found.submitted, today),
        "started": moment(found.started, today),
        "ended": moment(found.ended, today),
        "took": _used(found),
        "where": f"{found.worker} of {found.executor}, process {found.pid}" if found.worker and found.pid else "",
        "directory": found.environment["directory"],
        "software": _software(found.environment),
        "outcome": _outcome(found),
        "hint": found.failure["hint"] if found.failure else "",
        "stdout": _file(found.stdout),
        "stderr": _file(found.stderr),
    }
    text = [f"{found.name}#{found.id} {found.state}"]
    text += [f"  {word:<10} {fact}" for word, fact in facts.items() if fact]
    if found.failure and found.failure["traceback"]:
        text += ["", *("  " + line for line in found.failure["traceback"].rstrip().splitlines())]
    if len(found.attempts) > 1:
        text += ["", *("  " + line for line in table(_columns(today), found.attempts))]
    return text


def _columns(today: datetime) -> list[Column]:
    return [
        Column("ATTEMPT", lambda one: str(one.number), right=True),
        Column("WORKER", lambda one: one.worker),
        Column("STARTED", lambda one: moment(one.started, today), right=True),
        Column("TIME", lambda one: "" if one.seconds is None else duration(one.seconds), right=True),
        Column("CPU", lambda one: "" if one.cpu is None else duration(one.cpu), right=True),
        Column("MEMORY", lambda one: amount(one.memory) if one.memory else "", right=True),
        Column("OUTCOME", lambda one: one.failure["message"] if one.failure else "done" if one.ended else ""),
    ]


def _label(history: History, record: Record) -> str:
    return f"{history.work(record).name}#{record.task.id} ({record.state.name})"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _software(around: dict[str, Any]) -> str:
    names = ("modules", "setup", "python", "conda", "uv", "container")
    said = {name: around[name] for name in names if around[name]}
    words = ((name, what if isinstance(what, str) else "; ".join(what)) for name, what in said.items())
    return ", ".join(f"{name} {text}" for name, text in words)


def _used(found: Sheet) -> str:
    if found.seconds is None:
        return ""
    parts = [duration(found.seconds) + (" so far" if found.state == "running" else "")]
    if found.cpu is not None:
        parts.append(f"{duration(found.cpu)} of CPU")
    if found.memory:
        parts.append(f"{amount(found.memory)} of memory")
    return ", ".join(parts)


def _outcome(found: Sheet) -> str:
    if found.failure is not None:
        return f"{found.failure['message']} ({found.failure['kind']})"
    if found.state != "done":
        return ""
    return f"a value of {amount(found.value)}" + (", known already: nothing was run" if found.recalled else "")


def _file(path: str) -> str:
    from pathlib import Path

    try:
        return f"{path} ({amount(Path(path).stat().st_size)})" if path else ""
    except OSError:
        return path

"""`heald task`: the tasks of a run, while it goes on and afterwards."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from heapq import nlargest, nsmallest
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any

import typer

from heald.cli.change import cancel, remove, retry
from heald.cli.group import Group
from heald.cli.option import Json, Limit, RunOption, Tasks, TheTasks
from heald.cli.screen import most, say, say_documents, say_table

app = typer.Typer(
    cls=Group,
    help="Look at tasks: which there are, where each is and why, what it printed. Cancel, retry, remove them.",
    no_args_is_help=True,
)


class Order(StrEnum):
    """What tasks can be sorted by."""

    id = "id"
    name = "name"
    state = "state"
    started = "started"
    time = "time"
    cpu = "cpu"
    memory = "memory"


_LARGEST_FIRST = (Order.time, Order.cpu, Order.memory)


@app.command("ls")
def ls(
    tasks: Tasks = None,
    run: RunOption = None,
    sort: Annotated[
        Order, typer.Option(help="Column to sort by; time, cpu and memory have the largest first.")
    ] = Order.id,
    reverse: Annotated[bool, typer.Option("--reverse", help="Turn the order round.")] = False,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """List tasks.

    \b
    heald task ls                            all of the newest run
    heald task ls state=failed               those that failed, and of what
    heald task ls name=sim* tag:density=0.9  those for which both hold
    heald task ls --sort time --limit 5      the five longest
    """
    from heald.cli.view import task_view

    found = _Found(run, tasks or ())
    shown = _first(found, sort, reverse=reverse != (sort in _LARGEST_FIRST), limit=limit if json else most(limit))
    views = (task_view(record, found.history, found.now) for record in shown)
    if json:
        say_documents(views)
    else:
        say_table(_columns(found.now), views)
        say(_total(found, len(shown)))


class _Found:
    """The tasks of a run that are meant, at one moment."""

    def __init__(self, path: Any, words: Sequence[str]) -> None:
        from heald.cli.selector import chosen
        from heald.flow.run import find_run

        self.run = find_run(path)
        self.history = self.run.history()
        self.now = time.time()
        self.records: Collection[Any] = self.history.records.values()
        if words:
            self.records = chosen(words, self.history, self.run.path)

    def label(self, record: Any) -> str:
        """How people know a task."""
        return f"{self.history.work(record).name}#{record.task.id}"


def _first(found: _Found, sort: Order, *, reverse: bool, limit: int | None) -> list[Any]:
    """The first of the tasks in that order, or all: to show a page of a million, a million need not be sorted."""
    key = _keys(found)[sort]
    if limit is None:
        return sorted(found.records, key=key, reverse=reverse)
    return (nlargest if reverse else nsmallest)(limit, found.records, key=key)


def _keys(found: _Found) -> dict[Order, Callable[[Any], Any]]:
    from heald.core.state import State

    works, now, running = found.history.works, found.now, State.running

    def seconds(record: Any) -> float:
        if record.state is running:
            return float(now - record.started)
        return record.usage.seconds if record.usage else 0.0

    return {
        Order.id: attrgetter("task.id"),
        Order.name: lambda record: works[record.task.work].name,
        Order.state: attrgetter("state"),
        Order.started: attrgetter("started"),
        Order.time: seconds,
        Order.cpu: lambda record: record.usage.cpu if record.usage else 0.0,
        Order.memory: lambda record: record.usage.memory if record.usage else 0,
    }


def _columns(now: float) -> list[Any]:
    from heald.cli.moment import moment
    from heald.cli.table import Column
    from heald.core.quantity import amount, duration

    today = datetime.fromtimestamp(now, UTC)
    return [
        Column("ID", lambda view: str(view.id), right=True),
        Column("NAME", lambda view: view.name, flexible=True),
        Column("STATE", lambda view: view.state, colour=lambda text: _COLOURS.get(text, "")),
        Column("STARTED", lambda view: moment(view.started, today), right=True),
        Column("TIME", lambda view: "" if view.seconds is None else duration(view.seconds), right=True),
        Column("CPU", lambda view: "" if view.cpu is None else duration(view.cpu), right=True),
        Column("MEMORY", lambda view: amount(view.memory) if view.memory else "", right=True),
        Column("NOTE", _note, flexible=True),
    ]


_COLOURS = {"running": "blue", "done": "green", "failed": "red", "cancelled": "yellow"}


def _note(view: Any) -> str:
    if view.failure is not None:
        return str(view.failure["message"])
    return "known already" if view.recalled else ""


def _total(found: _Found, shown: int) -> str:
    from heald.cli.view import counts

    states = ", ".join(f"{count:,} {state}" for state, count in counts(found.records).items() if count)
    line = f"{found.run.path.name} ({found.run.state}): {states or 'no tasks yet'}"
    left = len(found.records) - shown
    return f"{line}\n{left:,} more: --limit {len(found.records)}" if left else line


@app.command("show")
def show(tasks: TheTasks, run: RunOption = None, json: Json = False) -> None:
    """Show all about tasks: what they need, their attempts, what they used, where their files are.

    \b
    heald task show 7
    heald task show state=running
    """
    from heald.cli.sheet import lines, sheet
    from heald.cli.table import document

    found = _Found(run, tasks)
    sheets = [sheet(found.run, found.history, record, found.now) for record in found.records]
    if json:
        say(document(sheets))
    else:
        say("\n\n".join("\n".join(lines(one, found.now)) for one in sheets))


@app.command("explain")
def explain(tasks: TheTasks, run: RunOption = None, json: Json = False) -> None:
    """Say why tasks are where they are: what they wait for, or what they failed of.

    \b
    heald task explain 7
    heald task explain state=failed
    """
    from heald.cli.table import document
    from heald.core.explain import told

    found = _Found(run, tasks)
    texts = {record.task.id: told(found.history, record.task.id) for record in found.records}
    if json:
        say(document([{"id": task, "explanation": text} for task, text in texts.items()]))
    else:
        say("\n".join(texts.values()))


@app.command("log")
def log(
    tasks: TheTasks,
    run: RunOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task is over.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", "-e", help="What went to standard error.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, metavar="N", help="Of that attempt; else the last.")] = None,
) -> None:
    """Print what tasks printed.

    \b
    heald task log 7            standard output of task 7, so far if it runs
    heald task log -f 7         the same, and what comes until it is over
    heald task log --stderr 7   standard error
    """
    from heald.cli.log import far, printed
    from heald.cli.log import follow as following
    from heald.core.errors import UsageError
    from heald.core.state import State

    found = _Found(run, tasks)
    stream = "err" if stderr else "out"
    if follow:
        if len(found.records) > 1:
            raise UsageError(f"{len(found.records)} tasks cannot be followed at once", hint="name one by its id")
        (record,) = found.records
        if record.state < State.running:
            say(f"{found.label(record)} is {record.state.name}", error=True)
        if (place := far(found.run, record)) is not None:
            text = f"{found.label(record)} prints on {place.host}, where it cannot be followed from here"
            raise UsageError(text, hint=f"heald task log {record.task.id} shows what there is so far")
        _write(following(found.run, record.task.id, stream))
        return
    last = max(one.attempt for one in found.records)
    if attempt and attempt > last:
        raise UsageError(f"there is no attempt {attempt} of {' '.join(tasks)}", hint=f"the last one is {last}")
    silent = True
    for record in found.records:
        pieces = printed(found.run, found.history, record, stream, attempt or 0)
        if beginning := next(pieces, b""):
            silent = False
            if len(found.records) > 1:
                say(f"==> {found.label(record)} <==")
            _write(chain((beginning,), pieces))
    if silent:
        say(_silent(found, stream), error=True)


def _silent(found: _Found, stream: str) -> str:
    """That nothing was printed, and where to look instead."""
    from heald.cli.log import output

    name, other, option = ("standard error", "out", "") if stream == "err" else ("standard output", "err", "--stderr ")
    which = f"None of these {len(found.records)} tasks" if len(found.records) > 1 else found.label(*found.records)
    text = f"{which} printed {'nothing' if len(found.records) == 1 else 'anything'} to {name}"
    loud = [one.task.id for one in found.records if output(found.run, found.history, one, other)]
    return f"{text}; see heald task log {option}{loud[0]}" if loud else text


def _write(pieces: Iterable[bytes]) -> None:
    sys.stdout.flush()
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


app.command("cancel")(cancel)
app.command("retry")(retry)
app.command("rm")(remove)

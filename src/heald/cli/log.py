"""What a task prints: which file it is in, and following it while the task runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from heald.core.history import History, Record
from heald.core.state import State
from heald.flow.run import ENDED, KILLED, Run
from heald.run import log

if TYPE_CHECKING:
    from heald.run.cluster.printed import Place

_LOOK = 0.1  # seconds between looks at a task of another process, which cannot wake us
_CHUNK = 1 << 20


def output(run: Run, history: History, record: Record, stream: str, attempt: int = 0) -> Path | None:
    """The file of what a task printed to `stream`, "out" or "err": in that attempt, or in the last that printed.

    None when there is none (yet), or when nobody knows where it is: what threads print goes where the script's goes.
    """
    chosen = _chosen(run, history, record, stream)
    if chosen is not None:
        return chosen if chosen.exists() else None
    task = record.task.id
    if attempt:
        named = log.path(run.logs, task, attempt, stream)
        return named if named.exists() else None
    if record.state is State.running and record.worker:
        named = log.path(run.logs, task, record.attempt, stream)
        running = run.logs / f"{record.worker}.{stream}"
        return named if named.exists() else running if running.exists() else None
    return log.latest(run.logs, task, stream)


def _chosen(run: Run, history: History, record: Record, stream: str) -> Path | None:
    """The file that the task's options name."""
    around = history.work(record).environment
    file = around.stdout if stream == "out" else around.stderr
    if not file:
        return None
    started_in = history.opened[-1].directory if history.opened else ""
    folder = str(run.path / "work" / str(record.task.id)) if around.directory == "auto" else around.directory
    return Path(started_in, folder, file)


def content(path: Path | None, start: int = 0) -> Iterator[bytes]:
    """What is in a file now, from byte `start` on; nothing of no file."""
    if path is not None:
        with path.open("rb") as file:
            file.seek(start)
            yield from _pieces(file)


def far(run: Run, record: Record) -> Place | None:
    """The login node behind which a task printed, or prints; None when that is on this machine."""
    folder = run.path / "agents" / record.executor
    if not folder.is_dir():
        return None
    from heald.run.cluster import printed  # it loads what far machines need

    return printed.place(folder)


def printed(run: Run, history: History, record: Record, stream: str, attempt: int = 0) -> Iterator[bytes]:
    """What is in the file of `output`, or in the one that a login node has of it."""
    path = output(run, history, record, stream, attempt)
    if path is not None:
        yield from content(path)
    elif (place := far(run, record)) is not None:
        worker = record.worker if record.state is State.running else ""
        yield place.fetch(record.task.id, stream, attempt=attempt, worker=worker)


def follow(run: Run, task: int, stream: str) -> Iterator[bytes]:
    """What the task prints, as it comes, until it is over: of the attempt that runs, and of those that come after."""
    history = run.history()
    if _chosen(run, history, history.records[task], stream):
        yield from _follow_file(run, task, stream)
        return
    source: BinaryIO | None = None
    attempt = 0  # the one that is followed
    with ExitStack() as opened:
        for history, record, over in _looks(run, task):
            if attempt and (over or record.attempt != attempt):
                # From the file with its name: one that did not get it holds what the worker's next task prints.
                yield from content(output(run, history, record, stream, attempt), source.tell() if source else 0)
                source = None
            if over and record.attempt != attempt:
                yield from content(output(run, history, record, stream))
            if record.state is State.running:
                attempt = record.attempt
                if source is None and (path := output(run, history, record, stream)) is not None:
                    source = opened.enter_context(path.open("rb"))  # the same file when the worker renames it
                if source is not None:
                    yield from _pieces(source)


def _follow_file(run: Run, task: int, stream: str) -> Iterator[bytes]:
    """The same for a file that all attempts append to."""
    position = 0
    for history, record, _ in _looks(run, task):
        for piece in content(output(run, history, record, stream), position):
            position += len(piece)
            yield piece


def _looks(run: Run, task: int) -> Iterator[tuple[History, Record, bool]]:
    """The task as it is again and again, and whether it is over, until it is."""
    over = False
    while not over:
        ended = run.state in (ENDED, KILLED)  # asked first: what is read then is all that there will be
        history = run.history()
        record = history.records[task]
        over = record.state.final or ended
        yield history, record, over
        if not over:
            time.sleep(_LOOK)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_CHUNK):
        yield piece

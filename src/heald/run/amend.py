"""Changes the record of a run that nobody drives: events are added, or all that is known of a task goes.

Whoever calls has claimed the folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator

from heald.core import codec
from heald.core.event import Event, Expanded, Failure, Finished, Removed, Submitted
from heald.core.task import Payload
from heald.run import log
from heald.store.folder import Folder
from heald.store.journal import Journal, read, rewrite


def append(folder: Folder, events: Iterable[Event]) -> None:
    """Add events to the journal; they are on the disk when this returns. Raises JournalError."""
    with Journal(folder.journal, sync="each") as journal:
        journal.append(codec.encode(list(events)))


def purge(folder: Folder, removed: Collection[Removed]) -> None:
    """Write the journal anew without these tasks, and remove large values that nothing refers to any more.

    That they were removed stays: their numbers are not given out again. Killed at any moment, it leaves the old journal
    or the new. Raises JournalError.
    """
    tasks = {event.task for event in removed}

    def frames() -> Iterator[bytes]:
        yield codec.encode(list(removed))
        for _, frame in read(folder.journal):
            if kept := [event for event in codec.decode(frame) if getattr(event, "task", None) not in tasks]:
                yield codec.encode(kept)

    rewrite(folder.journal, frames())
    used = {name for _, frame in read(folder.journal) for event in codec.decode(frame) for name in _objects(event)}
    folder.sweep(used)


def discard(folder: Folder, tasks: Collection[int]) -> None:
    """Remove what tasks printed, and the directories that were their own."""
    log.remove(folder.logs, tasks)
    names = set(map(str, tasks))
    for area in ("work", "files"):
        for place in (folder.path / area).glob("*"):
            if place.name in names:
                shutil.rmtree(place, ignore_errors=True)


def _objects(event: Event) -> Iterator[str]:
    """The names of the large values that an event refers to."""
    if isinstance(event, Submitted):
        found: Payload | None = event.record.arguments
    elif isinstance(event, Finished):
        found = event.outcome.exception if isinstance(event.outcome, Failure) else event.outcome
    else:
        found = event.shape if isinstance(event, Expanded) else None
    stack = [found] if found is not None else []
    while stack:
        payload = stack.pop()
        yield from (ref.digest for ref in payload.buffers)
        stack.extend(payload.inputs)

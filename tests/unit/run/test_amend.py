from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heald.core import codec
from heald.core.event import Cancelled, Defined, Expanded, Failure, Finished, Placed, Removed, Submitted
from heald.core.history import History
from heald.core.task import Payload, Task, Work
from heald.run import amend, log
from heald.run.recorder import events
from heald.store.folder import Folder
from heald.store.journal import Journal

WORK = Work("simulate", "function", b"f")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "run.heald")
    folder.claim()
    with Journal(folder.journal, sync="none") as journal:
        journal.append(codec.encode([Defined(b"w", WORK)]))
    return folder


def submitted(task: int, arguments: Payload | None = None) -> Submitted:
    return Submitted(task, 1.0, Task(task, b"w", arguments or Payload(b"a")))


def kept(folder: Folder, *happened: Any) -> None:
    amend.append(folder, happened)


def large(folder: Folder, content: bytes, *inputs: Payload) -> Payload:
    return Payload(b"p", (folder.put(content),), inputs)


def test_events_are_added(folder: Folder) -> None:
    kept(folder, submitted(1))
    kept(folder, Cancelled(1, 2.0, "enough", final=True))
    assert list(events(folder))[1:] == [submitted(1), Cancelled(1, 2.0, "enough", final=True)]


def test_purged_tasks_leave_their_numbers_alone(folder: Folder) -> None:
    mine = [submitted(1), Placed(1, 2.0, 1, "process", "worker-1"), Finished(1, 3.0, 1, Payload(b"value"))]
    kept(folder, *mine, submitted(2))
    kept(folder, submitted(3))
    amend.purge(folder, [Removed(1, 4.0), Removed(3, 4.0)])
    assert list(events(folder)) == [Removed(1, 4.0), Removed(3, 4.0), Defined(b"w", WORK), submitted(2)]
    amend.purge(folder, [Removed(2, 5.0)])
    found = History()
    found.extend(events(folder))
    assert not found.records
    assert not found.remnants
    assert found.former.keys() == {1, 2, 3}


def test_large_values_go_that_nothing_else_refers_to(folder: Folder) -> None:
    shared, inner = large(folder, b"shared"), large(folder, b"inner")
    others = [
        submitted(2, large(folder, b"argument")),
        Finished(2, 3.0, 1, Failure("user", "no", exception=large(folder, b"exception"))),
        Expanded(3, 3.0, 1, (2,), large(folder, b"shape")),
        Finished(4, 3.0, 1, large(folder, b"outer", inner, shared)),
        Finished(5, 3.0, 1, Failure("user", "no")),
    ]
    kept(folder, submitted(1, shared), Finished(1, 3.0, 1, large(folder, b"only mine")), *others)
    assert len(list(folder.objects.glob("??/*"))) == 7
    amend.purge(folder, [Removed(1, 4.0)])
    assert len(list(folder.objects.glob("??/*"))) == 6
    assert folder.get(shared.buffers[0]) == b"shared"


def test_what_was_printed_goes_with_the_directories_of_the_task(folder: Folder) -> None:
    mine = [log.path(folder.logs, 7, attempt, stream) for attempt in (1, 2) for stream in ("out", "err")]
    others = [log.path(folder.logs, 77, 1, "out"), folder.path / "work" / "77" / "out", folder.path / "files" / "cache"]
    mine += [folder.path / "work" / "7" / "result", folder.path / "files" / "7" / "deck"]
    for file in (*mine, *others):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    amend.discard(folder, [7, 8, 5000])
    assert not any(file.exists() for file in mine)
    assert not (folder.path / "work" / "7").exists()
    assert all(file.exists() for file in others)

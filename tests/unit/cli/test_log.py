from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from heald.cli.log import content, follow, output
from heald.core import codec
from heald.core.event import Defined, Event, Placed, Started, Submitted
from heald.core.state import State
from heald.flow.run import KILLED, RUNNING, Run
from heald.store.journal import Journal

NOBODY = 2**22  # one more than the largest process id that Linux gives

SCRIPT = """
import sys, time
from pathlib import Path

import heald

folder = Path.cwd()

@heald.task(retries=1, stdout=sys.argv[1])
def talk():
    print("first", flush=True)
    while not Path(folder, "go").exists():
        time.sleep(0.005)
    print("second")
    if not Path(folder, "tried").exists():
        Path(folder, "tried").touch()
        raise ConnectionError

with heald.Session([heald.ProcessExecutor(1)], journal="run.heald", memo=None, progress=False):
    talk.submit().result()
"""
Wait = Callable[..., None]


@pytest.fixture(params=["", "mine.txt"])
def talking(request: pytest.FixtureRequest, tmp_path: Path, wait_until: Wait) -> Iterator[Run]:
    """A run, in another process, whose one task runs and goes on when there is a file `go`."""
    (tmp_path / "talk.py").write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, "talk.py", request.param], cwd=tmp_path)
    try:
        run = Run(tmp_path / "run.heald")
        wait_until(lambda: run.recorded)
        wait_until(lambda: [one.state for one in run.history().records.values()] == [State.running])
        yield run
    finally:
        (tmp_path / "go").touch()
        process.wait(20)


def test_follow_gives_what_comes_until_the_end(talking: Run, tmp_path: Path) -> None:
    assert talking.state == RUNNING
    pieces = follow(talking, 1, "out")
    assert next(pieces) == b"first\n"
    (tmp_path / "go").touch()
    rest = b"".join(pieces)
    assert rest.startswith(b"second\n")
    assert rest.count(b"second\n") == 2  # the second attempt too
    assert talking.history().records[1].state is State.done


def test_output_of_a_finished_task(study: Path) -> None:
    run = Run(study)
    history = run.history()
    path = output(run, history, history.records[2], "out")
    assert b"".join(content(path)) == b"simulating 1\n"
    assert b"".join(content(path, 11)) == b"1\n"
    assert output(run, history, history.records[2], "err") is None
    assert b"".join(content(None)) == b""


def test_follow_of_a_finished_task(study: Path) -> None:
    assert b"".join(follow(Run(study), 4, "out")) == b"converted 0\n"
    assert b"".join(follow(Run(study), 7, "out")) == b""


def test_follow_ends_with_a_run_that_was_killed(study: Path, tmp_path: Path) -> None:
    """The journal says that the task runs, but nobody is left to run it."""
    run = Run(tmp_path / "run.heald")
    run.folder.claim()
    history = Run(study).history()
    with Journal(run.folder.journal) as journal:
        events: list[Event] = [Defined(*one) for one in history.works.items()]
        events += [Submitted(1, 1.0, history.records[1].task), Placed(1, 2.0, 1, "process", "worker-1")]
        journal.append(codec.encode([*events, Started(1, 2.0, 1, 9)]))
    owner = run.owner
    assert owner is not None
    run.folder.release()
    (run.path / "owner").write_bytes(msgspec.json.encode(msgspec.structs.replace(owner, pid=NOBODY)))
    assert run.state == KILLED
    assert b"".join(follow(run, 1, "out")) == b""

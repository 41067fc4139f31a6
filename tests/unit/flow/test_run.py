from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import heald
from heald.core.errors import JournalError, UsageError
from heald.core.state import State
from heald.flow.run import ENDED, KILLED, RUNNING, UNKNOWN, Run, find_run, runs
from heald.store.folder import runs_directory, scratch_run
from heald.store.journal import read, rewrite
from heald.store.owner import this_process


def session(path: Path) -> heald.Session:
    return heald.Session([heald.ThreadExecutor(workers=1)], journal=path, memo=None, progress=False)


def test_a_run_is_seen_while_it_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path / "run.heald")
    assert not run.recorded
    with session(run.path) as open_session:
        assert open_session.submit(max, 3, 4).result() == 4
        assert run.state == RUNNING
        assert [record.state for record in run.history().records.values()] == [State.done]
        assert open_session.submit(max, 5, 6).result() == 6
        assert len(run.history().records) == 2  # only what is new was read
    assert run.state == ENDED
    assert run.history().closed is not None
    assert run.owner is None


def test_a_journal_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    run = Run(tmp_path / "run.heald")
    with session(run.path) as open_session:
        open_session.submit(max, 3, 4).result()
    before = run.history()
    rewrite(run.folder.journal, [frame for _, frame in read(run.folder.journal)])
    after = run.history()
    assert after is not before
    assert list(after.records) == list(before.records)


def test_a_killed_run(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    """What was under way waits to be run again."""
    run, gate = Run(tmp_path / "run.heald"), threading.Event()
    with session(run.path) as open_session:
        open_session.submit(max, 3, 4).result()
        never = open_session.submit(max, open_session.submit(gate.wait), 1)
        wait_until(lambda: len(run.history().records) == 3)
        owner = run.owner
        journal = run.folder.journal.read_bytes()
        gate.set()
        assert never.result() is True
    assert owner is not None
    dead = msgspec.structs.replace(owner, pid=2**22)  # one more than the largest that Linux gives
    (run.path / "owner").write_bytes(msgspec.json.encode(dead))
    run.folder.journal.write_bytes(journal)
    assert run.state == KILLED
    states = [record.state for record in run.history().records.values()]
    assert states == [State.done, State.waiting, State.waiting]


def test_a_run_of_another_machine(tmp_path: Path) -> None:
    run = Run(tmp_path)
    (tmp_path / "owner").write_text("written by something else")
    assert (run.owner, run.state) == (None, UNKNOWN)


def test_a_killed_run_that_somebody_looks_after_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    dead = msgspec.structs.replace(this_process(), started="1")
    (tmp_path / "owner").write_bytes(msgspec.json.encode(dead))
    assert (run.state, run.supervised) == (KILLED, False)
    run.detached.supervise(os.getpid())
    assert (run.state, run.supervised) == (RUNNING, True)
    (tmp_path / "owner").unlink()
    assert run.state == ENDED, "though its process has not gone yet"


def test_events_are_all_that_happened(tmp_path: Path) -> None:
    run = Run(tmp_path / "run.heald")
    with session(run.path) as open_session:
        open_session.submit(max, 3, 4).result()
    kinds = [type(event).__name__ for event in run.events()]
    assert kinds[0] == "Opened"
    assert kinds[-1] == "Closed"
    assert "Submitted" in kinds


def test_a_run_without_journal(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(JournalError, match="keeps no journal") as raised:
        run.history()
    assert "journal=" in raised.value.hint
    with pytest.raises(JournalError):
        next(run.events())


def test_runs_are_found_here_and_among_those_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no run here"):
        find_run()
    scratch = scratch_run()
    scratch.release()
    assert [run.path for run in runs()] == [scratch.path]
    for age, name in enumerate(("new.heald", "old.heald")):
        (tmp_path / name / "logs").mkdir(parents=True)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / "other.heald").mkdir()
    assert [run.path.name for run in runs()] == ["new.heald", "old.heald", scratch.path.name]
    assert find_run().path.name == "new.heald"
    assert find_run(tmp_path / "old.heald").path.name == "old.heald"
    assert find_run(scratch.path.name).path.parent == runs_directory()


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run"):
        find_run(tmp_path)


def test_repr_is_code() -> None:
    assert repr(Run("run.heald")) == "heald.Run('run.heald')"


def test_a_long_journal_is_read_in_parts_and_from_its_beginning_when_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heald.store.journal._MOST", 1)  # a frame each
    run = Run(tmp_path / "run.heald")
    with session(run.path) as open_session:
        for number in range(5):
            open_session.submit(max, number, 4).result()
    assert len(run.history().records) == 5
    rewrite(run.folder.journal, [frame for _, frame in read(run.folder.journal)])
    assert [record.state for record in run.history().records.values()] == [State.done] * 5


def test_of_large_values_only_the_sizes_are_in_memory(tmp_path: Path) -> None:
    run = Run(tmp_path / "run.heald")
    with session(run.path) as open_session:
        assert len(open_session.submit(str.upper, "x" * 50_000).result()) == 50_000
    (record,) = run.history().records.values()
    assert 50_000 < record.outcome.size < 51_000
    assert not record.outcome.data

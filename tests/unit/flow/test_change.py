"""Tasks of a run are cancelled, retried and removed by whoever names its folder, while it lives and afterwards."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

import heald
from heald.core.errors import HealdError, JournalError, JournalLocked, UsageError
from heald.core.event import Removed, Submitted
from heald.core.state import State
from heald.flow import change, driver
from heald.flow.plan import Change
from heald.flow.run import ENDED, KILLED, Run
from heald.run import amend
from heald.run.change import Changed, encode
from heald.store.owner import this_process


@heald.task
def square(x: int) -> int:
    return x * x


@heald.task
def strict(flag: str, x: int) -> int:
    if not Path(flag).exists():
        raise ValueError("not yet")
    return x


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.heald"


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    return tmp_path / "flag"


def script(path: Path, flag: Path) -> list[str]:
    """1 is done, 2 failed until the flag is there, 3 needs both; what became of them. `recalled` comes last."""
    with heald.Session([heald.ProcessExecutor(1)], journal=path, memo=None, progress=False) as session:
        first, second = square.submit(3), strict.submit(str(flag), 4)
        futures = [first, second, session.submit(divmod, first, second)]
        heald.wait(futures)
        ends = ["cancelled" if one.cancelled() else type(one.exception() or one.result()).__name__ for one in futures]
        return [*ends, str(session.tally.recalled)]


def states(run: Run) -> dict[int, str]:
    return {task: record.state.name for task, record in run.history().records.items()}


def done(changes: list[Change]) -> dict[int, bool]:
    return {one.task: one.done for one in changes}


@pytest.fixture
def run(path: Path, flag: Path) -> Run:
    """A run that has ended."""
    assert script(path, flag) == ["int", "ValueError", "DependencyError", "0"]
    return Run(path)


class TestEnded:
    def test_cancelled_tasks_are_not_run_until_they_are_retried(self, run: Run, path: Path, flag: Path) -> None:
        assert done(run.cancel([1, 2])) == {1: False, 2: True}
        assert states(run) == {1: "done", 2: "cancelled", 3: "failed"}
        assert states(Run(path)) == states(run)
        flag.touch()
        assert script(path, flag) == ["int", "cancelled", "cancelled", "1"]
        assert done(run.retry(3)) == {2: True, 3: True}
        assert states(run) == {1: "done", 2: "waiting", 3: "waiting"}
        assert script(path, flag) == ["int", "int", "tuple", "1"]
        assert states(run) == {1: "done", 2: "done", 3: "done"}

    def test_retried_tasks_are_run_with_all_that_needs_them(self, run: Run, path: Path, flag: Path) -> None:
        flag.touch()
        assert script(path, flag)[-1] == "1"
        assert done(run.retry(1)) == {1: True, 3: True}
        assert states(Run(path)) == {1: "waiting", 2: "done", 3: "waiting"}
        assert script(path, flag) == ["int", "int", "tuple", "1"]
        assert [record.attempt for record in run.history().records.values()] == [2, 2, 2]

    def test_removed_tasks_never_were(self, run: Run, path: Path, flag: Path) -> None:
        assert [(one.task, one.note) for one in run.remove(1)] == [(1, ""), (3, "it needs square#1")]
        assert states(run) == {2: "failed"}
        flag.touch()
        assert script(path, flag) == ["int", "int", "tuple", "0"]
        assert states(run) == {2: "done", 4: "done", 5: "done"}

    def test_what_the_living_run_removed_goes_from_the_file_too(self, run: Run) -> None:
        run.folder.claim()
        amend.append(run.folder, [Removed(3, 1.0)])
        run.folder.release()
        run.remove(2)
        assert [event.task for event in run.events() if isinstance(event, Submitted)] == [1]

    def test_a_killed_run_stays_killed(self, run: Run, path: Path) -> None:
        dead = msgspec.structs.replace(this_process(), pid=2**22, started="1")
        (path / "owner").write_bytes(msgspec.json.encode(dead))
        run.cancel(2)
        run.remove(1)
        assert run.state == KILLED
        assert run.folder.owner == dead

    def test_an_ended_run_stays_ended(self, run: Run) -> None:
        run.retry(2)
        assert run.state == ENDED
        assert run.history().opened[-1].command  # of the script: who changed it did not run it

    def test_a_reason_is_kept(self, run: Run) -> None:
        run.cancel(2, "the deck is wrong")
        failure = run.history().records[2].failure
        assert failure is not None
        assert failure.message == "the deck is wrong"


@pytest.mark.parametrize("verb", ["cancel", "retry", "remove"])
def test_to_pretend_changes_nothing(verb: str, run: Run, path: Path) -> None:
    before = run.folder.journal.read_bytes()
    pretended = getattr(run, verb)(2, pretend=True)
    assert run.folder.journal.read_bytes() == before
    assert getattr(Run(path), verb)([2]) == pretended
    assert any(one.done for one in pretended)


class TestLiving:
    @pytest.fixture
    def gate(self) -> Iterator[threading.Event]:
        gate = threading.Event()
        yield gate
        gate.set()

    @pytest.fixture
    def held(self, path: Path, gate: threading.Event) -> Iterator[heald.Future[bool]]:
        """A task that runs, 1."""
        executors = [heald.ThreadExecutor(workers=1), heald.ProcessExecutor(1)]
        with heald.Session(executors, journal=path, memo=None, progress=False) as session:
            entered = threading.Event()

            def hold() -> bool:
                entered.set()
                return gate.wait(20)

            yield session.submit(hold)
            gate.set()

    def test_it_is_asked(self, held: heald.Future[bool], path: Path, wait_until: Callable[..., None]) -> None:
        run = Run(path)
        session = heald.current_session()
        after = session.submit(str, held)
        wait_until(lambda: len(run.history().records) == 2)
        assert [(one.task, one.note, one.done) for one in run.cancel(1, pretend=True)] == [
            (1, "", True),
            (2, "it needs hold#1", True),
        ]
        assert not held.done()
        assert done(run.cancel(1)) == {1: True, 2: True}
        assert held.cancelled()
        assert after.cancelled()
        assert done(run.cancel(1)) == {1: False}

    def test_what_it_refuses_is_refused_for_all_that_hangs_on_it(
        self, held: heald.Future[bool], path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
    ) -> None:
        run = Run(path)
        heald.current_session().submit(str, held)
        wait_until(lambda: [one.state.name for one in run.history().records.values()] == ["running", "waiting"])
        refusal = encode({1: Changed(False, "it is over")})
        monkeypatch.setattr(driver, "ask", lambda name, body: refusal)
        assert run.cancel(1) == [
            Change(task=1, name="hold", state="running", done=False, note="it is over"),
            Change(task=2, name="str", state="waiting", done=False, note="it needs hold#1"),
        ]

    def test_failed_tasks_run_again_in_batches(
        self, held: heald.Future[bool], path: Path, flag: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(change, "_BATCH", 1)
        run = Run(path)
        session = heald.current_session()
        there = heald.task(executor="process")
        bad = strict.options(executor="process").submit(str(flag), 4)
        after = session.submit(there(divmod), bad, 3)
        assert after.exception(20)
        flag.touch()
        assert [(one.task, one.note) for one in run.retry(after.task)] == [
            (bad.task, f"divmod#{after.task} needs it; now"),
            (after.task, "now"),
        ]
        held.cancel()
        session._engine.drain(20)  # type: ignore[union-attr]
        assert states(run) == {1: "cancelled", bad.task: "done", after.task: "done"}

    def test_nothing_is_asked_for_nothing(
        self, held: heald.Future[bool], path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
    ) -> None:
        run = Run(path)
        wait_until(lambda: 1 in run.history().records and run.history().records[1].state is not State.ready)
        monkeypatch.delattr(driver, "ask")
        assert done(run.remove(1)) == {1: False}
        assert done(run.retry(1)) == {1: False}

    def test_one_that_does_not_listen(
        self, held: heald.Future[bool], path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
    ) -> None:
        def refuse(name: str, body: bytes) -> bytes:
            raise ConnectionRefusedError(111, "Connection refused")

        monkeypatch.setattr(driver, "ask", refuse)
        run = Run(path)
        wait_until(lambda: run.history().records)
        with pytest.raises(HealdError, match=f"process {os.getpid()}, which drives .*: Connection refused"):
            run.cancel(1)


class TestErrors:
    def test_a_run_of_another_host_names_it_and_what_to_type_there(self, run: Run, path: Path) -> None:
        elsewhere = msgspec.structs.replace(this_process(), host="node07", pid=4711, user="ada")
        (path / "owner").write_bytes(msgspec.json.encode(elsewhere))
        with pytest.raises(JournalLocked, match="driven by process 4711 of ada on node07") as caught:
            run.cancel([3, 1, 2])
        assert caught.value.hint.startswith(f"ssh node07 heald task cancel --run {path} 1-3; ")
        assert f"remove {path / 'owner'}" in caught.value.hint
        with pytest.raises(JournalLocked) as caught:
            run.remove([1, 3])
        assert f"heald task rm --run {path} 1 3;" in caught.value.hint
        assert socket.gethostname() not in caught.value.message

    @pytest.mark.parametrize("verb", ["cancel", "retry", "remove"])
    def test_an_unknown_task(self, verb: str, run: Run) -> None:
        with pytest.raises(UsageError, match="there is no task 99"):
            getattr(run, verb)([1, 99])
        assert states(run) == {1: "done", 2: "failed", 3: "failed"}
        assert run.folder.owner is None

    def test_a_run_without_a_journal(self, tmp_path: Path) -> None:
        with pytest.raises(JournalError, match="keeps no journal"):
            Run(tmp_path).cancel(1)

    def test_an_owner_file_that_says_nothing(self, run: Run, path: Path) -> None:
        (path / "owner").write_text("?")
        with pytest.raises(JournalLocked, match="does not say who writes the run"):
            run.cancel(1)

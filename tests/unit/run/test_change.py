"""What a living run does when it is asked, over its own control, by sessions whose tasks the tests hold."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import heald
from heald.core.errors import HealdError, UsageError
from heald.core.event import Cancelled, Removed, Retried, Submitted
from heald.core.history import History
from heald.core.state import State
from heald.core.task import Payload, Task
from heald.data.payload import unpack
from heald.run import change, control
from heald.run.change import Again, Cancel, Changed, Remove, Request, Retry
from heald.run.recorder import events
from heald.store.folder import Folder

NOW, NEXT = Changed(True, "now"), Changed(True, "the next time that the script comes to it")


class Life:
    """A run with one process and two threads for its tasks. `gate` lets go what waits in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gate = threading.Event()
        self.session = heald.Session(
            [heald.ProcessExecutor(workers=1), heald.ThreadExecutor(workers=2)], journal=path, memo=None, progress=False
        ).start()

    def ask(self, request: Request) -> dict[int, Changed]:
        owner = Folder(self.path).owner
        assert owner is not None
        return change.answer(control.ask(owner.nonce, change.encode(request)))

    def held(self) -> heald.Future[str]:
        """A task that runs in a thread until the gate opens."""
        entered = threading.Event()
        gate = self.gate

        def hold() -> str:
            entered.set()
            assert gate.wait(20)
            return "went on"

        future = self.session.submit(heald.task(executor="thread")(hold))
        assert entered.wait(20)
        return future

    def history(self) -> History:
        found = History()
        found.extend(events(Folder(self.path)))
        return found

    def again(self, future: heald.Future[Any], *given: heald.Future[Any]) -> Again:
        """What somebody who has read the journal asks for."""
        records = self.history().records
        record = records[future.task]
        return Again(record.task, record.attempt, {one.task: records[one.task].outcome for one in given})

    def value(self, future: heald.Future[Any]) -> Any:
        outcome = self.history().records[future.task].outcome
        return unpack(outcome) if isinstance(outcome, Payload) else outcome

    def close(self) -> None:
        self.gate.set()
        self.session.close(cancel=True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Life]]:
    """Opens the same run, as each process that goes on with it does; it is closed after the test."""
    made: list[Life] = []

    def make() -> Life:
        made.append(Life(tmp_path / "run.heald"))
        return made[-1]

    yield make
    for life in made:
        life.close()


@pytest.fixture
def life(start: Callable[[], Life]) -> Life:
    return start()


@heald.task
def flaky(flag: str, value: int) -> int:
    """Fails until the file is there."""
    if not Path(flag).exists():
        raise ValueError("not yet")
    return value


@heald.task
def double(value: int) -> int:
    return 2 * value


@heald.command
def endless() -> str:
    return "sleep 1000"


@heald.join
def spread(flag: str) -> Any:
    return [flaky.submit(flag, 1)]


def failed(life: Life, flag: Path) -> heald.Future[int]:
    future = flaky.submit(str(flag), 4)
    assert isinstance(future.exception(20), ValueError)
    return future


# -- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_what_runs_and_what_waits(life: Life) -> None:
    held = life.held()
    after = life.session.submit(str, held)
    far = life.session.submit(str, after)
    done = life.session.submit(abs, -1)
    assert done.result(20) == 1
    found = life.ask(Cancel((held.task, after.task, done.task, 99), "enough"))
    assert found == {
        held.task: Changed(True),
        after.task: Changed(True),
        done.task: Changed(False, "it is over"),
        99: Changed(False, "it is over"),
    }
    assert all(one.cancelled() for one in (held, after, far))
    with pytest.raises(heald.TaskCancelled, match="hold#1: enough"):
        held.result()
    finals = [event.task for event in events(Folder(life.path)) if isinstance(event, Cancelled) and event.final]
    assert finals == [held.task, after.task]  # each by itself: the answer came when the journal had it
    records = life.history().records
    assert [records[one.task].failure.final for one in (held, after, far)] == [True, True, False]  # type: ignore[union-attr]


def test_cancel_a_join_with_what_it_returned(life: Life, wait_until: Callable[..., None]) -> None:
    @heald.join
    def both() -> Any:
        return [endless.submit(), endless.submit()]

    joined = both.submit()
    wait_until(lambda: life.history().expanded)
    assert life.ask(Cancel((1, 2, 3), "enough")) == {task: Changed(True) for task in (1, 2, 3)}
    assert joined.cancelled()
    assert all(record.failure and record.failure.final for record in life.history().records.values())


def test_cancelled_stays_so_when_the_script_is_started_again(start: Callable[[], Life]) -> None:
    life = start()
    future = endless.submit()
    assert life.ask(Cancel((future.task,), "enough")) == {future.task: Changed(True)}
    life.close()
    again = start()
    with pytest.raises(heald.TaskCancelled, match="endless#1: enough"):
        endless.submit().result(20)
    assert again.history().records[1].state is State.cancelled
    assert again.ask(Retry((again.again(future),))) == {future.task: NOW}


def test_cancel_what_the_script_has_not_come_to(start: Callable[[], Life], tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    life = start()
    first = failed(life, flag)
    known = double.submit(2)
    assert known.result(20) == 4
    life.close()
    flag.touch()
    again = start()
    found = again.ask(Cancel((first.task, known.task), "enough"))
    assert found == {first.task: Changed(True), known.task: Changed(False, "it is over")}
    future = flaky.submit(str(flag), 4)
    assert future.task == first.task
    with pytest.raises(heald.TaskCancelled, match="enough") as caught:
        future.result(20)
    assert caught.value.hint == f"heald task retry {first.task} lets it run after all"
    assert double.submit(2).result(20) == 4
    assert again.session.tally.recalled == 1


# -- retry -----------------------------------------------------------------------------------------------------------


def test_retry_runs_what_failed_and_what_needs_it(life: Life, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    bad, good = failed(life, flag), double.submit(1)
    both: heald.Future[Any] = life.session.submit(divmod, bad, good)
    assert isinstance(both.exception(20), heald.DependencyError)
    assert good.result(20) == 2
    flag.touch()
    found = life.ask(Retry((life.again(bad), life.again(both, good))))
    assert found == {bad.task: NOW, both.task: NOW}
    assert life.session._engine is not None
    life.session._engine.drain(20)
    assert isinstance(bad.exception(), ValueError)  # what was told stays told
    assert life.value(bad) == 4
    assert life.value(both) == (2, 0)
    assert life.history().records[bad.task].attempt == 2
    assert double.submit(bad).result(20) == 8  # whoever comes later gets the new value


def test_retry_that_fails_again_fails_what_needs_it(life: Life, tmp_path: Path) -> None:
    bad = failed(life, tmp_path / "flag")
    after = double.submit(bad)
    assert after.exception(20)
    life.ask(Retry((life.again(bad),)))
    life.session._engine.drain(20)  # type: ignore[union-attr]
    life.ask(Retry((life.again(after),)))
    life.session._engine.drain(20)  # type: ignore[union-attr]
    records = life.history().records
    assert [records[one.task].state for one in (bad, after)] == [State.failed, State.failed]
    assert records[bad.task].attempt == 2


def test_retry_of_what_is_not_over(life: Life, wait_until: Callable[..., None]) -> None:
    held = life.held()
    wait_until(held.running)
    after = life.session.submit(str, held)
    for future, state in ((held, "running"), (after, "waiting")):
        found = life.ask(Retry((life.again(future),)))
        assert found[future.task] == Changed(False, f"it is {state}, not over")


def test_retry_ends_a_pause(life: Life, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    flag = tmp_path / "flag"
    paused = flaky.options(retries=heald.Retry(limit=1, delay="1h")).submit(str(flag), 4)
    wait_until(lambda: 1 in life.history().records and life.history().records[1].failed)
    flag.touch()
    assert life.ask(Retry((life.again(paused),))) == {paused.task: Changed(True, "now, without its pause")}
    assert paused.result(20) == 4


def test_what_only_the_script_can_run_runs_when_it_comes_to_it(start: Callable[[], Life], tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    life = start()
    joined = spread.submit(str(flag))
    assert joined.exception(20)
    after = double.submit(joined)
    assert after.exception(20)
    live = life.session.submit(heald.task(executor="thread")(abs), -3)
    assert live.result(20) == 3
    found = life.ask(Retry(tuple(map(life.again, (joined, after, live)))))
    assert found == {
        joined.task: Changed(True, f"{NEXT.note}: only the script can run it"),
        after.task: Changed(True, f"{NEXT.note}: what it needs is not there yet"),
        live.task: Changed(True, f"{NEXT.note}: its arguments never left the script"),
    }
    assert {life.history().records[one.task].state for one in (joined, after, live)} == {State.waiting}
    life.close()
    flag.touch()
    again = start()
    assert again.session.submit(heald.task(executor="thread")(abs), -3).result(20) == 3
    assert spread.submit(str(flag)).result(20) == [1]
    assert again.session.tally.recalled == 0


def test_retry_what_the_script_has_not_come_to(start: Callable[[], Life]) -> None:
    life = start()
    known, other = double.submit(2), double.submit(3)
    assert (known.result(20), other.result(20)) == (4, 6)
    life.close()
    again = start()
    assert again.ask(Retry((again.again(known),))) == {known.task: NEXT}
    assert [double.submit(value).result(20) for value in (2, 3)] == [4, 6]
    assert again.session.tally.recalled == 1
    assert again.history().records[known.task].attempt == 2


def test_a_function_that_this_process_has_not_come_to(life: Life) -> None:
    task = Task(99, b"unknown", Payload(b"a"))
    found = life.ask(Retry((Again(task, 1, {}),)))
    assert found == {99: Changed(True, f"{NEXT.note}: this process has not come to its function")}


def test_an_attempt_that_still_ends_comes_first(life: Life, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    @heald.task
    def deaf(entered: str, flag: str) -> str:
        Path(entered).touch()
        while not Path(flag).exists():
            try:
                time.sleep(0.01)
            except BaseException:
                pass
        return "ended"

    entered, flag = tmp_path / "entered", tmp_path / "flag"
    future = deaf.submit(str(entered), str(flag))
    wait_until(entered.exists)
    life.ask(Cancel((future.task,), "enough"))
    again = life.again(future)
    ending = Changed(False, "its last attempt is still ending: try again in a moment")
    assert life.ask(Retry((again,))) == {future.task: ending}
    flag.touch()
    wait_until(lambda: life.ask(Retry((again,))) == {future.task: NOW})
    life.session._engine.drain(20)  # type: ignore[union-attr]
    assert life.value(future) == "ended"


# -- remove ----------------------------------------------------------------------------------------------------------


def test_remove_what_is_over(start: Callable[[], Life]) -> None:
    life = start()
    held, done = life.held(), double.submit(2)
    assert done.result(20) == 4
    found = life.ask(Remove((held.task, done.task)))
    assert found == {held.task: Changed(False, "it is not over"), done.task: Changed(True)}
    assert done.task not in life.history().records
    assert double.submit(done).result(20) == 8  # the value is still in the script's hands
    life.close()
    again = start()
    assert double.submit(2).task > done.task + 1
    assert not any(isinstance(event, Submitted) and event.task == done.task for event in events(Folder(again.path)))


def test_remove_what_the_script_has_not_come_to(start: Callable[[], Life]) -> None:
    life = start()
    done = double.submit(2)
    assert done.result(20) == 4
    life.close()
    again = start()
    assert again.ask(Remove((done.task,))) == {done.task: Changed(True)}
    future = double.submit(2)
    assert future.task != done.task
    assert future.result(20) == 4
    assert again.session.tally.recalled == 0


# -- the rest --------------------------------------------------------------------------------------------------------


def test_what_is_no_request_is_refused(life: Life) -> None:
    owner = Folder(life.path).owner
    assert owner is not None
    for body in (b"", b"\xc1", change.encode(["cancel", "all"]), change.encode(["dance", [1]])):
        with pytest.raises(HealdError, match="no request that the run knows"):
            control.ask(owner.nonce, body)
    with pytest.raises(UsageError, match="no request"):
        change.serve(life.session._engine, b"")  # type: ignore[arg-type]
    assert double.submit(2).result(20) == 4


def test_a_run_that_ends_can_be_asked_no_more(life: Life) -> None:
    owner = Folder(life.path).owner
    assert owner is not None
    life.close()
    with pytest.raises(ConnectionRefusedError):
        control.ask(owner.nonce, change.encode(Cancel((1,), "enough")))


def test_without_sockets_the_run_goes_on(
    start: Callable[[], Life], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*given: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(change, "Control", refuse)
    with caplog.at_level(logging.WARNING):
        life = start()
    assert "cannot be cancelled from outside: [Errno 1]" in caplog.text
    assert double.submit(2).result(20) == 4
    assert isinstance(life, Life)


def test_all_that_is_done_is_in_the_journal(life: Life, tmp_path: Path) -> None:
    bad = failed(life, tmp_path / "flag")
    life.ask(Retry((life.again(bad),)))
    life.session._engine.drain(20)  # type: ignore[union-attr]
    life.ask(Remove((bad.task,)))
    kinds = [type(event) for event in events(Folder(life.path)) if isinstance(event, Retried | Removed)]
    assert kinds == [Retried, Removed]

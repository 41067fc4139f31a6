from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import heald
from heald.core.event import (
    Cancelled,
    Closed,
    Defined,
    Expanded,
    Failure,
    Finished,
    Opened,
    Placed,
    Removed,
    Retried,
    Returned,
    Started,
    Submitted,
    Usage,
)
from heald.core.history import History
from heald.core.retry import USER
from heald.core.state import State
from heald.core.task import Payload, Task, Work
from heald.data.arena import Arena
from heald.data.payload import pack, unpack
from heald.run import recorder as module
from heald.run.outcome import Live
from heald.run.recorder import Earlier, Recorder, events
from heald.store.folder import Folder

np = pytest.importorskip("numpy")
WORK = Work("simulate", "function", b"f")
KEY = b"k" * 16


@pytest.fixture
def arena() -> Arena:
    return Arena(capacity=1 << 24)


@pytest.fixture
def open_run(tmp_path: Path, arena: Arena) -> Iterator[Callable[[], Recorder]]:
    """Opens the recorder of one run, as each process that goes on with it does."""
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder(Folder(tmp_path / "run.heald"), arena, "none", "0.1"))
        return made[-1]

    yield make
    for one in made:
        if one.folder._owner is not None:
            one.close()


def submitted(task: int, key: bytes = KEY, inputs: tuple[int, ...] = (), arguments: Payload | None = None) -> Submitted:
    return Submitted(task, 1.0, Task(task, b"w", arguments or Payload(b"a"), inputs, key))


def finished(task: int, outcome: Any, attempt: int = 1) -> Finished:
    return Finished(task, 3.0, attempt, outcome, Usage(2.0, 1.0))


def placed(task: int, attempt: int = 1) -> Placed:
    return Placed(task, 2.0, attempt, "process", "worker-1")


def write(recorder: Recorder, *happened: Any) -> None:
    recorder.define(b"w", WORK)
    for event in happened:
        recorder.record(event)
    recorder.flush()


def written(recorder: Recorder) -> list[Any]:
    return list(events(recorder.folder))


def history(recorder: Recorder) -> History:
    found = History()
    found.extend(events(recorder.folder))
    return found


Open = Callable[[], Recorder]


class TestWriting:
    def test_who_writes_is_said_first_and_that_it_ended_well_last(self, open_run: Open) -> None:
        recorder = open_run()
        recorder.close()
        opened, closed = written(recorder)
        assert isinstance(opened, Opened)
        assert (opened.pid, opened.heald) == (os.getpid(), "0.1")
        assert isinstance(closed, Closed)

    def test_a_work_is_said_once(self, open_run: Open) -> None:
        recorder = open_run()
        for _ in range(3):
            recorder.define(b"w", WORK)
        recorder.close()
        again = open_run()
        again.define(b"w", WORK)
        again.close()
        assert [event for event in written(again) if isinstance(event, Defined)] == [Defined(b"w", WORK)]

    def test_events_come_back_as_they_were(self, open_run: Open) -> None:
        recorder = open_run()
        happened = [
            submitted(1),
            placed(1),
            Started(1, 2.5, 1, 4711),
            finished(1, Payload(b"value")),
        ]
        write(recorder, *happened)
        recorder.close()
        assert written(recorder)[2:-1] == happened

    def test_large_buffers_become_objects(self, open_run: Open, arena: Arena) -> None:
        recorder = open_run()
        array = np.arange(100_000)
        arguments, _ = pack(array, arena, subject="an array")
        inner = Payload(b"inner", inputs=(arguments,))
        write(recorder, submitted(1, arguments=arguments), finished(1, inner))
        first, last = written(recorder)[2:]
        assert first.record.arguments.buffers[0].uri.startswith("object:")
        assert (unpack(first.record.arguments, resolve=recorder.folder.get) == array).all()
        assert last.outcome.inputs[0].buffers[0].uri.startswith("object:")
        assert len(list(recorder.folder.objects.iterdir())) == 1
        again = recorder.durable(first.record.arguments)
        assert again == first.record.arguments

    def test_exceptions_and_frames_of_joins_too(self, open_run: Open, arena: Arena) -> None:
        recorder = open_run()
        large, _ = pack(np.arange(100_000), arena, subject="an array")
        write(
            recorder,
            submitted(1),
            Expanded(1, 2.0, 1, (2,), large),
            submitted(2),
            finished(2, Failure(USER, "broken", exception=large)),
        )
        expanded, failed = written(recorder)[3], written(recorder)[5]
        assert expanded.shape.buffers[0].uri.startswith("object:")
        assert failed.outcome.exception.buffers[0].uri.startswith("object:")

    def test_a_value_of_this_process_is_pickled(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1), finished(1, Live([1, 2])))
        assert unpack(written(recorder)[-1].outcome) == [1, 2]

    def test_a_value_that_cannot_travel_is_left_out(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1), finished(1, Live(threading.Lock())))
        assert isinstance(written(recorder)[-1], Submitted)

    def test_an_object_that_cannot_be_written_is_left_out_loudly(
        self, open_run: Open, arena: Arena, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(data: object) -> None:
            raise heald.JournalError("the disk is full")

        recorder = open_run()
        monkeypatch.setattr(recorder.folder, "put", refuse)
        large, _ = pack(np.arange(100_000), arena, subject="an array")
        with caplog.at_level(logging.ERROR):
            write(recorder, submitted(1), finished(1, large))
        assert "lacks task 1: the disk is full" in caplog.text
        assert isinstance(written(recorder)[-1], Submitted)

    def test_two_cannot_write_one_run(self, open_run: Open, tmp_path: Path, arena: Arena) -> None:
        open_run()
        with pytest.raises(heald.JournalLocked):
            Recorder(Folder(tmp_path / "run.heald"), arena, "none", "0.1")


class TestGoingOn:
    def test_equal_tasks_are_told_apart_by_their_place(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1), submitted(2), submitted(3, key=b"o" * 16))
        write(recorder, placed(2), finished(2, Payload(b"second")))
        recorder.close()
        again = open_run()
        assert again.last == 3
        assert [again.claim(KEY, (), again=False) for _ in range(3)] == [1, 2, None]
        assert again.earlier(1) == Earlier(0)
        assert again.earlier(2) == Earlier(1, Payload(b"second"))
        assert again.earlier(2) is None
        assert again.claim(b"x" * 16, (), again=False) is None

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 100)])
    def test_a_value_that_is_gone_counts_no_more(self, open_run: Open, damage: Callable[[Path], None]) -> None:
        recorder = open_run()
        value, _ = pack(np.ones(100_000), recorder._arena, subject="the value")
        joined = Payload(b"frame", inputs=(value,))
        write(recorder, submitted(1), placed(1), finished(1, value), submitted(2), placed(2), finished(2, joined))
        recorder.close()
        whole = open_run()
        assert [whole.claim(KEY, (), again=False) for _ in range(2)] == [1, 2]
        assert all(isinstance(whole.earlier(task).outcome, Payload) for task in (1, 2))  # type: ignore[union-attr]
        whole.close()
        damage(next(path for path in whole.folder.objects.glob("??/*") if path.stat().st_size > 1000))
        again = open_run()
        assert [again.claim(KEY, (), again=False) for _ in range(2)] == [1, 2]
        assert [again.earlier(task) for task in (1, 2)] == [Earlier(1), Earlier(1)]

    def test_what_a_task_needs_tells_it_apart_too(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1), submitted(2, inputs=(1,)), submitted(3, inputs=(1,)))
        recorder.close()
        again = open_run()
        assert again.claim(KEY, (2,), again=False) is None
        assert again.claim(KEY, (1,), again=False) == 2

    def test_attempts_are_counted_on(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1), placed(1), finished(1, Failure("worker-lost", "gone")), placed(1, 2))
        recorder.close()
        again = open_run()
        assert again.claim(KEY, (), again=False) == 1
        found = again.earlier(1)
        assert found
        assert (found.attempt, found.outcome, bool(found.worker)) == (2, None, True)

    def test_a_failure_is_no_value(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1), placed(1), finished(1, Failure(USER, "broken")))
        write(recorder, submitted(2), Cancelled(2, 2.0, "enough"))
        recorder.close()
        again = open_run()
        for task in (1, 2):
            assert again.claim(KEY, (), again=False) == task
            assert again.earlier(task).outcome is None  # type: ignore[union-attr]

    def test_a_cancellation_from_outside_holds(self, open_run: Open) -> None:
        cancelled = Cancelled(1, 2.0, "enough", final=True)
        recorder = open_run()
        write(recorder, submitted(1), cancelled)
        recorder.close()
        again = open_run()
        assert again.claim(KEY, (), again=True) == 1  # its files are not there, of course
        earlier = again.earlier(1)
        assert earlier is not None
        assert isinstance(earlier.outcome, Failure)
        assert earlier.outcome.hint == cancelled.failure.hint

    def test_a_retried_task_is_done_afresh(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1), placed(1), finished(1, Payload(b"old")), Retried(1, 4.0))
        recorder.close()
        for _ in range(2):  # also when that one is killed before it has run
            again = open_run()
            assert again.claim(KEY, (), again=True) == 1
            assert again.earlier(1) == Earlier(1, None, afresh=True)
            write(again, submitted(1))
            again.close()
        write(again := open_run(), submitted(1), placed(1, 2), finished(1, Payload(b"new"), 2))
        again.close()
        assert open_run().earlier(1) == Earlier(2, Payload(b"new"))

    def test_a_removed_task_is_not_known_and_its_number_not_used_again(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1), submitted(2), placed(2), finished(2, Payload(b"second")), Removed(2, 4.0))
        recorder.close()
        assert any(isinstance(event, Submitted) and event.task == 2 for event in written(recorder))
        for _ in range(2):
            again = open_run()
            assert again.last == 2
            assert [again.claim(KEY, (), again=False) for _ in range(2)] == [1, None]
            assert not any(isinstance(event, Submitted) and event.task == 2 for event in written(again))
            again.close()

    def test_what_was_is_revised_before_the_script_comes_to_it(self, open_run: Open) -> None:
        recorder = open_run()
        for task in (1, 2, 3):
            write(recorder, submitted(task))
        write(recorder, placed(1), finished(1, Payload(b"value")))
        recorder.close()
        again = open_run()
        stop = Failure("cancelled", "enough", final=True)
        assert again.revise(1, stop) == Earlier(1, Payload(b"value"))
        assert again.revise(2, stop) == Earlier(0)
        assert again.revise(3, None) == Earlier(0)
        assert again.revise(9, stop) is None
        assert again.earlier(1) == Earlier(1, Payload(b"value"))
        assert again.earlier(2) == Earlier(0, stop)
        assert again.earlier(3) == Earlier(0, None, afresh=True)
        assert again.revise(3, stop) is None

    def test_what_was_is_forgotten(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1), submitted(2))
        recorder.close()
        again = open_run()
        again.forget(1)
        again.forget(9)
        assert [again.claim(KEY, (), again=False) for _ in range(2)] == [2, None]

    def test_a_value_whose_files_are_gone_does_not_count(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1), placed(1), finished(1, Payload(b"value")))
        recorder.close()
        again = open_run()
        assert again.claim(KEY, (), again=True) == 1
        assert again.earlier(1) == Earlier(1)

    def test_tasks_without_a_key_are_not_known_again(self, open_run: Open) -> None:
        recorder = open_run()
        write(recorder, submitted(1, key=b""))
        recorder.close()
        again = open_run()
        assert again.claim(b"", (), again=False) is None
        assert again.last == 1


class TestCompaction:
    def test_a_journal_of_much_garbage_says_the_same_in_less(
        self, open_run: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_GARBAGE", 10)
        recorder = open_run()
        write(recorder, submitted(1), submitted(2), submitted(3), submitted(4))
        for attempt in (1, 2):
            write(recorder, placed(1, attempt), finished(1, Failure("worker-lost", "gone"), attempt))
        for attempt in range(3, 20):
            write(recorder, placed(1, attempt), Returned(1, 2.5, attempt))
        write(recorder, placed(2), finished(2, Payload(b"value")))
        write(recorder, placed(3), finished(3, Failure(USER, "broken")), Cancelled(4, 2.0, "enough"))
        recorder.close()
        before, size = history(recorder), recorder.folder.journal.stat().st_size
        again = open_run()
        again.flush()
        after = history(again)
        assert again.folder.journal.stat().st_size < size
        assert after.works == before.works
        assert list(after.records) == list(before.records)
        for task in (2, 3, 4):
            old, new = before.records[task], after.records[task]
            assert (new.state, new.attempt, new.settled) == (old.state, old.attempt, old.settled)
            assert new.task == old.task
        assert after.records[2].outcome == Payload(b"value")
        assert after.records[3].state is State.failed
        assert [again.claim(KEY, (), again=False) for _ in range(5)] == [1, 2, 3, 4, None]

    def test_what_was_done_from_outside_stays(self, open_run: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        recorder = open_run()
        write(recorder, *map(submitted, range(1, 6)))
        write(recorder, Cancelled(1, 2.0, "enough"), Cancelled(2, 2.0, "enough", final=True))
        write(recorder, placed(3), finished(3, Payload(b"value")), Retried(3, 4.0), placed(4), Retried(4, 4.0))
        write(recorder, Removed(5, 4.0))
        recorder.close()
        open_run().close()
        monkeypatch.setattr(module, "_GARBAGE", 0)
        for _ in range(2):
            again = open_run()
            known = {task: again.earlier(task) for task in range(1, 6)}
            assert known[1] == Earlier(0)
            assert known[2] is not None
            assert isinstance(known[2].outcome, Failure)
            assert known[3] == Earlier(1, None, afresh=True)
            assert known[4] == Earlier(1, None, afresh=True)
            assert known[5] is None
            assert again.last == 5
            again.close()

"""Workers as a session has them: started, replaced, stopped, counted."""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import heald
from heald.run.pool import Pool
from heald.testing.executor import Gate
from heald.testing.work import echo, held, touch

Wait = Callable[..., None]


def pid() -> int:
    return os.getpid()


def end_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def end_worker_once(file: Path) -> str:
    if not file.exists():
        file.touch()
        os._exit(1)
    return "second time"


def ignore_stops(file: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    file.touch()
    while True:
        signal.pause()


@pytest.fixture
def session() -> Iterator[heald.Session]:
    session = heald.Session([heald.ProcessExecutor(2, grace="200ms")], memo=None).start()
    yield session
    session.close(cancel=True)


@pytest.fixture
def pool(session: heald.Session) -> Pool:
    assert session._engine is not None
    found = session._engine.pools["process"]
    assert isinstance(found, Pool)
    return found


@pytest.fixture
def gate(tmp_path: Path, session: heald.Session) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


def spawner(pool: Pool) -> psutil.Process:
    assert pool.crew._process is not None
    return psutil.Process(pool.crew._process.pid)


class TestWorkers:
    def test_there_are_as_many_as_are_needed(self, session: heald.Session, pool: Pool, gate: Gate) -> None:
        for _ in range(5):
            session.submit(pid).result()
        assert len(spawner(pool).children()) == 1
        session.submit(held, gate.path)
        gate.wait_entered()
        assert session.submit(pid).result() in {child.pid for child in spawner(pool).children()}
        assert len(spawner(pool).children()) == 2

    def test_one_that_died_is_replaced(self, session: heald.Session, tmp_path: Path) -> None:
        before = session.submit(pid).result()
        assert session.submit(end_worker_once, tmp_path / "file").result() == "second time"
        assert session.submit(pid).result() != before

    def test_one_whose_worker_dies_each_time_fails(self, session: heald.Session) -> None:
        future = session.submit(end_worker)
        others = [session.submit(echo, number) for number in range(20)]
        with pytest.raises(heald.WorkerLost, match="its worker was killed by SIGKILL"):
            future.result()
        assert [other.result() for other in others] == list(range(20))

    def test_an_idle_one_that_is_killed_costs_nothing(
        self, session: heald.Session, pool: Pool, wait_until: Wait
    ) -> None:
        idle = session.submit(pid).result()
        os.kill(idle, signal.SIGKILL)
        wait_until(lambda: not pool.crew.lanes)
        assert session.submit(pid).result() != idle

    def test_a_spawner_that_is_killed_is_replaced(
        self, session: heald.Session, pool: Pool, gate: Gate, wait_until: Wait
    ) -> None:
        future = session.submit(held, gate.path)
        gate.wait_entered()
        before = spawner(pool)
        before.kill()
        wait_until(lambda: not before.is_running())
        gate.open()
        assert future.result() == "let go"
        assert spawner(pool).pid != before.pid

    def test_workers_that_cannot_live_fail_what_waits_for_them(self) -> None:
        with heald.Session([heald.ProcessExecutor(2, initializer=end_worker)], memo=None) as session:
            futures = [session.submit(echo, number) for number in range(5)]
            for future in futures:
                with pytest.raises(heald.WorkerLost, match="workers die before they run anything"):
                    future.result()
            with pytest.raises(heald.WorkerLost):
                session.submit(echo, 1).result()

    def test_a_session_that_is_closed_at_once_leaves_nothing(self) -> None:
        for _ in range(3):
            with heald.Session([heald.ProcessExecutor(2)], memo=None) as session:
                session.submit(echo, 1).cancel()

    def test_no_descriptor_is_left(self, session: heald.Session, tmp_path: Path, wait_until: Wait) -> None:
        def use(name: str) -> None:
            with heald.Session([heald.ProcessExecutor(2)], memo=None) as inner:
                inner.submit(end_worker_once, tmp_path / name).result()
                list(inner.map(echo, range(50)).results())

        def opened() -> int:
            gc.collect()  # futures keep what their values are in, and so does a thread until it is quite over
            return len(os.listdir("/proc/self/fd"))

        use("a")
        first = opened()
        use("b")
        wait_until(lambda: opened() <= first)


class TestStopping:
    def test_one_that_does_not_listen_is_killed(
        self, session: heald.Session, pool: Pool, tmp_path: Path, wait_until: Wait
    ) -> None:
        future = session.submit(ignore_stops, tmp_path / "begun")
        wait_until((tmp_path / "begun").exists)
        workers = spawner(pool).children()
        assert future.cancel()
        wait_until(lambda: not any(worker.is_running() for worker in workers))
        assert session.submit(echo, 1).result() == 1

    def test_walltime(self, session: heald.Session, tmp_path: Path) -> None:
        patient = heald.task(walltime="200ms")(ignore_stops)
        with pytest.raises(heald.WalltimeExceeded, match=r"after its walltime of 0\.2 s"):
            patient.submit(tmp_path / "begun").result()

    def test_one_that_was_placed_and_not_begun(self, session: heald.Session, pool: Pool, tmp_path: Path) -> None:
        # What it held is free again, for one that needs all of it too.
        for number in range(20):
            future = session.submit(touch, tmp_path / str(number))
            future.cancel()
        assert heald.task(cpus=2)(echo).submit(1).result(30) == 1

    def test_those_behind_it_run_elsewhere(self, session: heald.Session, gate: Gate) -> None:
        assert session.submit(echo, 0).result() == 0
        running = session.submit(held, gate.path)
        behind = [session.submit(echo, number) for number in range(50)]
        gate.wait_entered()
        running.cancel()
        assert [future.result() for future in behind] == list(range(50))


class TestMemory:
    def test_one_that_uses_more_than_it_asked_for(self) -> None:
        def fill(size: int) -> None:
            held = b"x" * size
            while held:
                signal.pause()

        greedy = heald.task(memory="50MB")(fill)
        with (
            heald.Session([heald.ProcessExecutor(1, memory="1GB")], memo=None),
            pytest.raises(heald.OutOfMemory, match=r"used 0\.\d+ GB of memory and asked for 0\.05 GB"),
        ):
            greedy.submit(200_000_000).result()

    def test_one_that_asks_for_more_than_there_is(self) -> None:
        with (
            heald.Session([heald.ProcessExecutor(1, memory="1GB")], memo=None),
            pytest.raises(heald.UsageError, match="can never run: process: needs 2 GB of memory on a node"),
        ):
            heald.task(memory="2GB")(echo).submit(1).result()


class TestPackets:
    def test_what_the_spawner_has_no_room_for_is_told_later(
        self, session: heald.Session, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        send, refused = socket.send_fds, list[bytes]()

        def crowded(channel: Any, buffers: Any, descriptors: Any) -> int:
            if len(refused) < 3:
                refused.append(buffers[0])
                raise BlockingIOError
            return send(channel, buffers, descriptors)

        monkeypatch.setattr(socket, "send_fds", crowded)
        assert session.submit(echo, 1).result(30) == 1
        assert len(set(refused)) == 1

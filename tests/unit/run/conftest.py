"""A spawner with real workers, and the test in the driver's place."""

from __future__ import annotations

import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from heald.core.task import Payload, Work
from heald.data.arena import Arena
from heald.data.payload import pack_call, unpack
from heald.run import protocol
from heald.run.boot import boot
from heald.run.function import importable
from heald.run.lane import Lane
from heald.run.protocol import Born, Define, Died, Ended, Notice, Order, Report, Setup, Signal, Spawn
from heald.run.selector import Selector

_PATIENCE = 20.0


class Workers:
    """Lanes to real workers of one spawner. `notices`: what the spawner said; `reports`: what a worker said."""

    def __init__(self, folder: Path, initializer: bytes = b"") -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.selector = Selector()
        self.arena = Arena(capacity=1 << 24)
        self.works: dict[bytes, Define] = {}
        self.notices: list[Notice] = []
        self.lanes: dict[int, Lane] = {}
        self.reports: dict[int, list[Report]] = {}
        self.tasks = iter(range(1, 1_000_000))
        self.again: Callable[[], None] = lambda: None  # what is said to a worker again and again
        self.process, self.control = boot()
        self.errors = (self.logs / "spawner.err").open("wb")
        setup = Setup(str(folder), str(self.logs), str(folder), initializer=initializer)
        self.tell(setup, [self.arena.fd, self.errors.fileno()])
        self.control.setblocking(False)
        self.selector.on_readable(self.control, self._hear_spawner)

    def tell(self, command: protocol.Command, descriptors: list[int] | None = None) -> None:
        socket.send_fds(self.control, [protocol.encode(command)], descriptors or [])

    def _hear_spawner(self) -> None:
        data = self.control.recv(1 << 16)
        if not data:
            self.selector.forget(self.control)
            return
        notice = protocol.notice(data)
        self.notices.append(notice)
        if isinstance(notice, Born):
            self.lanes[notice.number].pid = notice.pid
            self.lanes[notice.number].handed_over()

    def open(self) -> Lane:
        """A lane to a new worker."""
        lane = Lane(len(self.lanes) + 1, self.selector, self.works.__getitem__)
        self.lanes[lane.number] = lane
        heard = self.reports[lane.number] = []
        lane.listen(lambda: heard.extend(lane.reports()))
        self.tell(Spawn(lane.number, lane.name), lane.descriptors())
        return lane

    def signal(self, worker: int, number: int) -> None:
        self.tell(Signal(worker, number))

    def warn(self, lane: Lane, order: Order, why: bytes) -> None:
        """Say to an attempt that its time ends; as a crew does it, the signal is sent again."""
        tell = Signal(lane.number, signal.SIGUSR1, alone=True)
        lane.warn(order, why, lambda worker, number: self.tell(tell))
        self.again = lambda: self.tell(tell)

    def order(self, function: Callable[..., Any], *args: Any, kind: str = "function", **options: Any) -> Order:
        """The first attempt of a new task."""
        importable(function.__module__)  # what stands in a test goes by value
        pickled = cloudpickle.dumps(function)
        work = Work(function.__name__, kind, pickled[-16:], **options)
        self.works[work.digest()] = Define(work.digest(), work, pickled)
        payload, _ = pack_call(args, {}, self.arena, name=work.name)
        return Order(next(self.tasks), 1, work.digest(), payload)

    def until(self, met: Callable[[], object]) -> None:
        """Serve until it is so."""
        deadline = time.monotonic() + _PATIENCE
        while not met():
            assert time.monotonic() < deadline, (self.notices, (self.logs / "spawner.err").read_text())
            self.selector.asleep = True
            self.selector.wait(1.0)
            self.again()

    def turn(self) -> None:
        """Take in what has come."""
        self.selector.asleep = True
        self.selector.wait(0)

    def ends(self, lane: Lane) -> list[Ended]:
        """The attempts that the worker has ended so far."""
        return [report for report in self.reports[lane.number] if isinstance(report, Ended)]

    def outcome(self, lane: Lane, order: Order) -> Any:
        """Run it: its value, or its Failure."""
        lane.send([order])
        self.until(lambda: order not in lane.fifo)
        (found,) = [one for one in self.ends(lane) if one.task == order.task]
        return self.value(found)

    def value(self, report: Ended) -> Any:
        """What the attempt returned, or its Failure."""
        return unpack(report.outcome, self.arena) if isinstance(report.outcome, Payload) else report.outcome

    def died(self, lane: Lane) -> Died:
        """How the worker died."""

        def found() -> list[Died]:
            return [one for one in self.notices if isinstance(one, Died) and one.number == lane.number]

        self.until(found)
        return found()[0]

    def close(self) -> None:
        """Go away, as a driver that ends or is killed."""
        self.selector.forget(self.control)
        self.control.close()
        for lane in self.lanes.values():
            lane.close()
        self.process.wait(_PATIENCE)
        self.errors.close()
        self.selector.close()


@pytest.fixture
def make_workers(tmp_path: Path) -> Iterator[Callable[..., Workers]]:
    """Makes `Workers`, closed after the test."""
    made: list[Workers] = []

    def make(**settings: Any) -> Workers:
        made.append(Workers(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        if one.control.fileno() >= 0:
            one.close()


@pytest.fixture
def workers(make_workers: Callable[..., Workers]) -> Workers:
    """Workers of one spawner; none is there yet."""
    return make_workers()


@pytest.fixture
def apart() -> Callable[..., Any]:
    """Calls a function in a process of its own; its value."""

    def call(function: Callable[..., Any], *args: Any) -> Any:
        importable(function.__module__)
        sent = cloudpickle.dumps((function, args))
        code = (
            "import os, pickle, sys; out = os.dup(1); function, args = pickle.load(sys.stdin.buffer); "
            "found = pickle.dumps(function(*args)); os.write(out, found)"
        )
        run = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, timeout=30, check=False)
        assert run.returncode == 0, run.stderr.decode()
        return pickle.loads(run.stdout)

    return call


_MPI4PY = """
import os

class World:
    def Get_rank(self):
        return int(os.environ["FAKE_RANK"])

    def Get_size(self):
        return int(os.environ["FAKE_SIZE"])

    def Abort(self, status):
        os._exit(40 + status)

COMM_WORLD = World()

def Get_library_version():
    return "Fake MPI 1.0, built today\\n"
"""


@pytest.fixture
def mpi4py(tmp_path: Path) -> Path:
    """A folder with a stand-in for mpi4py: its rank and size are those of FAKE_RANK and FAKE_SIZE."""
    folder = tmp_path / "site"
    (folder / "mpi4py").mkdir(parents=True)
    (folder / "mpi4py" / "__init__.py").touch()
    (folder / "mpi4py" / "MPI.py").write_text(_MPI4PY)
    return folder

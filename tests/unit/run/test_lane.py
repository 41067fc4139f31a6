"""The driver's end of a worker, with the test in the worker's place."""

from __future__ import annotations

import functools
import os
import random
import signal
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from heald.core.event import Failure, Usage
from heald.core.ref import Ref
from heald.core.task import Payload, Work
from heald.run import protocol
from heald.run.lane import Lane
from heald.run.protocol import (
    CLAIM,
    Began,
    Define,
    Drop,
    Ended,
    Free,
    Hold,
    Instruction,
    Kept,
    Order,
    Released,
    Report,
    claim,
    frame,
)
from heald.run.selector import Selector

WORK = Work("square", "function", b"f")


NOTHING = Payload(b"")


def order(task: int, work: bytes = b"w", *, arguments: Payload = NOTHING) -> Order:
    return Order(task, 1, work, arguments)


class Peer:
    """A worker, played by the test: it takes what the lane sent when the test says so."""

    def __init__(self, lane: Lane) -> None:
        frames, self.claims, self.words = lane.descriptors()
        self.socket = socket.socket(fileno=os.dup(frames))
        self.socket.setblocking(False)
        self.frames = protocol.Frames()
        self.came: deque[bytes] = deque()
        self.queue: deque[Order] = deque()
        self.epoch = 0
        self.claim: int | None = None
        self.ran: list[int] = []

    def read(self) -> list[Instruction]:
        """What was sent."""
        self.take()
        came, self.came = self.came, deque()
        return [message for body in came for message in protocol.instructions(body)]

    def take(self, limit: int = 1 << 20) -> None:
        """Let come what was sent, at most so many bytes of it."""
        try:
            self.came.extend(self.frames.feed(self.socket.recv(limit)))
        except BlockingIOError:
            pass

    def run(self) -> Order | None:
        """Run one order, if what has come allows it. Frames are taken in one at a time, as the protocol wants it."""
        while True:
            if self.queue and self.claim is None:
                try:
                    self.claim = int.from_bytes(os.read(self.claims, CLAIM), "little")
                except BlockingIOError:
                    pass
            if self.queue and self.claim == self.epoch:
                self.claim = None
                started = self.queue.popleft()
                self.ran.append(started.task)
                return started
            if not self.came:
                return None
            self._take_in(self.came.popleft())

    def _take_in(self, body: bytes) -> None:
        for message in protocol.instructions(body):
            if isinstance(message, Order):
                self.queue.append(message)
            elif isinstance(message, Drop):
                for _ in range(message.count):
                    self.queue.pop()
                self.epoch = message.epoch

    def say(self, *reports: Report) -> None:
        self.socket.sendall(frame(reports))

    def end(self, *orders: Order) -> None:
        self.say(*(Ended(one.task, one.attempt, Payload(b"v"), Usage()) for one in orders))


@pytest.fixture
def selector() -> Iterator[Selector]:
    made = Selector()
    yield made
    made.close()


@pytest.fixture
def lane(selector: Selector) -> Iterator[Lane]:
    made = Lane(3, selector, functools.cache(lambda digest: Define(digest, WORK, b"function " + digest)))
    yield made
    made.close()


@pytest.fixture
def peer(lane: Lane) -> Iterator[Peer]:
    made = Peer(lane)
    yield made
    made.socket.close()


def turn(selector: Selector) -> None:
    selector.asleep = True
    selector.wait(0)


def tasks(orders: list[Order]) -> list[int]:
    return [one.task for one in orders]


class TestOut:
    def test_a_work_is_told_again_when_modules_are_found_elsewhere(self, selector: Selector) -> None:
        works = {b"w": Define(b"w", WORK, b"function")}
        lane = Lane(3, selector, works.__getitem__)
        peer = Peer(lane)
        lane.send([order(1)])
        works[b"w"] = Define(b"w", WORK, b"function", ("/late",))
        lane.send([order(2)])
        assert peer.read() == [Define(b"w", WORK, b"function"), order(1), works[b"w"], order(2)]
        peer.socket.close()
        lane.close()

    def test_a_work_is_told_once_before_its_first_order(self, lane: Lane, peer: Peer) -> None:
        lane.send([order(1), order(2)])
        lane.send([order(3), order(4, b"x")])
        assert peer.read() == [
            Define(b"w", WORK, b"function w"),
            order(1),
            order(2),
            Define(b"x", WORK, b"function x"),
            order(3),
            order(4, b"x"),
        ]
        assert tasks(list(lane.fifo)) == [1, 2, 3, 4]

    def test_each_order_has_a_claim(self, lane: Lane, peer: Peer) -> None:
        lane.send([order(1), order(2)])
        assert os.read(peer.claims, 100) == claim(0) * 2

    def test_hold_is_told_when_it_changes(self, lane: Lane, peer: Peer) -> None:
        lane.hold(Hold((), {}))
        lane.hold(Hold((1,), {"OMP_NUM_THREADS": "1"}))
        lane.hold(Hold((1,), {"OMP_NUM_THREADS": "1"}))
        lane.hold(Hold((), {}))
        assert peer.read() == [Hold((1,), {"OMP_NUM_THREADS": "1"}), Hold((), {})]

    def test_what_has_no_room_waits_for_it(self, lane: Lane, peer: Peer, selector: Selector) -> None:
        large = Payload(bytes(3_000_000))
        lane.send([order(1, arguments=large)])
        lane.send([order(2)])
        lane.hold(Hold((1,), {}))
        found: list[Instruction] = []
        while len(found) < 4:
            turn(selector)
            found += peer.read()
        assert found[1:] == [order(1, arguments=large), order(2), Hold((1,), {})]
        assert not lane._out

    def test_what_is_no_longer_needed_is_told_with_the_next_orders(self, lane: Lane, peer: Peer) -> None:
        first, second = Ref("shm:1", 5), Ref("shm:2", 5)
        lane.lent = 2
        lane.freed(first)
        assert lane.needed
        lane.freed(second)
        assert not lane.needed
        lane.send([order(1)])
        assert Free((first, second)) in peer.read()
        assert lane.lent == 0

    def test_stop_names_the_attempt_and_signals(self, lane: Lane, peer: Peer) -> None:
        told: list[tuple[int, int]] = []
        lane.stop(order(7), lambda *signal: told.append(signal))
        assert told == [(3, signal.SIGTERM)]
        assert list(protocol.words(os.read(peer.words, 100))) == [(protocol.STOP, 7, 1)]
        assert lane.stopping

    def test_a_warning_names_the_attempt_and_signals(self, lane: Lane, peer: Peer) -> None:
        told: list[tuple[int, int]] = []
        lane.warn(order(7), protocol.LATE, lambda *signal: told.append(signal))
        assert told == [(3, signal.SIGUSR1)]
        assert list(protocol.words(os.read(peer.words, 100))) == [(protocol.LATE, 7, 1)]
        assert not lane.stopping

    def test_a_worker_that_reads_no_stop_blocks_nobody(self, lane: Lane) -> None:
        for task in range(5000):
            lane.stop(order(task), lambda *_: None)

    def test_to_one_that_is_gone_nothing_is_sent(self, lane: Lane, peer: Peer) -> None:
        peer.socket.close()
        lane.handed_over()
        lane.send([order(1)])
        lane.send([order(2)])
        assert lane.died() == (None, [order(1), order(2)])


class TestIn:
    def test_ended_orders_leave(self, lane: Lane, peer: Peer, selector: Selector) -> None:
        heard: list[Report] = []
        lane.listen(lambda: heard.extend(lane.reports()))
        lane.send([order(1), order(2)])
        lane.long = True
        assert not lane.served
        peer.say(Began(1, 1, 0.5))
        peer.end(order(1))
        selector.asleep = True
        selector.wait(1)
        assert [type(report) for report in heard] == [Began, Ended]
        assert tasks(list(lane.fifo)) == [2]
        assert lane.last == order(1)
        assert lane.served
        assert not lane.long

    def test_reports_that_come_in_pieces(self, lane: Lane, peer: Peer) -> None:
        lane.send([order(1), order(2)])
        data = frame([Ended(1, 1, Payload(b"x" * 100), Usage())]) + frame([Began(2, 1, 0.0)])
        found: list[Report] = []
        for at in range(0, len(data), 7):
            peer.socket.sendall(data[at : at + 7])
            found.extend(lane.reports())
        assert [type(report) for report in found] == [Ended, Began]

    def test_reports_out_of_order_are_a_fault(self, lane: Lane, peer: Peer) -> None:
        lane.send([order(1), order(2)])
        peer.end(order(2))
        with pytest.raises(RuntimeError, match="worker-3 ended task 2, not 1"):
            list(lane.reports())

    def test_what_the_worker_still_reads_is_held(self, lane: Lane, peer: Peer) -> None:
        owned = Ref("shm:8", 100)
        lane.send([order(1, arguments=Payload(b"", (owned,)))])
        peer.end(order(1))
        peer.say(Kept((Ref("shm:8", 100), Ref("shm:unknown", 1))))
        list(lane.reports())
        assert [id(ref) for ref in lane._held.values()] == [id(owned)]
        peer.say(Released((Ref("shm:8", 100), Ref("shm:other", 1))))
        list(lane.reports())
        assert not lane._held

    def test_when_the_worker_is_gone_it_is_heard_no_more(self, lane: Lane, peer: Peer, selector: Selector) -> None:
        calls: list[int] = []
        lane.listen(lambda: calls.append(len(list(lane.reports()))))
        lane.send([order(1)])
        peer.end(order(1))
        peer.socket.close()
        lane.handed_over()
        for _ in range(3):
            turn(selector)
        assert sum(calls) == 1
        assert len(calls) <= 2
        assert list(lane.reports()) == []


class TestTakeBack:
    def test_takes_the_last_ones(self, lane: Lane, peer: Peer) -> None:
        lane.send([order(1), order(2), order(3)])
        peer.take()
        assert peer.run() == order(1)
        assert tasks(lane.take_back(keep=1)) == [3]
        assert tasks(list(lane.fifo)) == [1, 2]
        assert peer.run() is None  # before it has read of the drop
        peer.take()
        assert peer.run() == order(2)
        assert peer.run() is None

    def test_takes_all(self, lane: Lane, peer: Peer) -> None:
        lane.send([order(1), order(2)])
        assert tasks(lane.take_back()) == [1, 2]
        assert not lane.fifo
        peer.take()
        assert peer.run() is None
        assert not peer.queue

    def test_what_was_started_stays(self, lane: Lane, peer: Peer) -> None:
        lane.send([order(1)])
        peer.take()
        peer.run()
        assert lane.take_back() == []
        assert tasks(list(lane.fifo)) == [1]

    def test_to_keep_all_takes_nothing(self, lane: Lane, peer: Peer) -> None:
        lane.send([order(1), order(2)])
        assert lane.take_back(keep=5) == []
        peer.take()
        assert [peer.run(), peer.run()] == [order(1), order(2)]

    def test_orders_after_a_drop_wait_for_it(self, lane: Lane, peer: Peer) -> None:
        lane.send([order(1), order(2)])
        peer.take()
        lane.take_back()
        lane.send([order(3)])
        assert peer.run() is None  # the claim of 3 is no claim of 1
        peer.take()
        assert peer.run() == order(3)

    def test_a_worker_that_slept_for_long_is_not_misled(self, lane: Lane, peer: Peer, selector: Selector) -> None:
        lane.send([order(0)])
        peer.take()
        for task in range(1, 257):
            lane.take_back()
            lane.send([order(task)])
        while peer.run() is None:
            peer.take()
            turn(selector)  # not all had room at once
        assert peer.ran == [256]

    @pytest.mark.parametrize("seed", range(20))
    def test_each_order_is_run_once_whatever_comes_when(self, lane: Lane, peer: Peer, seed: int) -> None:
        chance = random.Random(seed)
        ready = deque(range(300))
        started: deque[Order] = deque()
        done: list[int] = []
        while len(done) < 300:
            act = chance.choice(["send", "take", "take", "run", "run", "back", "report"])
            if act == "send" and ready:
                lane.send([order(ready.popleft()) for _ in range(min(len(ready), chance.randint(1, 5)))])
            elif act == "take":
                peer.take(chance.choice([3, 50, 10_000]))
            elif act == "run" and (one := peer.run()) is not None:
                started.append(one)
            elif act == "back":
                ready.extendleft(reversed(tasks(lane.take_back(chance.choice([0, 0, 1, 2])))))
            elif act == "report" and started:
                peer.end(*started)
                started.clear()
                done.extend(report.task for report in lane.reports() if isinstance(report, Ended))
        assert peer.ran == done == list(range(300))
        assert not lane.fifo


class TestDeath:
    def test_the_last_one_started_is_charged(self, lane: Lane, peer: Peer) -> None:
        lane.send([order(1), order(2), order(3), order(4)])
        peer.take()
        peer.run()
        peer.run()  # 1 is over, but nothing was said of it
        assert lane.died() == (order(2), [order(1), order(3), order(4)])
        assert not lane.fifo

    def test_one_that_started_nothing_is_charged_to_nobody(self, lane: Lane) -> None:
        lane.send([order(1), order(2)])
        assert lane.died() == (None, [order(1), order(2)])

    def test_an_idle_one(self, lane: Lane) -> None:
        assert lane.died() == (None, [])

    def test_what_it_printed_gets_the_name_of_the_attempt(self, lane: Lane, tmp_path: Path) -> None:
        (tmp_path / "worker-3.out").write_text("the last words")
        (tmp_path / "worker-3.err").touch()
        found = lane.with_logs(Failure("worker-lost", "gone"), order(1002), tmp_path)
        assert found.stdout == str(tmp_path / "1" / "1002.1.out")
        assert Path(found.stdout).read_text() == "the last words"
        assert found.stderr == ""

    def test_what_it_printed_stays_where_the_disk_is_full(self, lane: Lane, tmp_path: Path) -> None:
        (tmp_path / "worker-3.out").write_text("the last words")
        (tmp_path / "1").touch()  # no folder can be made here
        found = lane.with_logs(Failure("worker-lost", "gone"), order(1002), tmp_path)
        assert found.stdout == str(tmp_path / "worker-3.out")


def test_closing_lets_go_of_all_descriptors(selector: Selector) -> None:
    before = len(os.listdir("/proc/self/fd"))
    lane = Lane(1, selector, lambda digest: Define(digest, WORK, b""))
    lane.listen(lambda: None)
    lane.close()
    lane.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(lane.reports()) == []

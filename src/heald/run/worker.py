"""A worker: a warm process that runs one attempt after another.

It knows the driver only by its socket, opens values only to run what it was told to run, and imports nothing that
a compute node need not have. What a task changes around itself is put right after it (`run.surrounding`). See
`run.protocol` for how orders are claimed, and `run.spawner` for who looks after workers.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from collections import deque

import msgspec

from heald.core.event import Failure, Usage
from heald.core.ref import Ref
from heald.core.retry import CANCELLED, USER
from heald.core.task import Payload
from heald.data.arena import Arena
from heald.run import current, kernel, protocol
from heald.run.attempt import Call, Stopped, refs
from heald.run.protocol import Began, Define, Drop, Ended, Free, Hold, Kept, Order, Released, Setup, Spawn
from heald.run.surrounding import Surrounding

# Seconds that a result may wait for company behind attempts expected to be short; a thread of its own sends results,
# and tells of the running attempt, when the expectation was wrong.
_LINGER = 0.001
_WATCH = 0.005
_TELLING = (signal.SIGTERM, signal.SIGUSR1)  # that there is a word about the attempt


# Whether this process is a worker: set once, by the one that is.
running = False


class Worker:
    """One worker process, from its first order to the end of its driver."""

    def __init__(self, spawn: Spawn, frames: socket.socket, claims: int, words: int, arena: int, setup: Setup) -> None:
        self.frames = frames
        self.input = frames.makefile("rb", 1 << 18)
        self.claims = claims
        self.words = words
        self.arena = Arena(fd=arena, owner=spawn.number)
        self.surrounding = Surrounding(setup, spawn.name)
        self.calls: dict[bytes, Call] = {}
        self.queue: deque[Order] = deque()  # orders not started
        self.epoch = 0
        self.claim: int | None = None  # a claim taken whose order is still to be told
        self.current: Order | None = None
        self.stage = _Outbox(frames)
        self.lent: dict[str, Ref] = {}  # what this worker wrote and the driver still needs
        self.open: dict[str, Ref] = {}  # what this worker reads and still maps
        self.kept: set[str] = set()  # what of it the driver knows to outlive its attempt
        self.used = resource.getrusage(resource.RUSAGE_SELF)

    def run(self) -> None:
        """Serve until the driver is gone."""
        global running
        running = True
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        for number in _TELLING:
            signal.signal(number, self._on_word)
        current.running = self._running
        self.surrounding.settle()
        # Children that tasks fork end by SIGTERM, as they would elsewhere, and from their first moment: what came to a
        # handler of Python's before the fork is over would be lost, so it waits until there is none.
        os.register_at_fork(
            before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _TELLING),
            after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _TELLING),
            after_in_child=_be_a_child,
        )
        self.stage.start()
        try:
            while True:
                while not self.queue:
                    self._receive()
                if self._claimed():
                    self._attempt(self.queue.popleft())
        except (EOFError, ConnectionError):
            return

    # -- orders ------------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Read one frame and do what it says; orders are queued."""
        self.stage.flush()
        head = self.input.read(4)
        body = self.input.read(int.from_bytes(head, "little")) if len(head) == 4 else b""
        if not body:
            raise EOFError
        for message in protocol.instructions(body):
            if isinstance(message, Order):
                self.queue.append(message)
            elif isinstance(message, Define):
                self.surrounding.look_in(message.path)
                self.calls[message.digest] = Call(message.work, message.function, self.surrounding.usual)
            elif isinstance(message, Drop):
                for _ in range(message.count):
                    self.queue.pop()
                self.epoch = message.epoch
            elif isinstance(message, Hold):
                self.surrounding.hold(message.cpus, message.variables)
            elif isinstance(message, Free):
                for ref in message.refs:
                    self.lent.pop(ref.uri, None)
                self.arena.trim(time.monotonic())

    def _claimed(self) -> bool:
        """Take the claim of the next order; False when no order is left."""
        while self.queue:
            if self.claim is None:
                try:
                    taken = os.read(self.claims, protocol.CLAIM)
                except BlockingIOError:
                    self._receive()  # the claims were taken back: a Drop is on its way
                    continue
                if not taken:
                    raise EOFError
                self.claim = int.from_bytes(taken, "little")
            if self.claim == self.epoch:
                self.claim = None
                return True
            self._receive()
        return False

    # -- attempts ----------------------------------------------------------------------------------------------------

    def _attempt(self, order: Order) -> None:
        begun, start = time.time(), time.monotonic()
        self.stage.begin(order, begun)
        call = self.calls[order.work]
        if order.arguments.buffers or order.inputs:
            self.open.update((ref.uri, ref) for ref in refs(order))
        outcome: Payload | Failure
        try:
            self.current = order
            outcome = call.run(order, self.arena, self.surrounding, self._on_release)
        except Stopped:
            outcome = Failure(CANCELLED, "stopped")
        self.current = None
        surrounding = self.surrounding
        if os.getpid() != surrounding.pid:
            os._exit(0)  # a child that the task forked, and that came back from it
        try:
            surrounding.restore()
            stdout, stderr = surrounding.collect(order.task, order.attempt)
        except OSError as raised:
            stdout = stderr = ""
            outcome = Failure(USER, f"what the task did around itself cannot be put right: {raised}")
        if isinstance(outcome, Failure):
            outcome = current.judged(outcome, order.task, order.attempt)
            hint = "; ".join(filter(None, (outcome.hint, surrounding.full_disk())))
            outcome = msgspec.structs.replace(outcome, stdout=stdout, stderr=stderr, hint=hint)
        else:
            self.lent.update((ref.uri, ref) for ref in outcome.buffers)
        used = resource.getrusage(resource.RUSAGE_SELF)
        before, self.used = self.used, used
        cpu, memory = call.measured or (
            used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
            used.ru_maxrss * 1024,
        )
        status = outcome.exit if isinstance(outcome, Failure) else 0
        self.stage.end(
            Ended(order.task, order.attempt, outcome, Usage(begun, time.monotonic() - start, cpu, memory, status))
        )
        if len(self.open) > len(self.kept):
            held = tuple(ref for uri, ref in self.open.items() if uri not in self.kept)
            self.kept.update(ref.uri for ref in held)
            self.stage.add(Kept(held))

    def _on_release(self, ref: Ref) -> None:
        # Runs wherever the collector does: it may only append.
        self.open.pop(ref.uri, None)
        if ref.uri in self.kept:
            self.kept.discard(ref.uri)
            self.stage.add(Released((ref,)))

    def _running(self) -> tuple[int, int]:
        order = self.current
        return (0, 0) if order is None else (order.task, order.attempt)

    def _on_word(self, number: int, frame: object) -> None:
        """The driver has something to say about the attempt that the word names, which may be over by now."""
        try:
            words = os.read(self.words, protocol.WORDS)
        except BlockingIOError:
            return
        for kind, *named in protocol.words(words):
            order = self.current
            if order is None or named != [order.task, order.attempt]:
                continue
            call = self.calls[order.work]
            if kind != protocol.STOP:
                current.tell(order.task, order.attempt, kind)
                if call.waiting:
                    kernel.signal_others(signal.SIGUSR1)
            elif call.waiting:
                call.stopped = True  # the command gets the signal itself, and has its time to end
            else:
                raise Stopped


def _be_a_child() -> None:
    for number in _TELLING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TELLING)


class _Outbox:
    """Results on their way out, sent in company where attempts are short, and never late."""

    def __init__(self, frames: socket.socket) -> None:
        self.frames = frames
        self.reports: deque[protocol.Report] = deque()
        self.lock = threading.Lock()
        self.alarm = threading.Lock()
        self.dozing = False
        self.flushed = 0.0
        self.begun: tuple[Order, float] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self.alarm.acquire()
        threading.Thread(target=self._watch, name="heald-watch", daemon=True).start()

    def begin(self, order: Order, now: float) -> None:
        """An attempt begins."""
        if self.reports and now - self.flushed > _LINGER:
            self.flush()
        self.begun = (order, now)
        if self.dozing:
            self.dozing = False
            self.alarm.release()

    def end(self, report: Ended) -> None:
        """It is over."""
        self.begun = None
        self.add(report)

    def add(self, report: protocol.Report) -> None:
        """Send this with the next results."""
        if not self.reports:
            self.flushed = time.time()
        self.reports.append(report)

    def flush(self) -> None:
        """Send what there is."""
        with self.lock:
            # Others may append meanwhile: take what is there, by steps that cannot be torn.
            reports = [self.reports.popleft() for _ in range(len(self.reports))]
            if reports:
                self.frames.sendall(protocol.frame(reports))

    def _watch(self) -> None:
        told: Order | None = None
        while True:
            self.dozing = True
            self.alarm.acquire()
            time.sleep(_WATCH)
            begun = self.begun
            if begun is not None and begun[0] is not told:
                told = begun[0]
                self.add(Began(told.task, told.attempt, begun[1]))
            try:
                self.flush()
            except OSError:
                return  # the driver is gone, and the main thread finds out as well

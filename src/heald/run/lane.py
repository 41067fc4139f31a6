"""The driver's end of one worker: orders out, reports in, and what is still under way there.

Every method runs in the engine's thread, except `freed`.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from heald.core.event import Failure
from heald.core.placement import Lease
from heald.core.ref import Ref
from heald.run import log, protocol
from heald.run.attempt import refs
from heald.run.protocol import CLAIM, EPOCHS, Define, Drop, Ended, Free, Hold, Order, Released, claim

if TYPE_CHECKING:
    from heald.run.selector import Selector

_READ = 1 << 16


class Lane:
    """One worker: `fifo` holds the orders sent and not over, in order; the worker runs them one after another."""

    def __init__(self, number: int, selector: Selector, define: Callable[[bytes], Define], name: str = "") -> None:
        self.number = number
        self.name = name or f"worker-{number}"
        self.pid = 0
        self.lease: Lease | None = None
        self.fifo: deque[Order] = deque()
        self.verdicts: dict[tuple[int, int], Failure] = {}  # why the driver stopped an attempt
        self.long = False  # the order at the head has been running for a while
        self.stopping = False
        self.ahead = 0.0  # seconds of expected work in `fifo`
        self.deep = True
        self.asked = False
        self._selector = selector
        self._define = define
        self._defined: dict[bytes, Define] = {}
        self._hold = Hold((), {})
        self.served = False
        self._last: Order | None = None  # the order that ended last
        self._held: dict[str, Ref] = {}
        self._freed: deque[Ref] = deque()
        self.lent = 0  # regions that the worker wrote and the driver has not given back
        self._out = bytearray()
        self._frames = protocol.Frames()
        self._buffer = memoryview(bytearray(_READ))  # kept: a new one each time would be slow to get
        self._epoch = 0
        self._socket, self._theirs = socket.socketpair()
        for end in (self._socket, self._theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._socket.setblocking(False)
        self._claims, self._claims_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._words_theirs, self._words = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closed = False

    def descriptors(self) -> list[int]:
        """What the worker gets: frames, claims, words."""
        return [self._theirs.fileno(), self._claims, self._words_theirs]

    def handed_over(self) -> None:
        """The worker has its descriptors: close ours of them, so that its death closes the last."""
        if self._theirs.fileno() >= 0:
            self._theirs.close()
            os.close(self._words_theirs)

    # -- out ---------------------------------------------------------------------------------------------------------

    def hold(self, hold: Hold) -> None:
        """From now on the worker has this."""
        if hold is not self._hold and hold != self._hold:
            self._hold = hold
            self._write(protocol.frame([hold]))

    def send(self, orders: list[Order]) -> None:
        """Queue orders at the worker."""
        messages: list[protocol.Instruction] = []
        for digest in {order.work for order in orders}:
            if self._defined.get(digest) is not (define := self._define(digest)):
                messages.append(define)
                self._defined[digest] = define
        if self._freed:
            messages.append(self._free())
        messages.extend(orders)
        # Claims first: a worker that sees an order must find its claim.
        os.write(self._claims_out, claim(self._epoch) * len(orders))
        self.fifo.extend(orders)
        self._write(protocol.frame(messages))

    def take_back(self, keep: int = 0) -> list[Order]:
        """Orders that had not been started, the last ones, taken back; `keep` of the unstarted stay."""
        unclaimed = self._unclaimed()
        if not unclaimed:
            return []
        taken = max(0, unclaimed - keep)
        self._epoch = (self._epoch + 1) % EPOCHS
        if unclaimed - taken:
            os.write(self._claims_out, claim(self._epoch) * (unclaimed - taken))
        self._write(protocol.frame([Drop(taken, self._epoch)]))
        return [self.fifo.pop() for _ in range(taken)][::-1]

    def _unclaimed(self) -> int:
        try:
            return len(os.read(self._claims, 1 << 16)) // CLAIM
        except BlockingIOError:
            return 0

    def stop(self, order: Order, tell: Callable[[int, int], None]) -> None:
        """Ask the attempt, which runs, to end; `tell(worker, signal)` sends the signal."""
        self.stopping = True
        self._say(protocol.STOP, order)
        tell(self.number, signal.SIGTERM)

    def warn(self, order: Order, why: bytes, tell: Callable[[int, int], None]) -> None:
        """Say to the attempt, which runs, that its time ends; `tell(worker, signal)` sends the signal."""
        self._say(why, order)
        tell(self.number, signal.SIGUSR1)

    def _say(self, kind: bytes, order: Order) -> None:
        try:
            os.write(self._words, protocol.word(kind, order.task, order.attempt))
        except BlockingIOError:
            pass  # full of words that nobody reads: the grace will run out

    def freed(self, ref: Ref) -> None:
        """The driver needs this region no more. Called by the collector, in any thread."""
        self._freed.append(ref)

    def _free(self) -> Free:
        refs = tuple(self._freed.popleft() for _ in range(len(self._freed)))
        self.lent -= len(refs)
        return Free(refs)

    @property
    def needed(self) -> bool:
        """Whether the driver still needs something that the worker wrote."""
        return self.lent > len(self._freed)

    def _write(self, data: bytes) -> None:
        if self._closed:
            return
        if not self._out:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # the worker is gone; the spawner says so
            if sent == len(data):
                return
            data = data[sent:]
            self._selector.on_writable(self._socket, self.write_on)
        self._out += data

    def write_on(self) -> None:
        """Send what had no room before."""
        try:
            sent = self._socket.send(memoryview(self._out)[: 1 << 20])
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._out)
        del self._out[:sent]
        if not self._out:
            self._selector.on_writable(self._socket, None)

    # -- in ----------------------------------------------------------------------------------------------------------

    def listen(self, heard: Callable[[], None]) -> None:
        """Have `heard` called when the worker reports."""
        self._selector.on_readable(self._socket, heard)

    def reports(self) -> Iterable[protocol.Report]:
        """What the worker reported since the last call; orders that are over have left `fifo`."""
        while not self._closed:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:
                size = 0
            if not size:
                self._selector.forget(self._socket)
                return
            for body in self._frames.feed(self._buffer[:size]):
                for report in protocol.reports(body):
                    self._note(report)
                    yield report
            if size < _READ:
                return

    def _note(self, report: protocol.Report) -> None:
        if isinstance(report, Ended):
            head = self._last = self.fifo.popleft()
            self.served = True
            self.long = False
            if (head.task, head.attempt) != (report.task, report.attempt):
                raise RuntimeError(f"{self.name} ended task {report.task}, not {head.task}")
        elif isinstance(report, Released):
            for ref in report.refs:
                self._held.pop(ref.uri, None)
        elif isinstance(report, protocol.Kept):
            # The worker still maps these: hold on to the very objects that own the space.
            assert self._last is not None
            owned = {ref.uri: ref for ref in refs(self._last)}
            self._held.update((ref.uri, owned[ref.uri]) for ref in report.refs if ref.uri in owned)

    @property
    def last(self) -> Order:
        """The order that ended last."""
        assert self._last is not None
        return self._last

    def with_logs(self, failure: Failure, order: Order, logs: Path) -> Failure:
        """The failure of the order under which the worker died, with what it had printed."""
        paths = ["", ""]
        for place, stream in enumerate(("out", "err")):
            printed = logs / f"{self.name}.{stream}"
            if printed.exists() and printed.stat().st_size:
                target = log.path(logs, order.task, order.attempt, stream)
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    paths[place] = str(printed.rename(target))
                except OSError:  # the disk is full
                    paths[place] = str(printed)
        return failure.with_logs(*paths)

    def died(self) -> tuple[Order | None, list[Order]]:
        """The order that was running when the worker died, if any, and those to be run elsewhere."""
        unclaimed = self._unclaimed()
        orders = list(self.fifo)
        self.fifo.clear()
        claimed = len(orders) - unclaimed
        if claimed <= 0:
            return None, orders
        return orders[claimed - 1], orders[: claimed - 1] + orders[claimed:]

    def close(self) -> None:
        """Let go of the worker: an idle one ends by itself."""
        if not self._closed:
            self._closed = True
            self._held.clear()
            self._last = None
            self._selector.forget(self._socket)
            self._socket.close()
            self.handed_over()
            os.close(self._claims)
            os.close(self._claims_out)
            os.close(self._words)

"""The engine: one thread that owns the graph, and does what it decides.

Other threads leave messages in its inbox; workers, spawners and timers wake it. In each turn it takes in what has
happened, sends out what can run, writes the journal, and only then tells futures: what a user has seen is on disk.
Nothing else reads or writes the graph, so there are no locks around it.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from heald.core.errors import HealdError, JournalError, UsageError
from heald.core.event import (
    Cancelled,
    Due,
    Failure,
    Finished,
    Placed,
    Retried,
    Returned,
    Started,
    Submitted,
    TaskEvent,
    Usage,
)
from heald.core.graph import Graph, Node, Pause, Ready, Settle, Withdraw
from heald.core.ref import Ref
from heald.core.retry import CANCELLED, REQUEUED, RESULT
from heald.core.state import State
from heald.core.task import FOREIGN, JOIN, Payload, Task, Work
from heald.data.arena import Arena
from heald.data.payload import unpack
from heald.run.function import folders
from heald.run.future import Future
from heald.run.hook import Hook, judged
from heald.run.inbox import Inbox
from heald.run.outcome import Live
from heald.run.protocol import Define, Order
from heald.run.route import Routes
from heald.run.timer import Timers
from heald.run.value import payload_of

_TURN = 2000  # messages taken from the inbox before workers are looked at again
_AGAIN = 1.0  # seconds until a journal that could not be written is tried again
_TRIM = 10.0  # seconds between two looks at shared memory that large values have left
_NONE_GIVEN: Mapping[int, Any] = {}


class Engine(Inbox):
    """Runs tasks until it is closed. `pools` makes what carries attempts out, by label, the default first."""

    def __init__(
        self,
        pools: Callable[[Engine], Mapping[str, Any]],
        folder: Path,
        *,
        recorder: Any = None,
        limit: int = 1_000_000,
    ) -> None:
        super().__init__(limit)
        self.arena = Arena()
        self.run = folder
        self.logs = folder / "logs"
        self.recorder = recorder
        self.functions: dict[bytes, tuple[Callable[..., Any], Define]] = {}
        self.path, self._path = sys.path[:], folders()  # where this process finds modules; and as workers are told
        self.calls: dict[int, tuple[Sequence[Any], Mapping[str, Any]]] = {}  # arguments that stay in this process
        self.hooks: dict[bytes, Hook] = {}
        self.promised: dict[int, Sequence[Any]] = {}  # files that tasks will write
        self.memoiser: Any = None
        self.control: Any = None
        self.turned: list[Callable[[bool], None]] = []  # told after each turn whether all that happened is on record
        self.renewed: dict[int, Future[Any]] = {}  # tasks that were run again: that end counts from then on
        self.ids = itertools.count(1)
        self._halted = False  # no attempts are begun any more
        self._then: Callable[[], None] | None = None  # to be called when none runs any more
        self._former: dict[int, str] = {}  # tasks to be placed that ran under a former process, and on which worker
        self._graph = Graph()
        self._timers = Timers()
        self._settled: list[tuple[Future[Any], Any, State]] = []
        self._now = time.time()
        self.unwritten: JournalError | None = None  # why the journal lacks what happened last
        self._closed = False
        self._trimming = False
        self.pools = dict(pools(self))
        self._routes = Routes(self.pools)
        self._thread = threading.Thread(target=self._main, name="heald-engine", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        try:
            for pool in self.pools.values():
                pool.start()
        except BaseException:
            for pool in self.pools.values():
                pool.close()
            raise
        self._thread.start()

    # -- from any thread ---------------------------------------------------------------------------------------------

    def define(self, digest: bytes, work: Work, function: Callable[..., Any], pickled: bytes) -> None:
        """Make a work known before the first task of it."""
        self.functions[digest] = (function, Define(digest, work, pickled, self._path))
        self._graph.works[digest] = work  # only ever added to: the engine's thread may read meanwhile

    def follow_path(self) -> None:
        """`sys.path` of this process has changed: workers find modules there, too, from now on."""
        self.path, self._path = sys.path[:], folders()
        for digest, (function, define) in list(self.functions.items()):
            self.functions[digest] = function, msgspec.structs.replace(define, path=self._path)

    def cancel(self, task: int, reason: str) -> None:
        """Cancel a task and all that waits for it."""
        self.post(lambda: self._apply(Cancelled(task, self._now, reason)))

    def state(self, task: int) -> State | None:
        """Where a task is; None when it is over or not known. A look in passing: it may be true no more."""
        node = self._graph.nodes.get(task)
        return None if node is None else node.state

    def explain(self, task: int) -> str:
        """Why a task is where it is, in sentences."""
        from heald.core.explain import explain

        routes = self._routes
        return self.ask(lambda: explain(self._graph, task, lambda node: routes.why_not(node, self._now), routes.ahead))

    def decode(self, outcome: Any) -> Any:
        """The value of an outcome."""
        if isinstance(outcome, Live):
            return outcome.value
        return unpack(payload_of(outcome), self.arena, resolve=self.kept_value)

    def kept_value(self, ref: Ref) -> bytearray:
        """The bytes of a large value that an earlier process left in the folder of the run; the caller's to change."""
        if self.recorder is None:
            raise UsageError(f"{ref.uri} cannot be read here")
        return bytearray(self.recorder.folder.get(ref))

    def worker(self, task: int) -> str | None:
        """The name of the worker that runs a task, which prints to files of that name; None when none does."""
        return self.ask(lambda: self._routes.worker(task)) if self.state(task) is State.running else None

    def running(self) -> int:
        """How many attempts run. A look in passing."""
        return sum(bool(lane.fifo) for pool in self.pools.values() for lane in list(pool.dispatch.lanes.values()))

    def close(self, timeout: float = 30.0) -> None:
        """Cancel what is open, end every process, and stop."""
        if self._thread.is_alive():
            self.post(self._begin_to_close)
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise HealdError(f"the engine did not stop within {timeout:g} s")
        if self.unwritten is not None:
            raise self.unwritten from None

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while not self._closed:
                self._turn()
            self._dead = Failure(CANCELLED, "the session was closed")
            self._refuse()  # what came in while it closed
        except BaseException as raised:
            self._die(raised)
        finally:
            for part in (self.control, *self.pools.values(), self.memoiser):
                if part is not None:
                    part.close()
            if self.recorder is not None:
                self._close_recorder()
            self.selector.close()

    def _close_recorder(self) -> None:
        try:
            self.recorder.close()
        except JournalError as raised:
            text = f"the run is over, but its journal lacks the end of it: {raised.message}"
            hint = f"{raised.hint}; then start the script again: what the journal lacks is run again"
            self.unwritten = JournalError(text, hint=hint)

    def _turn(self) -> None:
        selector = self.selector
        selector.asleep = True
        if self._inbox:
            selector.asleep = False
        selector.wait(self._timers.wait, self._set_clock)
        now = self._now
        inbox = self._inbox
        for _ in range(min(len(inbox), _TURN)):
            message = inbox[0]
            if type(message) is tuple:
                self.tally.submitted += 1  # before it leaves the inbox: whoever drains must see it in one or the other
                inbox.popleft()
                self._submitted(*message)
            else:
                inbox.popleft()
                message()
        self._timers.ring()
        for pool in self.pools.values():
            pool.pump(now)
        if self.recorder is not None:
            self._write()
        if self.arena.swollen and not self._trimming:
            self._trimming = True
            self.after(_TRIM, self._trim)
        for act in self.turned:
            act(self.unwritten is None)
        if self._then is not None and self.unwritten is None and not self.at_work():
            then, self._then = self._then, None
            then()
        if self._settled or self._waiters:
            self._tell()

    def _trim(self) -> None:
        self._trimming = False
        self.arena.trim(time.monotonic())

    def _write(self) -> None:
        """Write the journal. When the disk refuses, the run goes on, and what was not written is tried again."""
        try:
            self.recorder.flush()
        except JournalError as raised:
            if self.unwritten is None:
                logging.getLogger("heald").error("the run goes on, and its journal is tried again: %s", raised)
            self.unwritten = raised
            self.after(_AGAIN, lambda: None)
        else:
            self.unwritten = None

    def _set_clock(self) -> None:
        self._now = time.time()

    def _tell(self) -> None:
        settled, self._settled = self._settled, []
        tally = self.tally
        for future, outcome, state in settled:
            tally.count(state)
            future._settle(outcome, "CANCELLED_AND_NOTIFIED" if state is State.cancelled else "FINISHED")
        if self._waiters:
            with self._changed:
                self._changed.notify_all()

    def _die(self, raised: BaseException) -> None:
        """The loop ended by a fault of ours: fail every future, loudly."""
        logging.getLogger("heald").critical("the engine stopped", exc_info=raised)
        self._dead = Failure(
            "",
            f"the engine stopped: {type(raised).__name__}: {raised}",
            hint="this is a fault of heald: please report it",
        )
        self._refuse()

    def _refuse(self) -> None:
        """Settle all that is open: nothing will be run any more."""
        self._tell()  # what was over already keeps its end
        state = "CANCELLED_AND_NOTIFIED" if self._closed else "FINISHED"
        while self._inbox:
            message = self._inbox.popleft()
            if type(message) is tuple:
                message[1]._settle(self._dead, state)
        for node in list(self._graph.nodes.values()):
            node.handle._settle(self._dead, state)
        self._graph.nodes.clear()
        with self._changed:
            self._changed.notify_all()

    def _begin_to_close(self) -> None:
        if self.control is not None:
            self.control.close()
        self.cancel_all("the session was closed")
        self._close_when_quiet(time.monotonic() + max((pool.grace for pool in self.pools.values()), default=0.0))

    def _close_when_quiet(self, deadline: float) -> None:
        if time.monotonic() >= deadline or not any(
            lane.fifo for pool in self.pools.values() for lane in pool.dispatch.lanes.values()
        ):
            self._closed = True
        else:
            self.after(0.02, lambda: self._close_when_quiet(deadline))

    # -- events ------------------------------------------------------------------------------------------------------

    def _submitted(self, task: Task, future: Future[Any], needed: Sequence[Future[Any]]) -> None:
        given = self.outcomes(needed) if needed else _NONE_GIVEN
        earlier = self.recorder.earlier(task.id) if self.recorder is not None else None
        if earlier is None:
            self._apply(Submitted(task.id, self._now, task), given, future)
        else:
            self._recall(task, given, future, earlier)

    def outcomes(self, futures: Iterable[Future[Any]]) -> dict[int, Any]:
        """What became of those whose tasks are over, by task; some of the futures may not have been told yet."""
        nodes = self._graph.nodes
        over = {one.task: self.renewed.get(one.task, one)._outcome for one in futures if one.task not in nodes}
        over.update((told.task, outcome) for told, outcome, _ in self._settled if told.task in over)
        return over

    def again(self, task: Task, given: Mapping[int, Any], earlier: Any) -> bool:
        """Run a task that is over once more; its future keeps the end that it was told. False while an attempt ends."""
        if self._routes.worker(task.id) is not None:
            return False
        future = self.renewed[task.id] = Future(self, task.id, self._graph.works[task.work].name)
        self.recorder.record(Retried(task.id, self._now))
        self.tally.submitted += 1
        self._recall(task, given, future, earlier)
        return True

    def _recall(self, task: Task, given: Mapping[int, Any], future: Future[Any], earlier: Any) -> None:
        """Take in a task that the journal knows: with its end when that holds, or to be run again."""
        if earlier.afresh and self.memoiser is not None:
            self.memoiser.renew(task.id)
        submitted = Submitted(task.id, self._now, task)
        actions = self._graph.apply(submitted, given, future)
        node = self._graph.nodes.get(task.id)
        if node is not None and earlier.outcome is not None:  # the journal says so already
            actions = self._graph.apply(Finished(task.id, self._now, node.attempt, earlier.outcome, recalled=True))
            self.tally.recalled += not isinstance(earlier.outcome, Failure)
        else:
            self.recorder.record(submitted)
            if node is not None:
                node.attempt = earlier.attempt
                if earlier.worker:
                    self._former[task.id] = earlier.worker
        for action in actions:
            self._act(action)

    def _apply(
        self, happened: TaskEvent, given: Mapping[int, Any] = _NONE_GIVEN, future: Future[Any] | None = None
    ) -> None:
        if self.recorder is not None:
            self.recorder.record(happened)
        for action in self._graph.apply(happened, given, future):
            self._act(action)

    def _act(self, action: Any) -> None:
        if isinstance(action, Ready):
            self._ready(self._graph.nodes[action.task])
        elif isinstance(action, Settle):
            self.calls.pop(action.task, None)
            self.promised.pop(action.task, None)
            if self.memoiser is not None:
                self.memoiser.settled(action.task, action.outcome)
            self._settled.append((action.handle, action.outcome, action.state))
        elif isinstance(action, Withdraw):
            self._routes.withdraw(action.node)
        elif isinstance(action, Pause):
            task, attempt = action.task, action.attempt
            self.after(action.seconds, lambda: self._apply(Due(task, self._now, attempt)))
        else:
            for pool in self.pools.values():
                pool.cancel(action.task, action.attempt)

    def _ready(self, node: Node) -> None:
        work = node.work
        if work.kind == FOREIGN:
            return  # it ends when its future does
        if work.memo and self.memoiser is not None and self.memoiser.ask(node):
            return
        self.place(node)

    def place(self, node: Node) -> None:
        """Queue a ready task where it can run."""
        pool = self._routes.find(node)
        if isinstance(pool, Failure):
            if node.tries is not None:  # it may ask for more than at first
                text = f"{pool.message}; its last attempt failed: {node.tries.message}"
                pool = msgspec.structs.replace(pool, message=text)
            self._apply(Finished(node.record.id, self._now, node.attempt, pool, recalled=True))
            return
        task, former = node.record.id, self._former.pop(node.record.id, "")
        if not former or not pool.resume(task, node.attempt, former):
            pool.dispatch.push(task, node.needs, node.work.priority, node.depth)

    # -- what pools need of their host -------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since the epoch, at the beginning of this turn."""
        return self._now

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` when that time has passed."""
        self._timers.add(seconds, act)

    def limit(self, label: str, order: Order, walltime: float) -> None:
        """The attempt begins now, and may take so many seconds."""
        pool = self.pools[label]
        self.after(walltime, lambda: pool.expire(order, walltime))

    def definition(self, digest: bytes) -> Define:
        """A work, and its pickled function."""
        return self.functions[digest][1]

    def order(self, task: int, lane: str, label: str) -> Order | None:
        """The order for the next attempt of a ready task, now placed; None when it is not wanted any more."""
        node = self._graph.nodes.get(task)
        if node is None or node.state is not State.ready or self._halted:
            return None
        attempt = node.attempt + 1
        self._apply(Placed(task, self._now, attempt, label, lane))
        record = node.record
        inputs: tuple[Payload, ...] = ()
        if node.got and task not in self.calls:
            try:
                inputs = tuple(map(payload_of, node.inputs))
            except Exception as raised:
                self._apply(Finished(task, self._now, attempt, Failure(RESULT, f"an input cannot travel: {raised}")))
                return None
        return Order(task, attempt, record.work, record.arguments, inputs)

    def resume(self, task: int, attempt: int, lane: str, label: str) -> bytes | None:
        """An attempt of a former process goes on there: the digest of its work; None when it is not wanted any more."""
        node = self._graph.nodes.get(task)
        if node is None or node.state is not State.ready:
            return None
        node.attempt = attempt - 1
        self._apply(Placed(task, self._now, attempt, label, lane))
        return node.record.work

    def place_again(self, tasks: Iterable[int]) -> None:
        """These wait in vain for an attempt of a former process."""
        for node in map(self._graph.nodes.get, tasks):
            if node is not None and node.state is State.ready:
                self.place(node)

    def began(self, order: Order, begun: float, pid: int) -> None:
        """The attempt runs."""
        self._apply(Started(order.task, begun, order.attempt, pid))

    def ended(self, order: Order, outcome: Any, usage: Usage) -> None:
        """The attempt is over."""
        if isinstance(outcome, Failure) and order.work in self.hooks and outcome.kind != REQUEUED:
            outcome = judged(self.hooks[order.work], outcome, order.attempt)
        if self.memoiser is not None:
            self.memoiser.measured(order.task, usage.seconds)
        self._apply(Finished(order.task, self._now, order.attempt, outcome, usage))

    def returned(self, orders: Iterable[Order]) -> None:
        """These were placed and not run."""
        for order in orders:
            self._apply(Returned(order.task, self._now, order.attempt))

    def happened(self, event: TaskEvent, given: Mapping[int, Any] = _NONE_GIVEN) -> None:
        """Something else happened to a task: a join expanded, a value was recalled."""
        self._apply(event, given)

    def halt(self, then: Callable[[], None] | None) -> None:
        """Begin no more attempts, and call `then` when those that run are over and on record.

        Tasks that wait stay as they are, and so do their futures.
        """
        self._halted, self._then = True, then
        self._take_back()

    def _take_back(self) -> None:
        for pool in self.pools.values():
            for lane in list(pool.dispatch.lanes.values()):
                pool.dispatch.take_back(lane)

    def at_work(self) -> list[int]:
        """The tasks of which an attempt is under way; not the bodies of joins, which may wait for others."""
        pools = [pool for label, pool in self.pools.items() if label != JOIN]
        return [order.task for pool in pools for lane in pool.dispatch.lanes.values() for order in lane.fifo]

    def cancel_all(self, reason: str) -> None:
        """Cancel every task that is not over."""
        for task in list(self._graph.nodes):
            self._apply(Cancelled(task, self._now, reason))

    def cancel_waiting(self) -> None:
        """Cancel the tasks that do not run."""
        self._take_back()
        for task, node in list(self._graph.nodes.items()):
            if node.state in (State.waiting, State.ready):
                self._apply(Cancelled(task, self._now, "the executor was shut down"))

    def node(self, task: int) -> Node | None:
        """The node of a task that is not over."""
        return self._graph.nodes.get(task)

    def broken(self, label: str, reason: str) -> None:
        """An executor can run nothing any more: fail what was meant for it."""
        failure = self._routes.close(label, reason)
        for task, node in list(self._graph.nodes.items()):
            if node.state in (State.ready, State.placed, State.running) and self._routes.find(node) is failure:
                waits = node.state is State.ready
                self._apply(Finished(task, self._now, node.attempt, failure, recalled=waits))

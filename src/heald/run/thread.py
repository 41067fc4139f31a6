"""ThreadExecutor, and the threads that run the bodies of joins: tasks that stay in this process."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from heald.core.errors import ConfigurationError, NotPicklable
from heald.core.event import Expanded, Failure, TaskEvent, Usage
from heald.core.placement import Lease, Node
from heald.core.resources import Resources
from heald.core.retry import USER
from heald.core.task import JOIN, Payload
from heald.data.payload import Placeholder, pack
from heald.run import dispatch
from heald.run.dispatch import Dispatch
from heald.run.executor import Executor
from heald.run.future import Future
from heald.run.outcome import Live, failure
from heald.run.protocol import Define, Order

_JOINS = 512  # bodies of joins at the same time: one that waits for futures holds its thread
_LONG = 0.005  # seconds after which an attempt is said to run


class ThreadExecutor(Executor):
    """Runs tasks in threads of this process: for work that waits, and for values that cannot travel.

    Arguments and values are handed over as they are, without a copy. A walltime is an error here, since threads cannot
    be stopped, and so are ranks above 1, which are processes. `workers`: threads, each for one single-core task at a
    time.

    >>> with ThreadExecutor(workers=2) as executor:
    ...     list(executor.map(abs, [-1, -2]))
    [1, 2]
    """

    def __init__(self, workers: int = 8, *, label: str = "thread") -> None:
        super().__init__(label)
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ConfigurationError(f"workers={workers!r}: must be a whole number, at least 1")
        self.workers = workers

    def pool(self, host: Host) -> ThreadPool:
        """What carries its attempts out."""
        return ThreadPool(self.label, self.workers, host)

    def _arguments(self) -> dict[str, Any]:
        return {"workers": self.workers, "label": self.label}


class Host(dispatch.Host, Protocol):
    """What threads need of the engine."""

    arena: Any
    calls: dict[int, tuple[Sequence[Any], Mapping[str, Any]]]
    functions: dict[bytes, tuple[Callable[..., Any], Define]]

    def post(self, act: Callable[[], None]) -> None:
        """Have `act` called in the engine's thread."""

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` when that time has passed."""

    def began(self, order: Order, time: float, pid: int) -> None:
        """The attempt runs."""

    def ended(self, order: Order, outcome: Any, usage: Usage) -> None:
        """The attempt is over."""

    def happened(self, event: TaskEvent, given: Mapping[int, Any]) -> None:
        """The join expanded."""

    def definition(self, digest: bytes) -> Define:
        """A work, and its pickled function."""

    def outcomes(self, futures: Iterable[Future[Any]]) -> dict[int, Any]:
        """What became of those whose tasks are over."""

    def decode(self, outcome: Any) -> Any:
        """The value."""

    def node(self, task: int) -> Any:
        """The node of a task that is not over."""

    def now(self) -> float:
        """Seconds since the epoch."""


class _Lane:
    """Room for one attempt."""

    deep = False
    asked = False
    long = False
    stopping = False

    def __init__(self, name: str, send: Callable[[_Lane, Order], None]) -> None:
        self.name = name
        self.lease: Lease | None = None
        self.fifo: deque[Order] = deque()
        self.ahead = 0.0
        self.begun = 0.0  # when a thread took up the order at the head
        self._send = send

    def send(self, orders: list[Order]) -> None:
        self.begun = 0.0
        self.fifo.extend(orders)
        for order in orders:
            self._send(self, order)

    def take_back(self, keep: int = 0) -> list[Order]:
        return []


class ThreadPool:
    """Threads that run attempts in this process."""

    grace = 0.0

    def __init__(self, label: str, threads: int, host: Host) -> None:
        self.label = label
        self._host = host
        self._names = itertools.count(1)
        self._queue: queue.SimpleQueue[tuple[_Lane, Order] | None] = queue.SimpleQueue()
        self._threads = 0
        node = Node("threads", tuple(range(threads)))
        self.dispatch = Dispatch(label, [node], host, lambda lane, lease: None, lambda lease: self._open_lane())

    def start(self) -> None:
        """Start the first thread; the others come with the tasks.

        One must be there when the script ends: Python 3.12 starts none from then on, and tasks are run to their end.
        """
        self._begin_thread(1)

    def pump(self, now: float) -> None:
        """Send what can be sent."""
        self.dispatch.pump(now)

    def unfit(self, needs: Resources) -> str | None:
        """Why it could never run here, or None when it could."""
        return self.dispatch.placement.unfit(needs)

    def resume(self, task: int, attempt: int, worker: str) -> bool:
        """Whether an attempt of a former process may run on here: never, for its workers ended with it."""
        return False

    def _open_lane(self) -> _Lane:
        number = next(self._names)
        if number > 1:
            try:
                self._begin_thread(number)
            except RuntimeError:  # the script has ended: those that there are do it
                pass
        return _Lane(f"heald-{self.label}-{number}", self._send)

    def _begin_thread(self, number: int) -> None:
        threading.Thread(target=self._serve, name=f"heald-{self.label}-{number}", daemon=True).start()
        self._threads += 1

    def _serve(self) -> None:
        while (sent := self._queue.get()) is not None:
            lane, order = sent
            lane.begun = time.time()
            self._run(lane, order)

    def _send(self, lane: _Lane, order: Order) -> None:
        self._queue.put((lane, order))
        self._watch(lane, order)

    def _watch(self, lane: _Lane, order: Order) -> None:
        self._host.after(_LONG, lambda: self._tell(lane, order))

    def _tell(self, lane: _Lane, order: Order) -> None:
        """Say that the attempt runs, if it still does: most are over before anybody could ask."""
        if lane.fifo and lane.fifo[0] is order:
            if lane.begun:
                self._host.began(order, lane.begun, os.getpid())
            else:
                self._watch(lane, order)

    def _run(self, lane: _Lane, order: Order) -> None:
        cpu = time.thread_time()
        outcome = self._call(order)
        usage = Usage(lane.begun, time.time() - lane.begun, time.thread_time() - cpu, 0, 0)
        self._host.post(lambda: self._ended(lane, order, outcome, usage))

    def _call(self, order: Order) -> Any:
        host = self._host
        try:
            if order.task in host.calls:
                args, kwargs = self._live_arguments(order)
            else:
                args, kwargs = host.decode(_filled(order))
            value = host.functions[order.work][0](*args, **kwargs)
            if host.definition(order.work).work.kind == JOIN:
                return self._expansion(order, value)
        except BaseException as raised:
            return failure(raised)
        return Live(value)

    def _live_arguments(self, order: Order) -> tuple[Any, Any]:
        args, kwargs = self._host.calls[order.task]
        node = self._host.node(order.task)
        if node is None or not node.got:
            return args, kwargs
        return replaced((args, kwargs), lambda future: future.result())  # type: ignore[no-any-return]

    def _expansion(self, order: Order, value: Any) -> Any:
        """What a join's body returned: an event when there are futures in it, else the value."""
        if isinstance(value, Future) and type(value).__reduce__ is Future.__reduce__:
            return order.attempt, None, [value]
        try:
            payload, placeholders = pack(value, self._host.arena, subject="what the join returned")
        except NotPicklable:
            from heald.run.foreign import adopted

            found = adopted(value, self._host)
            if found is value:
                raise
            return self._expansion(order, found)
        return (order.attempt, payload, placeholders) if placeholders else payload

    def _ended(self, lane: _Lane, order: Order, outcome: Any, usage: Usage) -> None:
        lane.fifo.popleft()
        if isinstance(outcome, tuple):
            self._expand(order, *outcome)
        else:
            self._host.ended(order, outcome, usage)
        self.dispatch.ended(lane, order, usage, self._host.now())

    def _expand(self, order: Order, attempt: int, shape: Payload | None, futures: list[Placeholder]) -> None:
        children: list[Any] = futures
        strangers = [one for one in children if one._owner is not self._host]
        if strangers:
            text = f"it returned {strangers[0]!r}, which belongs to another session"
            self._host.ended(order, Failure(USER, text, hint="return its result() instead"), Usage())
            return
        host = self._host
        tasks = tuple(one.task for one in children)
        host.happened(Expanded(order.task, host.now(), attempt, tasks, shape), host.outcomes(children))

    def cancel(self, task: int, attempt: int) -> None:
        """A thread cannot be stopped: what it returns is ignored."""

    def expire(self, order: Order, walltime: float) -> None:
        """A thread cannot be stopped."""

    def close(self) -> None:
        """Let the threads end once they are idle."""
        for _ in range(self._threads):
            self._queue.put(None)


def _filled(order: Order) -> Payload:
    return Payload(order.arguments.data, order.arguments.buffers, order.inputs)


def replaced(value: Any, fill: Callable[[Any], Any]) -> Any:
    """`value` with every future replaced, whoever made it, in its lists, tuples, dicts, sets and dataclasses.

    Parts without one are kept as they are.

    >>> replaced([1, (2, {"a": 3})], lambda future: None)
    [1, (2, {'a': 3})]
    """
    if isinstance(value, concurrent.futures.Future):
        return fill(value)
    if isinstance(value, list | tuple | set | frozenset):
        parts = [replaced(part, fill) for part in value]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        pairs = [(replaced(key, fill), replaced(part, fill)) for key, part in value.items()]
        if all(new is old and part is value[old] for (new, part), old in zip(pairs, value, strict=True)):
            return value
        return dict(pairs)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        new = {name: replaced(part, fill) for name, part in fields.items()}
        changed = {name: part for name, part in new.items() if part is not fields[name]}
        return dataclasses.replace(value, **changed) if changed else value
    return value


def futures_in(value: Any) -> list[Future[Any]]:
    """The futures in `value`, each once."""
    found: dict[Future[Any], None] = {}

    def keep(future: Future[Any]) -> Future[Any]:
        found[future] = None
        return future

    try:
        replaced(value, keep)
    except RecursionError:  # it contains itself, or is nested too deeply to be looked into
        pass
    return list(found)

"""The caller's handle on a task: a `concurrent.futures.Future` that is small, awaitable, and stands for its value.

A future may stand anywhere in the arguments of another task, which then waits for it. What the task returned stays
pickled until somebody asks for it, in the thread that asks: the engine never opens users' values.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, as_completed, wait
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from heald.core.errors import HealdError, ResultError, UsageError
from heald.core.event import Failure
from heald.core.graph import Joined
from heald.core.task import Payload
from heald.data.payload import Placeholder, gap
from heald.run.outcome import Live, error

if TYPE_CHECKING:
    from heald.core.state import State

__all__ = ["FIRST_COMPLETED", "Future", "Owner", "as_completed", "wait"]

T = TypeVar("T")

_PENDING, _RUNNING, _CANCELLED, _FINISHED = "PENDING", "RUNNING", "CANCELLED_AND_NOTIFIED", "FINISHED"
# One lock for the moments in which a future changes state without a condition of its own: making a Condition for
# each costs more than all the rest of a small task, and nearly none is ever waited on.
_guard = threading.Lock()
_UNSET = object()


class _Condition(threading.Condition):
    """A condition, and who waits for many futures at once."""

    def __init__(self) -> None:
        super().__init__()
        self.waiters: list[Any] = []


class _Raised:
    """The exception that a future raises, made once."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception


class Owner(Protocol):
    """Whoever runs the task behind a future."""

    @property
    def logs(self) -> Path | None:
        """Where output is kept."""

    def cancel(self, task: int, reason: str) -> None:
        """Stop the task and all that waits for it."""

    def decode(self, outcome: Payload | Joined) -> Any:
        """The value."""

    def check_wait(self) -> None:
        """Raise when waiting in this thread would never end."""

    def state(self, task: int) -> State | None:
        """Where the task is, or None when it is over."""

    def worker(self, task: int) -> str | None:
        """The name of the worker that runs the task now."""

    def explain(self, task: int) -> str:
        """Why it is where it is."""


class Future(concurrent.futures.Future[T], Placeholder, Generic[T]):
    """The result of a task, now or later. All that `concurrent.futures` and `asyncio` do with futures works.

    `task` is the id of the task in its run.
    """

    __slots__ = ("_callbacks", "_lazy_condition", "_outcome", "_owner", "_state", "_value", "name", "task")

    def __init__(self, owner: Owner, task: int, name: str) -> None:
        # The constructor of the base is left out on purpose: it makes a Condition and two lists.
        self._owner = owner
        self.task = task
        self.name = name
        self._state = _PENDING
        self._outcome: Any = None
        self._value: Any = _UNSET
        self._callbacks: list[Callable[[Any], object]] | None = None
        self._lazy_condition: _Condition | None = None

    # -- what the functions of concurrent.futures reach into ----------------------------------------------------------

    if not TYPE_CHECKING:  # to a type checker they are the attributes of the base

        @property
        def _condition(self) -> _Condition:
            condition = self._lazy_condition
            if condition is None:
                with _guard:
                    condition = self._lazy_condition
                    if condition is None:
                        condition = self._lazy_condition = _Condition()
            return condition

        @property
        def _waiters(self) -> list[Any]:
            return self._condition.waiters

        @property
        def _exception(self) -> BaseException | None:
            return self.exception(0) if self._state == _FINISHED else None

        @property
        def _result(self) -> Any:
            return None if self._value is _UNSET or type(self._value) is _Raised else self._value

    # -- asking -------------------------------------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether it is over, in whatever way."""
        return self._state in (_FINISHED, _CANCELLED)

    def running(self) -> bool:
        """Whether it runs now."""
        return (
            self._state == _PENDING and (state := self._owner.state(self.task)) is not None and state.name == "running"
        )

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state == _CANCELLED

    def result(self, timeout: float | None = None) -> T:
        """The value, waiting for it for `timeout` seconds at most.

        Raises what the task raised, a TaskError when it failed otherwise, TimeoutError, or CancelledError.
        """
        if self._state != _FINISHED:
            self._wait(timeout)
        value = self._value
        if value is _UNSET or type(value) is _Raised:
            value = self._decode()
        return value  # type: ignore[no-any-return]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task failed with, or None when it did well. Waits and raises as `result` does."""
        if self._state != _FINISHED:
            self._wait(timeout)
        if self._value is _UNSET or type(self._value) is _Raised:
            try:
                self._decode()
            except BaseException as failed:
                return failed
        return None

    def _wait(self, timeout: float | None) -> None:
        if self._state == _PENDING:
            self._owner.check_wait()
            with self._condition:
                if self._state == _PENDING:
                    self._condition.wait(timeout)
        if self._state == _PENDING:
            raise TimeoutError(f"{self.name}#{self.task} is not over after {timeout} seconds")
        if self._state == _CANCELLED:
            raise self._error()

    def _decode(self) -> T:
        outcome = self._outcome
        if isinstance(outcome, Failure):
            raise self._error()
        if isinstance(outcome, Live):
            value = self._part(outcome) if outcome.lazy else outcome.value
        else:
            try:
                value = self._owner.decode(outcome)
            except Exception as raised:
                raise self._unreadable(raised) from raised
        with _guard:
            if self._value is _UNSET:
                self._value = value
        return self._value  # type: ignore[no-any-return]

    def _part(self, outcome: Live) -> Any:
        try:
            return outcome.value()
        except Exception as raised:
            raised.add_note(f"when {self.name} was taken from what task {self.whole.name}#{self.task} returned")
            raise

    def _unreadable(self, raised: Exception) -> ResultError:
        reason, hint = f"{type(raised).__name__}: {raised}", "its class must be importable, and load what it pickled"
        if isinstance(raised, HealdError):  # not what the value does, but where it is kept
            reason, hint = raised.message, raised.hint
        text = f"{self.name}#{self.task}: the value cannot be unpickled here: {reason}"
        return ResultError(text, hint=hint, task=self.task, name=self.name)

    def _error(self) -> BaseException:
        if self._value is _UNSET:
            found = _Raised(error(self._outcome, task=self.task, name=self.whole.name, decode=self._owner.decode))
            with _guard:
                if self._value is _UNSET:
                    self._value = found
        assert type(self._value) is _Raised
        return self._value.exception

    # -- telling ------------------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel it, and whatever waits for it: a running attempt is stopped. False when it is over already."""
        if not self._settle(Failure("cancelled", "cancelled by its owner"), _CANCELLED):
            return self._state == _CANCELLED
        self._owner.cancel(self.task, "cancelled by its owner")
        return True

    def _settle(self, outcome: Any, state: str = _FINISHED) -> bool:
        """Make it over; False when it is already."""
        with _guard:
            if self._state != _PENDING:
                return False
            condition = self._lazy_condition
            if condition is None:
                self._outcome = outcome
                self._state = state
        if condition is not None:
            with condition:
                with _guard:  # two may settle it, and a third add a callback, at the same moment
                    if self._state != _PENDING:
                        return False
                    self._outcome = outcome
                    self._state = state
                for waiter in condition.waiters:
                    self._tell(waiter)
                condition.notify_all()
        if self._callbacks is not None:
            self._invoke_callbacks()
        return True

    def _tell(self, waiter: Any) -> None:
        if self._state == _CANCELLED:
            waiter.add_cancelled(self)
        elif isinstance(self._outcome, Failure):
            waiter.add_exception(self)
        else:
            waiter.add_result(self)

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call `fn` with this future when it is over; at once when it is already.

        It is called in the thread that drives the tasks: let it be short, and wait for nothing there.
        """
        with _guard:
            if self._state == _PENDING:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(fn)
                return
        self._call(fn)

    def _invoke_callbacks(self) -> None:
        callbacks, self._callbacks = self._callbacks, None
        for fn in callbacks or ():
            self._call(fn)

    def _call(self, fn: Callable[[Future[T]], object]) -> None:
        try:
            fn(self)
        except KeyboardInterrupt:
            raise
        except BaseException:  # sys.exit() in a callback must not end the engine's thread
            import logging

            logging.getLogger("heald").exception("a callback of %r raised", self)

    def set_running_or_notify_cancel(self) -> bool:
        """Not for users: the engine drives this future."""
        raise UsageError("the state of a heald future is set by its task alone")

    def set_result(self, result: T) -> None:
        """Not for users: the engine drives this future."""
        raise UsageError("the result of a heald future is set by its task alone")

    def set_exception(self, exception: BaseException | None) -> None:
        """Not for users: the engine drives this future."""
        raise UsageError("the exception of a heald future is set by its task alone")

    # -- standing for its value ---------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        return gap(self)

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def __getitem__(self, key: Any) -> Future[Any]:
        """A future of the item `key` of the value."""
        return Part(self, lambda value: value[key], lambda: (getitem, (self, key)), f"{self.name}[{key!r}]")

    __iter__ = None  # by its items it would be one for ever, since nobody knows yet how many the value has

    @property
    def whole(self) -> Future[Any]:
        """The future of the task's whole value: itself, unless it is of a part."""
        return self

    part = ""

    def explain(self) -> str:
        """Why the task is where it is, or how it ended, in sentences."""
        if self.done():
            from heald.core.explain import ended

            return ended(f"{self.name}#{self.task}", self._outcome if isinstance(self._outcome, Failure) else None)
        return self._owner.explain(self.task)

    @property
    def stdout(self) -> Path | None:
        """The file of what the task printed, so far while it runs; None when there is none."""
        return self._log("out")

    @property
    def stderr(self) -> Path | None:
        """The file of what the task printed to standard error, so far while it runs; None when there is none."""
        return self._log("err")

    def _log(self, stream: str) -> Path | None:
        from heald.run.log import current, latest

        logs = self._owner.logs
        if logs is None:
            return None
        worker = None if self.done() else self._owner.worker(self.task)
        return current(logs, worker, stream) if worker is not None else latest(logs, self.task, stream)

    def __repr__(self) -> str:
        state = {_FINISHED: "done", _CANCELLED: "cancelled"}.get(self._state, "pending")
        return f"<heald.Future {self.name}#{self.task} {state}>"


class Part(Future[T]):
    """A future of something that follows from the value of another: an item, a file that the task wrote."""

    __slots__ = ("_reduce", "_whole")

    def __init__(self, whole: Future[Any], part: Callable[[Any], T], reduce: Callable[[], Any], name: str) -> None:
        super().__init__(whole._owner, whole.task, name)
        self._reduce = reduce
        self._whole = whole
        whole.add_done_callback(lambda over: self._follow(over, part))

    @property
    def whole(self) -> Future[Any]:
        """The future of the task's whole value."""
        return self._whole.whole

    @property
    def part(self) -> str:  # type: ignore[override]
        """Which part of the whole it is of."""
        return self.name.removeprefix(self._whole.whole.name)

    def _follow(self, whole: Future[Any], part: Callable[[Any], T]) -> None:
        if whole.cancelled() or isinstance(whole._outcome, Failure):
            self._settle(whole._outcome, whole._state)
        else:
            self._settle(Live(lambda: part(whole.result()), lazy=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduce()  # type: ignore[no-any-return]


class Submission(Future[T]):
    """The future of a task that promised files: `outputs` are futures of them, in order."""

    __slots__ = ("outputs",)

    def __init__(self, owner: Owner, task: int, name: str, files: Sequence[Any]) -> None:
        super().__init__(owner, task, name)
        self.outputs = [Part(self, _constant(file), _after(self, file), f"{self.name}>{file}") for file in files]


def _constant(file: Any) -> Callable[[Any], Any]:
    return lambda _: file


def _after(whole: Future[Any], file: Any) -> Callable[[], Any]:
    return lambda: (second, (whole, file))


def second(_first: Any, value: Any) -> Any:
    """`value`: what a file's future unpickles to, once the task that wrote it is done."""
    return value

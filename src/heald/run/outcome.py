"""How an attempt ended, as a record that travels, and as the exception that its future raises."""

from __future__ import annotations

import functools
import io
import pickle
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from heald.core import retry
from heald.core.errors import (
    CommandFailed,
    CycleError,
    DependencyError,
    OutOfMemory,
    OutputMissing,
    ResultError,
    StagingError,
    TaskCancelled,
    TaskError,
    UsageError,
    WalltimeExceeded,
    WorkerLost,
)
from heald.core.event import Failure
from heald.core.task import Payload
from heald.core.text import legible
from heald.run.log import tail

_DEEPEST = 100  # frames of a traceback that travels


class Live:
    """A value that never left this process; `lazy` when `value` is a function that makes it."""

    __slots__ = ("lazy", "value")

    def __init__(self, value: Any, *, lazy: bool = False) -> None:
        self.value = value
        self.lazy = lazy


_ERRORS: dict[str, type[TaskError]] = {
    retry.WORKER_LOST: WorkerLost,
    retry.OUT_OF_MEMORY: OutOfMemory,
    retry.WALLTIME: WalltimeExceeded,
    retry.RESULT: ResultError,
    retry.DEPENDENCY: DependencyError,
    retry.CANCELLED: TaskCancelled,
    CommandFailed.code: CommandFailed,
    OutputMissing.code: OutputMissing,
}


def failure(raised: BaseException) -> Failure:
    """The record of an exception that a task raised. Its traceback begins where the task's own code does.

    SystemExit is none of a task's own: raised once more by a future, it would end the caller without a word.
    """
    if isinstance(raised, SystemExit):
        hint = "return a value or raise an exception: a task shares its process with others"
        status = raised.code if isinstance(raised.code, int) else 1
        return Failure(retry.USER, f"it called sys.exit({raised.code!r})", hint=hint, exit=status)
    trace = raised.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("heald.run."):
        trace = trace.tb_next
    raised.__traceback__ = trace
    kind = retry.USER
    if isinstance(raised, MemoryError):
        kind = retry.OUT_OF_MEMORY
    elif isinstance(raised, StagingError):
        kind = retry.STAGING
    text = "".join(traceback.format_exception(raised))
    return Failure(kind, _message(raised), _pickled(raised), text, hint=_hint(raised))


def _message(raised: BaseException) -> str:
    """One line that says what was raised."""
    shown = str(traceback.TracebackException(type(raised), raised, None))  # also of what cannot tell its own message
    text = f"{type(raised).__name__}: {shown}" if shown else type(raised).__name__
    return legible(text.split("\n")[0][:500])


def _hint(raised: BaseException) -> str:
    hint = getattr(raised, "hint", "")
    return hint if isinstance(hint, str) else ""


def _pickled(raised: BaseException) -> Payload | None:
    """The exception with its traceback and those that caused it, or None when it cannot travel."""
    _shorten(raised.__traceback__)
    stream = io.BytesIO()
    try:
        _pickler()(stream, 5).dump(raised)
        data = stream.getvalue()
        pickle.loads(data)  # an exception whose constructor wants other arguments fails only here
    except Exception:
        return None
    return Payload(data)


@functools.cache
def _pickler() -> Any:
    """A pickler that keeps tracebacks and causes. tblib would have all pickling in the process do so."""
    import cloudpickle
    from tblib import pickling_support

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # also for classes of the script, which go by value
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, TracebackType):
                return pickling_support.pickle_traceback(value)
            if not isinstance(value, BaseException):
                return super().reducer_override(value)
            if type(value).__module__ != "builtins":
                return pickling_support.pickle_exception(value)
            parts: Any = value.__reduce__()
            made, args, *state = parts  # tblib would drop what some of these keep outside of `args`
            around = (value.__cause__, value.__traceback__, value.__context__, value.__suppress_context__)
            notes = getattr(value, "__notes__", None)
            return (pickling_support.unpickle_exception, (made, args, *around, notes), *state)

    return Pickler


def _shorten(trace: TracebackType | None) -> None:
    """Cut out the middle of a traceback that is too deep to be pickled, as that of endless recursion is."""
    frames: list[TracebackType] = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    if len(frames) > _DEEPEST:
        frames[_DEEPEST // 2 - 1].tb_next = frames[-_DEEPEST // 2]


def error(outcome: Failure, *, task: int, name: str, decode: Callable[[Payload], Any]) -> BaseException:
    """The exception that a future raises for `outcome`: the task's own, or one of the tree of `core.errors`."""
    own = _own(outcome, decode)
    label = f"{name}#{task}" + (f", attempt {outcome.attempt}" if outcome.attempt > 1 else "")
    if own is not None and outcome.kind in (retry.USER, retry.STAGING, retry.OUT_OF_MEMORY):
        own.add_note(_note(label, outcome, own))
        return own
    if outcome.code == CycleError.code:
        return CycleError(f"{label}: {outcome.message}", hint=outcome.hint)
    if outcome.kind == retry.REFUSED:
        return UsageError(f"{label} can never run: {outcome.message}", hint=outcome.hint)
    cls = _ERRORS.get(outcome.code) or _ERRORS.get(outcome.kind, TaskError)
    message = f"{label}: {outcome.message}"
    made = cls(
        message,
        hint=outcome.hint,
        task=task,
        name=name,
        attempt=outcome.attempt,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
    )
    if isinstance(made, CommandFailed):
        made.returncode = outcome.exit
    if isinstance(made, DependencyError):
        made.chain = outcome.chain
        made.add_note("needed by: " + " <- ".join(reversed(outcome.chain)))
    if own is not None:
        made.__cause__ = own
    elif outcome.traceback:
        made.add_note("the task's own traceback:\n" + outcome.traceback.rstrip())
    if note := _logs(outcome):
        made.add_note(note.strip(", \n"))
    return made


def _note(label: str, outcome: Failure, own: BaseException) -> str:
    """What the exception that a task raised does not say itself."""
    message = f": {outcome.message}" if outcome.message != _message(own) else ""
    hint = outcome.hint.removeprefix(_hint(own)).removeprefix("; ")
    return f"in task {label}{message}" + (f"\n  hint: {hint}" if hint else "") + _logs(outcome)


def _own(outcome: Failure, decode: Callable[[Payload], Any]) -> BaseException | None:
    if outcome.exception is None:
        return None
    try:
        own = decode(outcome.exception)
    except Exception:
        return None
    return own if isinstance(own, BaseException) else None


def _logs(outcome: Failure) -> str:
    lines = []
    files = ("stdout", outcome.stdout), ("stderr", outcome.stderr)
    for (stream, file), printed in zip(files, outcome.printed, strict=True):
        if file:
            lines.append(f"{stream}: {file}")
            if last := printed or tail(file):
                lines.extend("    " + line for line in last.splitlines())
    return "".join("\n  " + line for line in lines)

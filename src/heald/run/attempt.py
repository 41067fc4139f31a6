"""One attempt inside a worker: open the arguments, bring files in, call, deliver files, pack the value.

What the user's code raises ends here, as a Failure that says where.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from heald.core.environment import PLAIN, Environment
from heald.core.errors import NotPicklable, OutputMissing, Requeue
from heald.core.event import Failure
from heald.core.ref import Ref
from heald.core.retry import CANCELLED, REFUSED, REQUEUED, RESULT, STAGING, USER
from heald.core.task import COMMAND, FUNCTION, Payload, Work
from heald.data.arena import SCHEME, Arena
from heald.data.payload import Sealed, pack, seal, unpack
from heald.run import current, singleton
from heald.run.affinity import MPI_PREFIX, names
from heald.run.command import Batch, CommandLine, Completed, execute, failed, mpi_prefix, not_started, words
from heald.run.function import loaded
from heald.run.gang import Gang
from heald.run.outcome import failure
from heald.run.protocol import Order
from heald.run.surrounding import Surrounding
from heald.run.watch import Watch

_FILE = b"heald.data.file"  # stands in the pickle of every File
_NOTHING: Mapping[str, str] = {}


class Stopped(BaseException):
    """Raised inside a task that the driver wants stopped."""


class Call:
    """A work as a worker keeps it: the function is loaded at its first attempt.

    `waiting`: an attempt of it waits for a command. `stopped`: the driver told that command to end. `measured`: CPU
    seconds and peak bytes of the command that ended last, None for a function.
    """

    def __init__(self, work: Work, pickled: bytes, usual: Environment = PLAIN) -> None:
        self.work = work
        self.pickled = pickled
        self.around = work.environment.over(usual)
        self.on_ranks = work.kind == FUNCTION and work.resources.ranks > 1
        self.away = self.on_ranks or (work.kind == FUNCTION and self.around.software != PLAIN)  # from this process
        self.function: Callable[..., Any] | None = None
        self.waiting = False
        self.stopped = False
        self.measured: list[Any] | None = None

    def run(
        self, order: Order, arena: Arena, surrounding: Surrounding, on_release: Callable[[Ref], None]
    ) -> Payload | Failure:
        """Run one attempt to its end."""
        try:
            if self.around != PLAIN:
                surrounding.enter(self.around, order.task)
            function = self.function
            if function is None and not self.away:
                function = self.function = _loaded(self.pickled)
            if _mentions_file(order):
                value = self._call_with_files(function, order, arena, surrounding, on_release)
            elif function is None:
                value = self._call_away(_sealed(order, arena, surrounding, on_release), {}, order, surrounding)
            else:
                args, kwargs = _arguments(order, arena, surrounding, on_release)
                value = function(*args, **kwargs)
                if self.work.kind == COMMAND:
                    value = self._execute(value, order, surrounding)
        except Stopped:
            raise
        except _NotPrepared as raised:
            return _because(failure(raised.reason), str(raised))
        except OutputMissing as raised:
            return Failure(USER, raised.message, hint=raised.hint, code=raised.code)
        except BaseException as raised:
            return failure_of(raised)
        return value if isinstance(value, Failure) else packed(value, arena, self.work)

    def _call_with_files(
        self,
        function: Callable[..., Any] | None,
        order: Order,
        arena: Arena,
        surrounding: Surrounding,
        on_release: Callable[[Ref], None],
    ) -> Any:
        """Bring the files in the arguments here, call, and deliver those that were promised."""
        from heald.data import file, staging

        with file.collecting() as found:
            args, kwargs = _arguments(order, arena, surrounding, on_release)
        outputs = [one for one in kwargs.get("outputs") or () if isinstance(one, file.File)]
        written = {id(one) for one in outputs}
        area = surrounding.staging(order.task)
        staging.stage_in([one for one in found if id(one) not in written], area, cache=surrounding.cache)
        staging.prepare_outputs(outputs, area)
        if function is None:
            paths = {one.url: str(one) for one in found}
            value: Any = self._call_away(_sealed(order, arena, surrounding, on_release), paths, order, surrounding)
        elif self.work.kind != COMMAND:
            value = function(*args, **kwargs)
        else:
            with file.quoting():
                line = function(*args, **kwargs)
                quoted = {format(one): str(one) for one in found}
            value = self._execute(line, order, surrounding, quoted)
        if not isinstance(value, Failure):
            staging.stage_out(outputs)
        return value

    def _call_away(
        self, arguments: Sealed, paths: Mapping[str, str], order: Order, surrounding: Surrounding
    ) -> Sealed | list[Sealed] | Failure:
        """Call the function in another process, or on ranks. `paths`: where Files are here, by URL."""
        if not self.on_ranks:
            return self._call_in_software(arguments, paths, order, surrounding)
        if not self.around.foreign:
            return self._call_on_ranks(arguments, paths, order, surrounding)
        hint = "prepare it with setup= and modules=, or run it as a command"
        return Failure(REFUSED, "a function on several ranks runs in heald's own Python", hint=hint, final=True)

    def _call_in_software(
        self, arguments: Sealed, paths: Mapping[str, str], order: Order, surrounding: Surrounding
    ) -> Sealed | Failure:
        """Call the function in the Python of its environment."""
        self.measured = None
        self.waiting = True
        try:
            interpreter = surrounding.software.interpreter(self.around)
            refusal = interpreter.refusal(self.pickled, arguments)
            if refusal is not None:
                return refusal
            surrounding.kills.new()
            function = order.work, self.pickled
            value = interpreter.call(function, arguments, paths, surrounding.around(), surrounding.kills)
            self.measured = interpreter.measured
        finally:
            self.waiting = False
        return value

    def _call_on_ranks(
        self, arguments: Sealed, paths: Mapping[str, str], order: Order, surrounding: Surrounding
    ) -> list[Sealed] | Failure:
        """Call the function on every rank; the list of their values."""
        prefix = mpi_prefix(self.work.resources)
        gang = Gang(Path(surrounding.run, "ranks", str(order.task), str(order.attempt)), self.work)
        surrounding.kills.new()
        try:
            command, variables = gang.tell(self.pickled, arguments, paths, surrounding.initializer)
            argv = [*shlex.split(prefix), *command]
            try:
                with Watch():
                    status = self._wait(argv, {**_named(order, prefix, surrounding), **_encoded(variables)})
            except OSError as raised:
                return not_started(argv, raised)
            if self.stopped:
                return Failure(CANCELLED, "stopped")
            return gang.answers(status, surrounding.kills)
        finally:
            gang.disband()

    def _execute(
        self, line: Any, order: Order, surrounding: Surrounding, quoted: Mapping[str, str] = _NOTHING
    ) -> Completed | list[Completed] | Failure:
        """Run a command line to its end. `quoted`: names of files as the function found them, and as they are."""
        prefix = mpi_prefix(self.work.resources)
        inside = shlex.join(surrounding.software.words(self.around)) if self.around.container else ""
        before = f"{prefix} {inside}".strip()
        named = _named(order, before, surrounding)
        surrounding.kills.new()  # what was killed before is not this one
        if isinstance(line, Batch):
            return self._execute_all(line, {**named, **_encoded(line.variables)}, order, surrounding)
        given = line if isinstance(line, CommandLine) else CommandLine(line)
        argv = words(given.line, before, quoted)
        if not prefix:
            return self._run(argv, given, named, order, surrounding)
        ear = singleton.Ear(os.fspath(given.stderr) or "/proc/self/fd/2")
        with Watch(ear.heard) as watch:
            done = self._run(argv, given, named, order, surrounding)
        if watch.hung and isinstance(done, Failure):
            hint = "one of its ranks ended badly, and then its launcher locked up and was killed: read what it printed"
            done = msgspec.structs.replace(done, hint=hint)
        return singleton.failure(self.work.resources.ranks, prefix) if ear.heard() and not self.stopped else done

    def _execute_all(
        self, batch: Batch, variables: Mapping[bytes, bytes], order: Order, surrounding: Surrounding
    ) -> list[Completed] | Failure:
        """Run the lines of a batch."""
        found: list[Completed] = []
        last = time.perf_counter() + batch.within
        for number, line in enumerate(batch.lines, 1):
            done = self._run(words(line.line), line, variables, order, surrounding, number)
            if isinstance(done, Failure):
                return found if found and not self.stopped else done
            found.append(done)
            if time.perf_counter() > last:
                break
        return found

    def _run(
        self,
        argv: list[str],
        given: CommandLine,
        variables: Mapping[bytes, bytes],
        order: Order,
        surrounding: Surrounding,
        number: int = 0,
    ) -> Completed | Failure:
        """Run one line to its end; `number` counts those of a batch."""
        if given.variables:
            variables = {**variables, **_encoded(given.variables)}
        started, begun = time.time(), time.perf_counter()
        try:
            status = self._wait(argv, variables, given.streams())
        except OSError as raised:
            return not_started(argv, raised)
        if status == -signal.SIGUSR1 and current.told():
            surrounding.await_children()  # a shell has ended of the notice, and what it had started saves its state
        if status and (given.check or self.stopped):
            return failed(argv, status, surrounding.kills)
        seconds = time.perf_counter() - begun
        stdout, stderr = surrounding.outputs(order.task, order.attempt, number)
        stdout = Path(given.stdout).absolute() if given.stdout else stdout
        stderr = Path(given.stderr).absolute() if given.stderr else stderr
        return Completed(status, stdout, stderr, seconds, started)

    def _wait(self, argv: list[str], variables: Mapping[bytes, bytes], streams: Iterable[tuple[int, int]] = ()) -> int:
        """Start a program, and wait for its end; its status. Raises OSError when it cannot be started."""
        if current.told():
            raise Requeue("its time ended before its command began")
        self.measured = None
        self.stopped = False
        self.waiting = True
        try:
            status, *self.measured = execute(argv, variables, streams)
        finally:
            self.waiting = False
        return status


class _NotPrepared(Exception):
    """What was needed for the call is not there."""

    def __init__(self, text: str, reason: Exception) -> None:
        super().__init__(text)
        self.reason = reason


def _loaded(pickled: bytes) -> Callable[..., Any]:
    try:
        function: Callable[..., Any] = loaded(pickled)
    except Exception as raised:
        raise _NotPrepared("the function cannot be loaded in a worker", raised) from raised
    return function


def _sealed(order: Order, arena: Arena, surrounding: Surrounding, on_release: Callable[[Ref], None]) -> Sealed:
    return seal(order.arguments, arena, order.inputs, on_release=on_release, resolve=surrounding.kept_value)


def _arguments(
    order: Order, arena: Arena, surrounding: Surrounding, on_release: Callable[[Ref], None]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        args, kwargs = unpack(
            order.arguments, arena, order.inputs, on_release=on_release, resolve=surrounding.kept_value
        )
    except Exception as raised:
        what = "an argument, or the value of a task that it needs," if order.inputs else "an argument"
        raise _NotPrepared(f"{what} cannot be loaded in a worker", raised) from raised
    return args, kwargs


def packed(value: Any, arena: Arena | None, work: Work) -> Payload | Failure:
    """The value that a task returned, ready to travel; a failure when it cannot."""
    try:
        payload, _ = pack(value, arena, subject=f"the value that {work.name} returned")
    except NotPicklable as raised:
        return Failure(RESULT, raised.message, hint=raised.hint)
    return payload


def refs(order: Order) -> Iterator[Ref]:
    """All that an order reads from shared memory."""
    stack = [order.arguments, *order.inputs]
    while stack:
        payload = stack.pop()
        yield from (ref for ref in payload.buffers if ref.uri.startswith(SCHEME))
        stack.extend(payload.inputs)


def _named(order: Order, prefix: str, surrounding: Surrounding) -> dict[bytes, bytes]:
    """The variables by which a command knows its task, and its processes are known."""
    return _encoded({MPI_PREFIX: prefix, **names(surrounding.run, order.task, order.attempt)})


def _encoded(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


def _mentions_file(order: Order) -> bool:
    return _FILE in order.arguments.data or any(_FILE in payload.data for payload in order.inputs)


def failure_of(raised: BaseException) -> Failure:
    """The record of what a task raised."""
    found = failure(raised)
    return msgspec.structs.replace(found, kind=REQUEUED) if isinstance(raised, Requeue) else found


def _because(found: Failure, reason: str) -> Failure:
    kind = found.kind if found.kind == STAGING else USER
    return Failure(kind, f"{reason}: {found.message}", found.exception, found.traceback, hint=found.hint)

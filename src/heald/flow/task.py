"""`@task`, `@command`, `@join`: functions whose calls can become tasks.

A decorated function is still the function: calling it runs it here and now. `.submit` makes the call a task.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
from _blake2 import blake2b  # that of hashlib loads OpenSSL too
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from heald.core.errors import NotPicklable, UsageError
from heald.core.retry import ONCE, Retry
from heald.core.task import COMMAND, FUNCTION, JOIN, Work
from heald.flow.current import current_session
from heald.flow.map import FutureMap
from heald.flow.option import Options, Settings, settings
from heald.run.command import CommandLine, Completed
from heald.run.function import Imported, attribute, importable, imported
from heald.run.future import Future

P = ParamSpec("P")
T = TypeVar("T")

_serials = itertools.count()


class Shipped:
    """A Work with what it names: its digest, and the pickled function."""

    __slots__ = ("digest", "pickled", "work")

    def __init__(self, work: Work, pickled: bytes) -> None:
        self.work = work
        self.digest = work.digest()
        self.pickled = pickled


class Function(Generic[P, T]):
    """A function whose calls can become tasks.

    >>> @task
    ... def square(x: int) -> int:
    ...     return x * x
    >>> square(3)
    9
    """

    def __init__(self, function: Callable[P, Any], kind: str, chosen: Settings) -> None:
        if not callable(function):
            raise UsageError(f"{function!r} is no function", hint="decorate a function, or pass one")
        if inspect.iscoroutinefunction(function):
            raise UsageError(
                f"{function!r} is an async function, and tasks are plain ones",
                hint="write a plain function that calls asyncio.run; the future that submit gives can be awaited",
            )
        self.function = function
        self.kind = kind
        self.settings = chosen
        self.name = chosen.name or getattr(function, "__name__", type(function).__name__)
        functools.update_wrapper(self, function, updated=())
        self._serial = next(_serials).to_bytes(16, "little")  # an id() would come again, for another function
        self._shipped: dict[tuple[bool, bool, Retry], Shipped] = {}
        self._seen: list[tuple[Callable[[], Any], Any]] = []  # how to read its variables, and what was read

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function here and now."""
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]

    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    @overload
    def submit(self, *args: Any, **kwargs: Any) -> Future[T]: ...

    def submit(self, *args: Any, **kwargs: Any) -> Future[T]:
        """Make this call a task of the current session.

        A future may stand anywhere in the arguments; the task then waits for it. Raises NotPicklable at once for
        what cannot travel.
        """
        return current_session().call(self, args, kwargs)

    def map(self, *iterables: Iterable[Any], window: int = 10_000) -> FutureMap[T]:
        """Futures of the calls with the items of `iterables`, in order.

        At most `window` tasks are ahead of the reader, so that inputs without end take bounded memory.
        """
        return FutureMap(self.submit, zip(*iterables, strict=False), window)

    def options(self, **changes: Unpack[Options]) -> Function[P, T]:
        """The same function with other options; this one stays as it is. See `Options` for their names."""
        return Function(self.function, self.kind, settings(changes, self.settings))

    # -- how it travels ----------------------------------------------------------------------------------------------

    def shipped(self, *, coded: bool, travels: bool, retry: Retry = ONCE) -> Shipped:
        """Its Work and pickled function.

        `coded`: the digest of its code is wanted. `travels`: it runs in another process. `retry`: when it has none of
        its own. A function sent by value is
        pickled again when a variable that it reads was bound to something else since, as in a notebook.
        """
        known = self._shipped.get((coded, travels, retry))
        if known is not None and (not self._seen or all(read() is value for read, value in self._seen)):
            return known
        pickled = self._pickled() if travels else b""
        code = _code_digest(self.function) if coded else b""
        chosen = self.settings
        name = self._serial
        if travels:  # hooks stay here: what has one is not to be taken for what has another
            hook = self._serial if chosen.retry_if is not None else b""
            name = blake2b(pickled + hook, digest_size=16).digest()
        work = Work(
            self.name,
            self.kind,
            name,
            code,
            chosen.resources,
            retry if chosen.retry == ONCE else chosen.retry,
            chosen.environment,
            chosen.executor,
            chosen.priority,
            chosen.tags,
            chosen.memo,
        )
        self._shipped.clear()
        made = self._shipped[coded, travels, retry] = Shipped(work, pickled)
        return made

    def _pickled(self) -> bytes:
        import cloudpickle

        try:
            travels: Any = self.function
            self._seen = []
            if self._importable():
                travels = Imported(self.function.__module__, self.function.__qualname__)
            else:
                self._seen = _reads(self.function)
            pickled: bytes = cloudpickle.dumps(travels, 5)
        except Exception as raised:
            raise NotPicklable(
                f"the function {self.name} cannot be pickled: {type(raised).__name__}: {raised}",
                hint="it, or a variable that it reads, cannot travel to another process: make that inside the function",
            ) from raised
        return pickled

    def _importable(self) -> bool:
        """Whether a worker finds this by its name."""
        function: Any = self.function
        while isinstance(function, functools.partial):
            function = function.func
        module = getattr(function, "__module__", None)
        if not module or module not in sys.modules or not importable(module):
            return False
        try:
            return imported(module, function.__qualname__) is self.function
        except AttributeError:
            return False

    def __heald_code__(self) -> Callable[..., Any]:
        return self.function

    def __reduce__(self) -> tuple[Any, ...]:
        if self._importable():
            return attribute, (self.function.__module__, self.function.__qualname__)
        return Function, (self.function, self.kind, self.settings)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        bound: Callable[..., Any] = functools.partial(self.function, instance)  # type: ignore[arg-type]
        return Function(bound, self.kind, settings({"name": self.name}, self.settings))

    def __repr__(self) -> str:
        return f"<heald.{self.kind} {self.name}>"


def _code_digest(function: Callable[..., Any]) -> bytes:
    from heald.data.digest import code_digest

    return code_digest(function)


def _reads(function: Any) -> list[tuple[Callable[[], Any], Any]]:
    """Ways to see what the variables are bound to that a function reads, and the functions of its module that it
    calls; and what that is now.
    """
    found: list[tuple[Callable[[], Any], Any]] = []
    stack, seen = [function], {id(function)}
    while stack:
        reader = stack.pop()
        for read in _variables(reader):
            value = read()
            found.append((read, value))
            called = value.function if isinstance(value, Function) else value
            if getattr(called, "__globals__", None) is reader.__globals__ and id(called) not in seen:
                seen.add(id(called))
                stack.append(called)
    return found


def _variables(function: Any) -> list[Callable[[], Any]]:
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    space = function.__globals__
    names: set[str] = set()
    stack = [code]
    while stack:
        body = stack.pop()
        names.update(body.co_names)
        stack.extend(constant for constant in body.co_consts if isinstance(constant, type(code)))
    reads: list[Callable[[], Any]] = [functools.partial(space.get, name) for name in sorted(names & space.keys())]
    reads.extend(functools.partial(_content, cell) for cell in function.__closure__ or ())
    return reads


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return None


def plain(function: Callable[..., T]) -> Function[..., T]:
    """The Function of an undecorated function, with default options: the same for the same function.

    An object that can be called, a bound method among them, is another each time: it may have changed since.
    """
    if isinstance(function, Function):
        return function
    if isinstance(function, FunctionType | type):
        return _kept(function)
    return Function(function, FUNCTION, Settings())


@functools.lru_cache(512)
def _kept(function: Callable[..., T]) -> Function[..., T]:
    return Function(function, FUNCTION, Settings())


def _decorate(kind: str, function: Any, chosen: dict[str, Any]) -> Any:
    checked = settings(chosen)
    if function is None:
        return lambda given: Function(given, kind, checked)
    return Function(function, kind, checked)


@overload
def task(function: Callable[P, T], /) -> Function[P, T]: ...


@overload
def task(**options: Unpack[Options]) -> Callable[[Callable[P, T]], Function[P, T]]: ...


def task(function: Any = None, /, **options: Unpack[Options]) -> Any:
    """Make a Python function's calls ready to be tasks. See `Options` for what it takes.

    >>> @task(retries=2, cpus=2)
    ... def double(x: float) -> float:
    ...     return 2 * x
    >>> double(4)
    8
    """
    return _decorate(FUNCTION, function, dict(options))


@overload
def command(function: Callable[P, str | Sequence[Any] | CommandLine], /) -> Function[P, Completed]: ...


@overload
def command(
    **options: Unpack[Options],
) -> Callable[[Callable[P, str | Sequence[Any] | CommandLine]], Function[P, Completed]]: ...


def command(function: Any = None, /, **options: Unpack[Options]) -> Any:
    """Make a task of a function that returns the command line to run: a list of words, or a text for the shell; or a
    `CommandLine`, which also says where it reads and writes.

    The value of the task is a `Completed`. A command that ends with a status other than 0 fails the task with
    CommandFailed. Files named in `outputs=` are promised: `future.outputs` has a future of each.

    >>> @command
    ... def greet(name: str) -> list[str]:
    ...     return ["echo", "hello", name]
    >>> greet("you")
    ['echo', 'hello', 'you']
    """
    return _decorate(COMMAND, function, dict(options))


@overload
def join(function: Callable[P, Any], /) -> Function[P, Any]: ...


@overload
def join(**options: Unpack[Options]) -> Callable[[Callable[P, Any]], Function[P, Any]]: ...


def join(function: Any = None, /, **options: Unpack[Options]) -> Any:
    """Make a task of a function that submits tasks and returns their futures, in any nesting.

    Its body runs in this process; while it waits for the tasks it occupies nothing. Its value is what it returned,
    with values in place of futures.

    >>> @join
    ... def both(x: int) -> list[int]:
    ...     return [x, x]
    >>> both(1)
    [1, 1]
    """
    return _decorate(JOIN, function, dict(options))

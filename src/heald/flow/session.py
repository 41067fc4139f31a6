"""Sessions: which executors run tasks, what is kept, and what is shown meanwhile.

Without one, the first task opens a default session on this machine's cores, which ends with the interpreter.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

import msgspec

from heald.core.environment import PLAIN
from heald.core.errors import ConfigurationError, NotPicklable, UsageError
from heald.core.retry import Retry
from heald.core.task import JOIN, Payload, Task
from heald.core.text import recordable
from heald.data.payload import pack_call
from heald.flow.current import sessions, standard
from heald.flow.map import FutureMap
from heald.flow.option import settings
from heald.flow.task import Function, plain
from heald.run.engine import Engine
from heald.run.executor import Executor
from heald.run.foreign import adopted
from heald.run.function import send_own_modules
from heald.run.future import Future, Submission
from heald.run.process import ProcessExecutor
from heald.run.thread import ThreadExecutor, ThreadPool, futures_in
from heald.store.folder import Folder, prune, scratch_run

P = ParamSpec("P")
T = TypeVar("T")

_JOINS = 512  # bodies of joins at the same time: one that waits for futures holds its thread
_EMPTY = Payload(b"")


class Session:
    """Runs tasks on `executors`, the first being the default. When none are given: on those that `heald run` was told
    of, or on `heald.ProcessExecutor()`.

    `journal`: a folder that keeps the run; started again on it, a script goes on where it was, however it ended.
    `sync`: when the journal is forced to the disk: "batch" (many times a second), "each" (before any result is
    seen) or "none". `memo`: True for the user's memo, a path for one of your own, False or None for none.
    `progress`: show a progress bar; by default when the run takes long and standard error is a terminal. `retries`:
    for tasks that name none of their own. `limit`: tasks that may be open before `submit` waits.

    A session can be printed as the code that makes it, opened many times one after another, and used with `with`,
    with `async with`, or by `start` and `close`.

    >>> with Session([ThreadExecutor(workers=2)]) as session:
    ...     session.submit(max, 3, 4).result()
    4
    """

    def __init__(
        self,
        executors: Sequence[Executor] | None = None,
        *,
        journal: str | os.PathLike[str] | None = None,
        sync: str = "batch",
        memo: bool | str | os.PathLike[str] | None = True,
        progress: bool | None = None,
        retries: int | Retry = 0,
        limit: int = 1_000_000,
    ) -> None:
        if isinstance(executors, Executor):
            raise ConfigurationError("executors must be a list", hint=f"heald.Session([{executors!r}])")
        self.executors = tuple(standard) or (ProcessExecutor(),) if executors is None else tuple(executors)
        _check(self.executors)
        if sync not in ("batch", "each", "none"):
            raise ConfigurationError(f"sync={sync!r}: must be 'batch', 'each' or 'none'")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ConfigurationError(f"limit={limit!r}: must be a whole number, at least 1")
        self.journal = recordable("journal", os.fspath(journal)) if journal is not None else None
        self.sync = sync
        self.memo = memo if memo is None or isinstance(memo, bool) else os.fspath(memo)
        self.progress = progress
        self.retries = retries
        self._retry = settings({"retries": retries}).retry
        self.limit = limit
        self._engine: Engine | None = None
        self._folder: Folder | None = None
        self._recorder: Any = None
        self._display: Any = None
        self._live: frozenset[str] = frozenset()
        self._far: dict[str, str] = {}  # hosts by executor, behind which tasks see no file of this machine
        self._lock = threading.Lock()
        self.pid = 0

    def __repr__(self) -> str:
        shown = {"executors": list(self.executors)}
        usual = {"journal": None, "sync": "batch", "memo": True, "progress": None, "retries": 0, "limit": 1_000_000}
        shown.update({name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value})
        return f"heald.Session({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    # -- opening and closing -----------------------------------------------------------------------------------------

    def start(self, *, current: bool = True) -> Session:
        """Open it, and make it the current one, to which tasks submitted by themselves go (unless told not to)."""
        with self._lock:
            if self._engine is not None:
                raise UsageError("the session is open already", hint="close it first, or make another")
            self._open()
        if current:
            sessions.append(self)
        return self

    def _open(self) -> None:
        recordable("current folder", _here())
        self._folder = Folder(self.journal) if self.journal is not None else scratch_run()
        self._folder.claim()
        engine = Engine(self._pools, self._folder.path.absolute(), limit=self.limit)
        try:
            self._equip(engine, self._folder)
            self.pid = os.getpid()
            engine.start()
        except BaseException:
            if engine.control is not None:
                engine.control.close()
            if engine.recorder is not None:
                engine.recorder.close()
            self._folder.release()
            engine.selector.close()
            raise
        self._engine = engine
        if self.progress is not False:
            from heald.flow.progress import Progress

            self._display = Progress(engine, always=bool(self.progress))

    def _equip(self, engine: Engine, folder: Folder) -> None:
        if self.journal is not None:
            from heald.core.version import __version__
            from heald.run.change import listen
            from heald.run.recorder import Recorder

            self._recorder = Recorder(folder, engine.arena, self.sync, __version__)  # type: ignore[arg-type]
            engine.recorder = self._recorder
            engine.ids = itertools.count(self._recorder.last + 1)
            engine.control = listen(engine, folder)
        if self.memo:
            from heald.data.memo import Memo
            from heald.run.memoiser import Memoiser

            engine.memoiser = Memoiser(Memo(self.memo if isinstance(self.memo, str) else None), engine)
        self._live = frozenset(one.label for one in self.executors if isinstance(one, ThreadExecutor))
        self._far = {one.label: one.far for one in self.executors if one.far}
        if self._far:
            send_own_modules()

    def _pools(self, engine: Engine) -> Mapping[str, Any]:
        pools: dict[str, Any] = {executor.label: executor.pool(engine) for executor in self.executors}
        pools[JOIN] = ThreadPool(JOIN, _JOINS, engine)
        return pools

    def close(self, *, cancel: bool = False, timeout: float | None = None) -> None:
        """Wait for all tasks (or cancel them), end every process, and stop being the current session."""
        with self._lock:
            engine = self._engine
        if engine is None:
            return
        try:
            if not cancel and self.pid == os.getpid():
                engine.drain(timeout)
        finally:
            with self._lock:
                self._engine = None
            if self in sessions:
                sessions.remove(self)
            if self.pid == os.getpid():
                self._shut(engine)

    def _shut(self, engine: Engine) -> None:
        if self._display is not None:
            self._display.close()
            self._display = None
        engine.close()
        assert self._folder is not None
        if self.journal is None:
            self._folder.release()
            prune()

    def __enter__(self) -> Session:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    async def __aenter__(self) -> Session:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.to_thread(self.close, cancel=kind is not None)

    # -- tasks -------------------------------------------------------------------------------------------------------

    @overload
    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    @overload
    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]: ...  # type: ignore[overload-cannot-match]

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Make a call a task of this session; any function will do, and futures may stand for its arguments."""
        return self.call(plain(function), args, kwargs)

    def map(self, function: Callable[..., T], *iterables: Iterable[Any], window: int = 10_000) -> FutureMap[T]:
        """Futures of the calls with the items of `iterables`, in order. See `Function.map`."""
        called = plain(function)
        return FutureMap(lambda *args: self.call(called, args, {}), zip(*iterables, strict=False), window)

    def call(self, function: Function[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[T]:
        """Make a call of a Function a task of this session."""
        engine = self._engine
        if engine is None or self.pid != os.getpid():
            raise UsageError("the session is closed", hint="submit inside `with session:`, or call session.start()")
        if sys.path != engine.path:
            engine.follow_path()
        outputs = _promised(kwargs["outputs"]) if "outputs" in kwargs else ()
        live = self._is_live(function)
        coded = self._recorder is not None or (function.settings.memo and engine.memoiser is not None)
        shipped = function.shipped(coded=coded, travels=not live and function.kind != JOIN, retry=self._retry)
        if shipped.digest not in engine.functions:
            self._define(engine, function, shipped)
        if live:
            args, kwargs = adopted((args, kwargs), engine)
            payload, needed = _EMPTY, futures_in((args, kwargs))
        else:
            try:
                with self._travelling(function):
                    payload, found = pack_call(args, kwargs, engine.arena, name=function.name)
            except NotPicklable:
                call = adopted((args, kwargs), engine)
                if call[0] is args and call[1] is kwargs:
                    raise
                return self.call(function, *call)
            needed = found  # type: ignore[assignment]
        inputs: tuple[int, ...] = ()
        if needed:
            for one in needed:
                if one._owner is not engine:
                    raise UsageError(f"{one!r} belongs to another session", hint="pass its result() instead")
            inputs = tuple([one.task for one in needed])
        key = content_key(shipped.work, args, kwargs, needed, payload) if coded else b""
        task: int | None = None
        if self._recorder is not None:
            task = self._recorder.claim(key, inputs, again=bool(outputs) and not _written(outputs))
        if task is None:
            task = next(engine.ids)
        record = Task(task, shipped.digest, payload, inputs, key)
        future: Future[T]
        if outputs:
            future = Submission(engine, task, function.name, outputs)
            engine.promised[task] = outputs
        else:
            future = Future(engine, task, function.name)
        if live:
            engine.calls[task] = (args, kwargs)
        engine.submit(record, future, needed)
        return future

    def _is_live(self, function: Function[..., Any]) -> bool:
        """Whether calls of it run in threads of this process, on their arguments as they are."""
        if not self._live or function.kind == JOIN:
            return False
        label = function.settings.executor or self.executors[0].label
        if label not in self._live:
            return False
        needs = function.settings.resources
        what = f"a {function.kind}" if function.kind != "function" else "a walltime" if needs.walltime else ""
        what = what or "a notice" * bool(needs.notice)
        what = what or "software of its own" * (function.settings.environment.software != PLAIN)
        if what or needs.ranks > 1:
            what = what or f"ranks={needs.ranks}"
            raise UsageError(
                f"{function.name}: {what} needs a process, and executor {label!r} runs threads",
                hint="give the session a heald.ProcessExecutor() too, and the function executor='process'",
            )
        return True

    def _travelling(self, function: Function[..., Any]) -> AbstractContextManager[object]:
        """Around the pickling of arguments: refuses files of this machine where none of these are seen."""
        far = self._far.get(function.settings.executor or self.executors[0].label) if self._far else None
        return nullcontext() if far is None or function.kind == JOIN else _without_files(function.name, far)

    def _define(self, engine: Engine, function: Function[..., Any], shipped: Any) -> None:
        label = shipped.work.executor
        if label and all(executor.label != label for executor in self.executors):
            known = ", ".join(executor.label for executor in self.executors)
            raise UsageError(f"{function.name}: there is no executor {label!r} here", hint=f"there are: {known}")
        if self._recorder is not None:
            self._recorder.define(shipped.digest, shipped.work)
        if function.settings.retry_if is not None:
            engine.hooks[shipped.digest] = function.settings.retry_if
        engine.define(shipped.digest, shipped.work, function.function, shipped.pickled)

    def cancel_waiting(self) -> None:
        """Cancel the tasks that do not run yet."""
        engine = self._engine
        if engine is not None:
            engine.post(engine.cancel_waiting)

    @property
    def logs(self) -> Path:
        """The folder of what tasks print."""
        if self._folder is None:
            raise UsageError("the session was not opened yet")
        return self._folder.logs

    @property
    def tally(self) -> Any:
        """How many tasks there are of each sort."""
        if self._engine is None:
            raise UsageError("the session is closed")
        return self._engine.tally


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError as raised:
        raise ConfigurationError("the current folder is gone: somebody removed it", hint="cd to another") from raised


def _check(executors: Sequence[Any]) -> None:
    if not executors:
        raise ConfigurationError("a session needs an executor", hint="leave `executors` out for this machine's cores")
    for executor in executors:
        if not isinstance(executor, Executor):
            raise ConfigurationError(f"{executor!r} is no executor of heald", hint="use heald.ProcessExecutor()")
    labels = [executor.label for executor in executors]
    if len(set(labels)) < len(labels):
        raise ConfigurationError(
            f"executors need labels of their own, not {labels}", hint="ProcessExecutor(label='gpu')"
        )


def content_key(
    work: Any, args: tuple[Any, ...], kwargs: dict[str, Any], needed: Sequence[Future[Any]], payload: Payload
) -> bytes:
    """16 bytes that name a call by what it does and with what, the same in every run.

    Futures count by their place; files that it will write by their names. Arguments that cannot be digested count by
    their pickle, with a warning when the task is memoised: it may then not be found again.
    """
    import hashlib

    from heald.data.digest import Undigestible, digest

    places = {id(future): place for place, future in enumerate(needed)}

    def stand_in(value: object) -> bytes | None:
        if not isinstance(value, Future):
            return None
        return f"{places[id(value.whole)]} {value.part}".encode()

    named = dict(kwargs, outputs=list(map(str, kwargs["outputs"] or ()))) if "outputs" in kwargs else kwargs
    try:
        content = digest((args, named), placeholder=stand_in)
    except Undigestible as raised:
        content = hashlib.blake2b(payload.data, digest_size=16).digest()
        if work.memo:
            import warnings

            reason = Undigestible(raised.reason, raised.path[1:])  # the first step only leads to all arguments
            warnings.warn(f"{work.name} is run without its memo: {reason}", stacklevel=4)
            return b""
    software = work.environment.software
    around = msgspec.msgpack.encode(software) if software != PLAIN else b""
    return hashlib.blake2b(work.name.encode() + b"\0" + work.code + content + around, digest_size=16).digest()


def _promised(outputs: Any) -> Sequence[Any]:
    """The files that a call promises to write."""
    from heald.data.file import File  # which many sessions never need

    if not isinstance(outputs, list | tuple | None) or not all(isinstance(one, File) for one in outputs or ()):
        raise UsageError(f"outputs={outputs!r}: must be a list of files", hint='outputs=[heald.File("name")]')
    return outputs or ()


@contextmanager
def _without_files(name: str, far: str) -> Iterator[None]:
    from heald.data.file import collecting

    with collecting("pickled") as files:
        yield
    found = next((file for file in files if file.local), None)
    if found is not None:
        raise UsageError(
            f"{name}: {found} is a file of this machine, and the task would run behind {far}, which sees none of them",
            hint="pass what is in it (file.read_bytes()), or the path of a file there as a text, and return values",
        )


def _written(outputs: Iterable[Any]) -> bool:
    return all(os.path.exists(file) for file in outputs if file.local)

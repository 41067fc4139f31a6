"""What runs where a task runs: the bodies of apps, and how a worker of HighThroughputExecutor begins.

Workers import this module and little else.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from typing import IO, Any

from heald.compat import install
from heald.compat.parsl.error import (
    AppBadFormatting,
    AppTimeout,
    BadStdStreamFile,
    BashAppNoReturn,
    BashExitFailure,
    MissingOutputs,
)
from heald.compat.parsl.file import File


class Timed:
    """A function with a walltime. In threads the exception waits for the end of a call into C code."""

    def __init__(self, function: Callable[..., Any], seconds: float) -> None:
        update_wrapper(self, function, updated=())
        self.function = function
        self.seconds = seconds

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The value, or AppTimeout."""
        from ctypes import c_ulong, py_object, pythonapi

        thread, guard = threading.get_ident(), threading.Lock()

        def interrupt() -> None:
            with guard:
                if timer in running:
                    pythonapi.PyThreadState_SetAsyncExc(c_ulong(thread), py_object(AppTimeout))

        timer = threading.Timer(self.seconds, interrupt)
        running = {timer}
        timer.daemon = True
        timer.start()
        try:
            return self.function(*args, **kwargs)
        finally:
            with guard:
                running.clear()
            timer.cancel()


def timeout(f: Callable[..., Any], seconds: float) -> Timed:
    """`f`, which fails with AppTimeout when it runs longer."""
    return Timed(f, seconds)


class Bash:
    """The body of a bash app: makes the command line where it runs, and runs it with bash. Its value is 0."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function, updated=())
        self.function = function
        self.__name__: str = getattr(function, "__name__", "bash_app")

    def __call__(self, *args: Any, **kwargs: Any) -> int:
        """Make the line and run it."""
        line = self._line(args, kwargs)
        with _stream("stdout", kwargs) as out, _stream("stderr", kwargs) as err:
            if err is not None:
                err.write(f"--> executable follows <--\n{line}\n--> end executable <--\n")
                err.flush()
            status = self._run(line, out, err, kwargs.get("walltime"))
        if status:
            raise BashExitFailure(self.__name__, status)
        missing = [file for file in kwargs.get("outputs") or () if not os.path.exists(_path(file))]
        if missing:
            raise MissingOutputs(f"Missing outputs from app {self.__name__}", missing)
        return 0

    def _line(self, args: Any, kwargs: Any) -> str:
        try:
            line = self.function(*args, **kwargs)
        except (AttributeError, IndexError) as raised:
            kind = BashAppNoReturn if isinstance(raised, AttributeError) else AppBadFormatting
            raise kind(f"the command line of app {self.__name__!r} cannot be made: {raised}") from raised
        if not isinstance(line, str):
            raise ValueError(f"Expected a str for bash_app commandline, got {type(line)}")
        return line

    def _run(self, line: str, out: IO[str] | None, err: IO[str] | None, walltime: float | None) -> int:
        # With a walltime the command gets a group of processes of its own, to be ended as a whole.
        child = subprocess.Popen(
            ["/bin/bash", "-c", line], stdout=out, stderr=err, close_fds=False, start_new_session=walltime is not None
        )
        try:
            return child.wait(walltime)
        except subprocess.TimeoutExpired:
            raise AppTimeout(f"App {self.__name__} exceeded walltime: {walltime} seconds") from None
        finally:
            if child.returncode is None:
                if walltime is None:
                    child.kill()
                else:
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def remote_side_bash_executor(func: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Run `func` as the body of a bash app, here and now."""
    return Bash(func)(*args, **kwargs)


def get_std_fname_mode(fdname: str, stdfspec: Any) -> tuple[str, str]:
    """The path and the mode of what `stdout=` or `stderr=` was given: a path, or a path with a mode.

    >>> get_std_fname_mode("stdout", "a.txt"), get_std_fname_mode("stderr", ("b.txt", "w"))
    (('a.txt', 'a+'), ('b.txt', 'w'))

    Raises BadStdStreamFile for a tuple that is not of two, TypeError for what is no path.
    """
    name, mode = stdfspec, "w" if isinstance(stdfspec, File) else "a+"
    if isinstance(stdfspec, tuple):
        if len(stdfspec) != 2:
            raise BadStdStreamFile(f"std descriptor {fdname} has incorrect tuple length {len(stdfspec)}")
        name, mode = stdfspec
    if not isinstance(name, str | os.PathLike):
        raise BadStdStreamFile(f"{fdname} has unexpected type {type(name)}")
    return os.fsdecode(name), mode


@contextmanager
def _stream(name: str, kwargs: Mapping[str, Any]) -> Iterator[IO[str] | None]:
    given = kwargs.get(name)
    if given is None or (isinstance(given, File) and given.local_path is None and given.scheme != "file"):
        yield None  # nothing, or something that only its staging provider understands
        return
    path, mode = get_std_fname_mode(name, given)
    try:
        if os.path.dirname(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        stream = open(path, mode)  # noqa: SIM115 (closed below)
    except (OSError, TypeError, ValueError) as raised:
        raise BadStdStreamFile(path) from raised
    with stream:
        yield stream


def _path(file: Any) -> str:
    return file.filepath if isinstance(file, File) else os.fspath(file)


class Body:
    """A task's function as it travels: takes the arguments as two values, of which heald interprets nothing."""

    def __init__(self, function: Callable[..., Any], variables: Mapping[str, str]) -> None:
        update_wrapper(self, function, updated=())
        self.function = function
        self.variables = variables

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function, with its variables and its output where it wants them."""
        specification = kwargs.get("parsl_resource_specification") or {}
        if specification or self.variables:
            os.environ.update({f"PARSL_{key.upper()}": str(value) for key, value in specification.items()})
            os.environ.update(self.variables)
        if isinstance(self.function, Bash) or not (kwargs.get("stdout") or kwargs.get("stderr")):
            return self.function(*args, **kwargs)
        with _redirected("stdout", 1, kwargs), _redirected("stderr", 2, kwargs):
            return self.function(*args, **kwargs)


class LiveBody(Body):
    """The same in a thread, which shares its variables and its output with all others."""

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)


@contextmanager
def _redirected(name: str, descriptor: int, kwargs: Mapping[str, Any]) -> Iterator[None]:
    with _stream(name, kwargs) as stream:
        if stream is None:
            yield
            return
        kept = os.dup(descriptor)
        ours = getattr(sys, name)
        os.dup2(stream.fileno(), descriptor)
        try:
            yield
            ours.flush()
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)


# -- workers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Desk:
    """What waits for the workers of an executor: `take` is the first that each does.

    `ranks`: a folder in which the file of each rank is locked by the worker that has it. `served`: `import parsl`
    is heald's.
    """

    label: str
    count: int
    ranks: str
    affinity: str
    accelerators: list[str]
    variables: dict[str, str]
    served: bool

    def take(self) -> None:
        """Take a rank, and the variables, cores and device that go with it."""
        if self.served:
            install("parsl")
        rank = self._rank()
        os.environ.update(
            self.variables,
            PARSL_WORKER_RANK=str(rank),
            PARSL_WORKER_COUNT=str(self.count),
            PARSL_WORKER_POOL_ID=self.label,
            PARSL_WORKER_BLOCK_ID="0",
        )
        cores = share(self.affinity, sorted(os.sched_getaffinity(0)), rank, self.count)
        if cores:
            os.sched_setaffinity(0, cores)
            text = ",".join(map(str, cores))
            os.environ.update(OMP_NUM_THREADS=str(len(cores)), GOMP_CPU_AFFINITY=text)
            os.environ["KMP_AFFINITY"] = f"explicit,proclist=[{text}]"
        if self.accelerators:
            device = self.accelerators[rank % len(self.accelerators)]
            os.environ.update(CUDA_VISIBLE_DEVICES=device, ROCR_VISIBLE_DEVICES=device, ZE_AFFINITY_MASK=device)
            os.environ["ZE_ENABLE_PCI_ID_DEVICE_ORDER"] = "1"

    def _rank(self) -> int:
        """The first rank that no living worker has: its file is locked until this process ends."""
        for rank in range(self.count):
            descriptor = os.open(f"{self.ranks}/{rank}", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return rank
        return self.count - 1


def share(affinity: str, cores: list[int], rank: int, count: int) -> list[int]:
    """The cores of the worker of that rank by Parsl's `cpu_affinity`; none when it is not to be bound.

    >>> share("block", [0, 1, 2, 3], 1, 2), share("block-reverse", [0, 1, 2, 3], 1, 2)
    ([2, 3], [0, 1])
    >>> share("alternating", [0, 1, 2, 3], 1, 2), share("list:0-1,4:2,3", [0, 1, 2, 3], 0, 2)
    ([1, 3], [0, 1, 4])

    Raises ValueError for what is none of these.
    """
    each = len(cores) // count
    if affinity == "none" or not count:
        return []
    if affinity == "block":
        return cores[each * rank : each * (rank + 1)]
    if affinity == "block-reverse":
        return cores[len(cores) - each * (rank + 1) : len(cores) - each * rank]
    if affinity == "alternating":
        return cores[rank::count]
    if affinity.startswith("list:"):
        parts = affinity.removeprefix("list:").split(":")
        if len(parts) != count:
            raise ValueError(f"cpu_affinity={affinity!r} lists cores for {len(parts)} workers, and there are {count}")
        return [core for span in parts[rank].split(",") for core in _span(span)]
    raise ValueError(f"cpu_affinity={affinity!r}: must be none, block, block-reverse, alternating or list:…")


def _span(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)

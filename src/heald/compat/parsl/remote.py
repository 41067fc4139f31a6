"""What runs where a task runs: the bodies of apps, and how a worker of HighThroughputExecutor begins.

Workers import this module and little else.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from typing import IO, Any

import heald
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
from heald.run.affinity import ALLOCATION, THREADS
from heald.site import binding, node
from heald.site.device import NAMES, visible


class Around:
    """A function with something around it, by the name of that function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function, updated=())  # type: ignore[arg-type]
        self.function = function
        self.__name__: str = getattr(function, "__name__", type(function).__name__)


class Timed(Around):
    """A function with a walltime. In threads the exception waits for the end of a call into C code."""

    def __init__(self, function: Callable[..., Any], seconds: float) -> None:
        super().__init__(function)
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


timeout = Timed


class Bash(Around):
    """The body of a bash app: makes the command line where it runs, and runs it with bash. Its value is 0."""

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


class Body(Around):
    """A task's function as it travels: takes the arguments as two values, of which heald interprets nothing."""

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function, with its variables and its output where it wants them."""
        if _faults:
            raise _faults[0]
        specification = kwargs.get("parsl_resource_specification") or {}
        if specification:
            os.environ.update({f"PARSL_{key.upper()}": str(value) for key, value in specification.items()})
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


class MpiBody(Body):
    """The same for an app that starts an MPI program: on the nodes that it holds, which to heald are devices."""

    def __init__(self, function: Callable[..., Any], launcher: str, ranks: int, each: int, options: str) -> None:
        super().__init__(function)
        self.launcher, self.ranks, self.each, self.options = launcher, ranks, each, options

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function, with the variables that tell how to start its program."""
        held = os.environ[NAMES].split(",")
        os.environ.clear()
        os.environ.update(_own)  # what was said of threads and devices is not meant for the ranks
        os.environ.update(self._variables(held))
        return super().__call__(args, kwargs)

    def _variables(self, held: list[str]) -> dict[str, str]:
        known, ranks, each = hosts(), self.ranks, self.each
        names = ",".join(known[int(place)] for place in held) if known else ""
        found = {
            "PARSL_MPI_NODELIST": names or "localhost",
            "PARSL_NUM_NODES": str(len(held)),
            "PARSL_NUM_RANKS": str(ranks),
            "PARSL_RANKS_PER_NODE": str(each),
        }
        for name, words, at in (
            ("mpiexec", f"-n {ranks} -ppn {each}", f"-hosts {names}"),
            ("srun", f"--ntasks {ranks} --ntasks-per-node {each}", f"--nodelist {names} --nodes {len(held)}"),
            ("aprun", f"-n {ranks} -N {each}", f"-node-list {names}"),
        ):
            prefix = filter(None, (name, words, at if names else "", self.options))
            found[f"PARSL_{name.upper()}_PREFIX"] = " ".join(prefix)
        return {**found, "PARSL_MPI_PREFIX": found[f"PARSL_{self.launcher.upper()}_PREFIX"]}


def hosts(variables: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The nodes of the batch job that this process is in; none outside of one."""
    return node.grant({"PBS_JOBID": "unknown", **variables, node.HOSTS: ""}).hosts


# -- workers -----------------------------------------------------------------------------------------------------------

_own: dict[str, str] = {}  # the variables of this worker, without what follows from its cores and devices
_names: list[socket.socket] = []  # that this worker has, until it ends
_faults: list[Exception] = []  # why it can run nothing, though it lives


@dataclass(frozen=True)
class Desk:
    """What waits for the workers of an executor: `take` is the first that each does.

    `key`: unlike that of any other executor. `count`: the workers of a node, None for one for every `cores` of it.
    `served`: `import parsl` is heald's.
    """

    key: str
    label: str
    count: int | None
    cores: float
    affinity: str
    accelerators: list[str]
    variables: dict[str, str]
    served: bool

    def take(self) -> None:
        """Take a rank, and the variables, cores and device that go with it."""
        if self.served:
            install("parsl")
        cpus = sorted(os.sched_getaffinity(0))
        count = self.count or max(1, int(len(cpus) / self.cores))
        block = str(int(os.environ.get(ALLOCATION, "a1")[1:]) - 1)  # heald counts from 1, Parsl from 0
        rank = _first_free(f"{self.key}-{block}")
        os.environ.update(
            self.variables,
            PARSL_WORKER_RANK=str(rank),
            PARSL_WORKER_COUNT=str(count),
            PARSL_WORKER_POOL_ID=f"{self.label}-{block}-{socket.gethostname()}",
            PARSL_WORKER_BLOCK_ID=block,
        )
        _own.update(os.environ)
        threads = max(1, len(cpus) // count)
        if self.affinity != "none":
            try:
                mine = binding.cores(self.affinity, cpus, count)[rank % count]
            except heald.ConfigurationError as raised:  # a worker that died of it would be started again, for ever
                _faults.append(raised)
                return
            os.sched_setaffinity(0, mine)
            text, threads = ",".join(map(str, mine)), len(mine)
            os.environ.update(OMP_NUM_THREADS=str(threads), GOMP_CPU_AFFINITY=text)
            os.environ["KMP_AFFINITY"] = f"explicit,proclist=[{text}]"
        for name in THREADS:
            os.environ.setdefault(name, str(threads))
        if self.accelerators:
            device = self.accelerators[rank % len(self.accelerators)]
            # For every vendor, as Parsl does; but HIP would see none with the same numbers in both of its variables.
            vendor = "amd" if node.machine().gpu == "amd" else ""
            os.environ.update(visible(device.split(","), vendor))
            os.environ["ZE_ENABLE_PCI_ID_DEVICE_ORDER"] = "1"


def _first_free(key: str) -> int:
    """The first number that no living process of this node has: it is in a name that the kernel takes back with it."""
    for number in itertools.count():
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0heald-{key}-{number}")
        except OSError as raised:
            name.close()
            if raised.errno != errno.EADDRINUSE:
                raise
        else:
            _names.append(name)
            return number
    raise AssertionError("itertools.count ended")

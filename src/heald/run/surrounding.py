"""What a task finds around it in a worker, and how the worker finds it again afterwards.

Standard output and standard error are files of the worker's own. When an attempt has written to one, the file is
given the attempt's name and the worker takes a new one: silent attempts cost nothing, and processes that a task
started go on writing to the right file.
"""

from __future__ import annotations

import os
import signal
import sys
from _signal import getsignal  # type: ignore[import-not-found]  # that of `signal` makes enums: ten times slower
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from heald.core.environment import PLAIN, Environment
from heald.core.errors import StagingError
from heald.core.ref import Ref
from heald.run import kernel, log
from heald.run.affinity import THREADS
from heald.run.disk import full
from heald.run.function import look_in
from heald.run.protocol import Setup
from heald.run.usage import Kills

if TYPE_CHECKING:
    from heald.run.software import Software

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_STREAMS = ((1, "out"), (2, "err"))
# Those whose handlers matter to a worker, or to the task after the one that changed them.
_SIGNALS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGPIPE,
    signal.SIGALRM,
    signal.SIGTERM,
    signal.SIGCHLD,
    signal.SIGUSR1,
)


class Surrounding:
    """Directory, variables, descriptors and children of one worker process."""

    def __init__(self, setup: Setup, name: str) -> None:
        self.pid = os.getpid()
        self.home = setup.directory
        self.logs = setup.logs
        self.run = setup.run
        self.initializer = setup.initializer
        self.name = name
        self.inherited = dict(kernel.raw_environment())
        self.variables = self.inherited
        self.cores = os.sched_getaffinity(0)
        self.bound: set[int] = set()
        self.usual = setup.environment
        self._software: Software | None = None
        self._given = ["", ""]  # files that the attempt wants its output in
        self.umask = os.umask(0)
        os.umask(self.umask)
        self.path = sys.path
        self.folders = sys.path[:]  # in it
        self.told = setup.path
        self.argv = sys.argv[:]
        self.depth = sys.getrecursionlimit()
        self.handlers: tuple[Any, ...] = ()
        self.kills = Kills()
        _take_no_input()
        os.makedirs(self.logs, exist_ok=True)
        for descriptor, stream in _STREAMS:
            self._take_file(descriptor, stream)
        self.stdout = self._text(1)
        self.stderr = self._text(2)
        sys.stdout, sys.stderr = self.stdout, self.stderr

    def _text(self, descriptor: int) -> TextIO:
        return open(descriptor, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")

    def _file(self, stream: str) -> str:
        return f"{self.logs}/{self.name}.{stream}"

    def _take_file(self, descriptor: int, stream: str) -> None:
        _place(os.open(self._file(stream), _APPEND | os.O_TRUNC, 0o600), descriptor)

    def settle(self) -> None:
        """Take note of the worker's own handlers of signals, once it has them."""
        self.handlers = tuple(map(getsignal, _SIGNALS))

    # -- before ------------------------------------------------------------------------------------------------------

    def look_in(self, path: tuple[str, ...]) -> None:
        """Find modules there first, for all tasks from now on."""
        if path != self.told:
            look_in(path)
            self.told, self.folders = path, sys.path[:]

    def hold(self, cpus: tuple[int, ...], variables: dict[str, str]) -> None:
        """Bind to `cpus` (to what the process started with, when empty), and keep `variables` for all tasks.

        Those for numbers of threads are kept only where nobody has set them.
        """
        wanted = set(cpus)
        if wanted != self.bound:
            os.sched_setaffinity(0, wanted or self.cores)
            self.bound = wanted
        held = {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
        for name in map(os.fsencode, THREADS):
            if name in self.inherited:  # from the user's shell, or from what each worker calls first
                held.pop(name, None)
        self.variables = {**self.inherited, **held}  # what was held before is not: it may name others' devices
        self._restore_variables()

    def enter(self, environment: Environment, task: int) -> None:
        """Make `environment` so. Raises StagingError when its software, or a directory or a file, cannot be made."""
        if environment.software != PLAIN:
            self.software.enter(environment)
        os.environ.update(environment.variables)
        try:
            self._settle_in(environment, task)
        except OSError as raised:
            hint = "name another in directory=, stdout= or stderr= of the task"
            raise StagingError(f"{raised.filename} cannot be made, or used: {raised.strerror}", hint=hint) from raised

    def _settle_in(self, environment: Environment, task: int) -> None:
        if environment.directory:
            directory = f"{self.run}/work/{task}" if environment.directory == "auto" else environment.directory
            os.makedirs(directory, exist_ok=True)
            os.chdir(directory)
        for place, file in enumerate((environment.stdout, environment.stderr)):
            if file:
                path = Path(file).absolute()
                path.parent.mkdir(parents=True, exist_ok=True)
                _place(os.open(path, _APPEND, 0o666), _STREAMS[place][0])
                self._given[place] = str(path)

    @property
    def software(self) -> Software:
        """What tasks have been prepared for; most workers are never asked."""
        if self._software is None:
            from heald.run.software import Software

            self._software = Software(self.run, self.home, self.inherited)
        return self._software

    def around(self) -> dict[str, Any]:
        """Directory, `sys.argv`, changed variables, cores, files for output: for a process started before them."""
        return {
            "directory": os.getcwd(),
            "argv": sys.argv,
            "variables": {name: text for name, text in os.environ.items() if self._is_new(name, text)},
            "cores": sorted(os.sched_getaffinity(0)),
            "files": [given or self._file(name) for given, (_, name) in zip(self._given, _STREAMS, strict=True)],
        }

    def _is_new(self, name: str, text: str) -> bool:
        return self.inherited.get(os.fsencode(name)) != os.fsencode(text)

    def staging(self, task: int) -> Path:
        """Where files of the task that are brought here, or written here for elsewhere, live."""
        return Path(self.run, "files", str(task))

    @property
    def cache(self) -> Path:
        """Where files brought from elsewhere are shared by all tasks of the run."""
        return Path(self.run, "files", "cache")

    def kept_value(self, ref: Ref) -> bytearray:
        """The bytes of a large value that an earlier process left in the folder of the run."""
        from heald.store.folder import Folder  # a run that was never killed has no use for it

        return bytearray(Folder(self.run).get(ref))

    def outputs(self, task: int, attempt: int, line: int = 0) -> tuple[Path | None, Path | None]:
        """Where the running attempt's standard output and error will be found when it is over.

        `line`: the number of a command line of several, whose output is there from now on.
        """
        paths: list[Path | None] = []
        for (descriptor, stream), given in zip(_STREAMS, self._given, strict=True):
            if given:
                paths.append(Path(given))
            elif os.lseek(descriptor, 0, os.SEEK_END):
                target = log.path(self.logs, task, attempt, stream, line)
                paths.append(target)
                if line:
                    self._give_name(stream, target)
                    self._take_file(descriptor, stream)
            else:
                paths.append(None)
        return paths[0], paths[1]

    def _give_name(self, stream: str, target: Path) -> None:
        try:
            os.rename(self._file(stream), target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self._file(stream), target)

    def full_disk(self) -> str:
        """Which of the disks that attempts write to is full, in words; empty when none is."""
        return full((self.logs, self.home, os.environ.get("TMPDIR") or "/tmp"))

    # -- after -------------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Put right what the task changed: directory, variables, streams; end the processes that it left."""
        if sys.path is not self.path or sys.path != self.folders:
            sys.path = self.path
            sys.path[:] = self.folders
        if sys.argv != self.argv:
            sys.argv = self.argv[:]
        if sys.getrecursionlimit() != self.depth:
            sys.setrecursionlimit(self.depth)
        try:
            moved = os.getcwd() != self.home
        except FileNotFoundError:
            moved = True
        if moved:
            os.chdir(self.home)
        self._restore_variables()
        os.umask(self.umask)
        try:
            os.fstat(0)
        except OSError:  # it closed it; files that are opened from here on must not take its number
            _take_no_input()
        if tuple(map(getsignal, _SIGNALS)) != self.handlers:
            self._restore_handlers()
        sys.stdout, sys.stderr = self.stdout, self.stderr
        for stream in (self.stdout, self.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # a full disk, or the task closed it
                pass
        for place, (descriptor, name) in enumerate(_STREAMS):
            if self._given[place]:
                _place(os.open(self._file(name), _APPEND, 0o600), descriptor)
        self._end_children()

    def _restore_variables(self) -> None:
        if kernel.raw_environment() != self.variables:
            os.environ.clear()
            os.environ.update({os.fsdecode(name): os.fsdecode(value) for name, value in self.variables.items()})

    def _restore_handlers(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)  # its alarm would ring in the next task
        for number, handler in zip(_SIGNALS, self.handlers, strict=True):
            signal.signal(number, handler)

    def await_children(self) -> None:
        """Wait until all that the task has started is over."""
        kernel.await_children(self._lasting_children())

    def _end_children(self) -> None:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return  # by far the commonest: it left none
        kernel.end_children(self._lasting_children())

    def _lasting_children(self) -> set[int]:
        """Interpreters, and helpers that multiprocessing keeps, for the life of a process, not for a task."""
        found: set[int] = set() if self._software is None else self._software.processes
        for module, name, attribute in (
            ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
            ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
        ):
            if module in sys.modules:
                pid = getattr(getattr(sys.modules[module], name, None), attribute, None)
                if isinstance(pid, int):
                    found.add(pid)
        return found

    def collect(self, task: int, attempt: int) -> tuple[str, str]:
        """Give the attempt's output its name: the paths of standard output and error, empty where there was none."""
        paths, self._given = self._given, ["", ""]
        for place, (descriptor, stream) in enumerate(_STREAMS):
            try:
                if os.lseek(descriptor, 0, os.SEEK_END) == 0:
                    continue
                target = log.path(self.logs, task, attempt, stream)
                self._give_name(stream, target)
                paths[place] = str(target)
            except OSError:
                pass  # the task closed it, or the disk is full: a fresh file serves the next one
            self._take_file(descriptor, stream)
        if self.stdout.closed or self.stderr.closed:
            self.stdout, self.stderr = self._text(1), self._text(2)
            sys.stdout, sys.stderr = self.stdout, self.stderr
        return paths[0], paths[1]


def _take_no_input() -> None:
    _place(os.open(os.devnull, os.O_RDONLY), 0)


def _place(opened: int, descriptor: int) -> None:
    """Make what was opened the file behind `descriptor`, which may be closed: the system gives out its number again."""
    if opened == descriptor:
        os.set_inheritable(descriptor, True)
    else:
        os.dup2(opened, descriptor)
        os.close(opened)

"""The life of a testbed: one process whose end is the end of everything in the testbed.

It is the init of a PID namespace and owns the network between the hosts, so the kernel itself takes down every process,
interface and mount below it, whoever dies first. This module knows nothing of hosts and schedulers.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

FOLDER = Path("/tmp/heald-testbed")  # short, as the paths of sockets must be, and seen by every host
CGROUPS = Path("/sys/fs/cgroup/memory")  # of version 1, where the machine has it
PATIENCE = 15.0  # seconds that starting or ending one thing may take

# Nothing of the caller's: a machine does not know who switched it on.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": os.path.expanduser("~"),
    "LANG": "C.UTF-8",
} | {name: os.environ[name] for name in ("TZ",) if name in os.environ}

# The machine's own /proc stays readable at /run/machine, so that who starts here can tell its PID as the machine sees
# it. SIGCHLD is ignored so that the kernel reaps what is orphaned here.
_INIT = """
set -e
read -r pid _ </proc/self/stat
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/machine /run/netns
mount --bind /proc /run/machine
mount -t proc proc /proc
ip link set lo up
echo "$pid" >"$1/pid.new"
mv "$1/pid.new" "$1/pid"
shift
exec env --ignore-signal=CHLD "$@"
"""


class TestbedFailed(Exception):
    """A part of the testbed did not start, or a command in it failed; the text has what it printed."""

    __test__ = False  # a name that pytest would collect


class Keeper:
    """The living root of one testbed: starts processes in it, and ends them all."""

    def __init__(self, folder: Path, process: psutil.Process, lifeline: int | None = None) -> None:
        self.folder = folder
        self._process = process
        self._lifeline = lifeline

    @classmethod
    def start(cls, name: str, *, tied: bool) -> Keeper:
        """A new testbed's keeper; `tied` ends it with this process, however this process ends."""
        folder = FOLDER / name
        with _lock():
            _sweep()
            if folder.exists():
                raise TestbedFailed(f"a testbed {name!r} is up already: take another name, or take it down")
            folder.mkdir(parents=True)
            ours, theirs = os.pipe()  # closed by the kernel when this process ends: then `cat` ends, and all with it
            stay = ["cat"] if tied else ["sleep", "infinity"]
            unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--"]
            with (folder / "keeper.log").open("w") as log:
                # Forked off, so that it is nobody's child here: a test looks at what it left among its own children.
                _run(
                    ["setsid", "--fork", *unshare, "sh", "-c", _INIT, "sh", str(folder), *stay],
                    log.fileno(),
                    ours if tied else subprocess.DEVNULL,
                )
            os.close(ours)
            if not tied:
                os.close(theirs)
            try:
                wait_for(lambda: (folder / "pid").exists(), f"the keeper of {name!r}", folder / "keeper.log")
            except TestbedFailed:
                _remove(name)
                raise
            process = psutil.Process(int((folder / "pid").read_text()))
            (folder / "keeper.json").write_text(json.dumps({"pid": process.pid, "created": process.create_time()}))
        return cls(folder, process, theirs if tied else None)

    @classmethod
    def find(cls, name: str) -> Keeper:
        """The keeper of a testbed that is up, whoever started it."""
        process = _living(FOLDER / name)
        if process is None:
            raise TestbedFailed(f"no testbed {name!r} is up")
        return cls(FOLDER / name, process)

    def _enter(self) -> list[str]:
        """What to put before a command so that it runs here: it sees the ports of the network that joins the hosts."""
        return ["nsenter", f"--target={self._process.pid}", "--net", "--mount", "--pid"]

    def run(self, command: Sequence[str], *, text: str = "") -> str:
        """Run a command of the testbed itself to its end; what it printed."""
        done = subprocess.run(
            [*self._enter(), "--", *command], input=text, capture_output=True, text=True, env=ENVIRONMENT
        )
        if done.returncode:
            raise TestbedFailed(f"{' '.join(command)}: {done.stdout}{done.stderr}".strip())
        return done.stdout

    def spawn(self, command: Sequence[str], log: Path, folder: Path = Path("/")) -> None:
        """Start a process that lives until the testbed ends; what it prints goes to `log`."""
        with log.open("a") as file:
            _run([*self._enter(), f"--wdns={folder}", "--", "setsid", "--fork", *command], file.fileno())

    def end(self) -> None:
        """End every process of the testbed, and remove its folder."""
        self._process.kill()
        wait_for(lambda: not _lives(self._process), f"the end of {self.folder.name}")
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        with _lock():
            _remove(self.folder.name)


def names() -> list[str]:
    """The testbeds that are up."""
    folders = sorted(FOLDER.iterdir()) if FOLDER.exists() else []
    return [folder.name for folder in folders if folder.is_dir() and _living(folder)]


def cgroup(name: str) -> Path:
    """Where a testbed may limit the memory of its jobs."""
    return CGROUPS / f"heald-testbed-{name}"


def wait_for(fact: Callable[[], object], what: str, log: Path | None = None, patience: float = PATIENCE) -> None:
    """Wait for a fact of other processes, which cannot wake us; raises TestbedFailed with the log's end."""
    deadline = time.monotonic() + patience
    while not fact():
        if time.monotonic() > deadline:
            said = log.read_text()[-2000:] if log is not None and log.exists() else ""
            raise TestbedFailed(f"{what}: not within {patience:g} s\n{said}".strip())
        time.sleep(0.005)


def _run(command: Sequence[str], log: int, stdin: int = subprocess.DEVNULL) -> None:
    subprocess.run(command, stdin=stdin, stdout=log, stderr=log, cwd="/", env=ENVIRONMENT, check=True)


def _living(folder: Path) -> psutil.Process | None:
    """The keeper that a folder names, if it is still that process."""
    try:
        record = json.loads((folder / "keeper.json").read_text())
        process = psutil.Process(record["pid"])
        return process if process.create_time() == record["created"] and _lives(process) else None
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _sweep() -> None:
    """Remove what testbeds left whose starters were killed: their processes have ended with them, the files not."""
    for folder in FOLDER.iterdir():
        if folder.is_dir() and _living(folder) is None:
            _remove(folder.name)


def _remove(name: str) -> None:
    """Remove the files and the control groups of a testbed that has ended; another starter may have done it."""
    if (FOLDER / name).exists():
        shutil.rmtree(FOLDER / name)
    for group, _, _ in os.walk(cgroup(name), topdown=False):
        os.rmdir(group)  # this is how the kernel wants it, though there are files inside


@contextmanager
def _lock() -> Iterator[None]:
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file closes
        yield

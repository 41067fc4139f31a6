"""The few Linux calls that Python's library lacks, and what /proc tells of processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Container, Iterable, Mapping

_SUBREAPER, _PARENT_DEATH = 36, 1  # PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG


def _prctl(option: int, value: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none escapes."""
    _prctl(_SUBREAPER, 1)


def die_with_parent() -> None:
    """Be killed when the thread that forked this process ends."""
    _prctl(_PARENT_DEATH, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """The processes that `pid` is the parent of."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as listing:
                found.extend(map(int, listing.read().split()))
        except OSError:
            continue
    return found


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, parents before children."""
    found: list[int] = []
    stack = children(pid)
    while stack:
        child = stack.pop()
        found.append(child)
        stack.extend(children(child))
    return found


def name(pid: int) -> str:
    """The name of the program that a process runs, its first 15 letters; empty when it has ended."""
    try:
        with open(f"/proc/{pid}/comm") as comm:
            return comm.read().strip()
    except OSError:
        return ""


def has_ended(pid: int) -> bool:
    """Whether a process has ended, though perhaps nobody has asked how yet."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in b"ZX"
    except OSError:
        return True


def carrying(variables: Mapping[str, str]) -> list[int]:
    """The processes of this user on this machine that were started with these variables, whoever their parent is."""
    wanted = {os.fsencode(f"{name}={value}") for name, value in variables.items()}
    found: list[int] = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as environ:
                if wanted.issubset(environ.read().split(b"\0")):
                    found.append(int(name))
        except OSError:
            continue
    return found


def end_children(keep: Container[int]) -> None:
    """Kill and reap every child of this process and all below it, except those in `keep`.

    What is forked while they are killed is a child of this process after that, and is killed in the next round: only
    for what was killed it waits.
    """
    while strays := [pid for pid in children(os.getpid()) if pid not in keep]:
        for pid in strays:
            for below in (pid, *descendants(pid)):
                kill(below, signal.SIGKILL)
        for pid in strays:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass


def await_children(keep: Container[int]) -> None:
    """Wait until every child of this process is over, except those in `keep`."""
    while left := [pid for pid in children(os.getpid()) if pid not in keep]:
        try:
            os.waitpid(left[0], 0)
        except ChildProcessError:
            pass


def kill(pid: int, number: int) -> bool:
    """Send a signal to a process; False when there is none any more."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_group(pid: int, number: int) -> bool:
    """Send a signal to a process group; False when there is none any more."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_others(number: int) -> None:
    """Send a signal to all other processes of this one's group. To be called in the main thread."""
    handler = signal.signal(number, signal.SIG_IGN)
    os.killpg(0, number)
    signal.signal(number, handler)


def raw_argv() -> tuple[bytes, ...]:
    """`sys.argv` as the system has it: names of files need not be text."""
    return tuple(os.fsencode(str(one)) for one in sys.argv)


def take_argv(raw: Iterable[bytes]) -> None:
    """Make `sys.argv` that of the program whose tasks this process runs, as multiprocessing does."""
    sys.argv[:] = map(os.fsdecode, raw)


def raw_environment() -> dict[bytes, bytes]:
    """This process's variables as they are kept: not to be changed, and not a copy."""
    # os.environ decodes on every access; its own bytes are 30 times quicker to compare or to hand on.
    return os.environ._data  # type: ignore[attr-defined,no-any-return]


def exit_status(status: int) -> int:
    """A status of `os.wait` as `subprocess` gives it: negative for a signal."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def exit_text(status: int) -> str:
    """An exit status in words.

    >>> exit_text(3), exit_text(-11)
    ('exited with status 3', 'was killed by SIGSEGV (signal 11)')
    """
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "a signal"
    return f"was killed by {name} (signal {-status})"

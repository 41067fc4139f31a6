"""The processes of one measurement as a whole: the CPU time of all of them, and the end of all of them.

Systems start daemons that leave the process group and outlive their parent, so a control group (version 2) is used
where one can be made, and otherwise the tree of processes below a reaper of orphans.
"""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

END_SECONDS = 20
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class ControlGroup:
    """A control group of the kernel: exact, and nothing can leave it unseen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(name)

    def cpu(self) -> float:
        """Give the CPU seconds that the processes have used, those that have ended too."""
        usage = (self.folder / "cpu.stat").read_text().split(maxsplit=2)[1]
        return int(usage) / 1e6

    def processes(self) -> list[int]:
        return [int(word) for word in (self.folder / "cgroup.procs").read_text().split()]

    def close(self) -> None:
        """Let go of the group, once it is empty."""
        self.folder.rmdir()


class Tree:
    """This process and all below it. Orphans stay below it, because it adopts them; CPU time in ticks of 10 ms."""

    name = ""

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def cpu(self) -> float:
        fields = [_stat(process) for process in (os.getpid(), *self.processes())]
        # User and system time, its own and that of the children it has waited for.
        ticks = sum(sum(map(int, field[11:15])) for field in fields if field)
        return ticks / os.sysconf("SC_CLK_TCK")

    def processes(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (field := _stat(int(entry.name))) and field[0] != "Z":
                children.setdefault(int(field[1]), []).append(int(entry.name))
        return list(_below(os.getpid(), children))

    def close(self) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            pass


Group = ControlGroup | Tree


def make(name: str) -> Group:
    """Make a group for a measurement to join: a control group if this user may, otherwise the tree."""
    try:
        folder = _own_control_group() / name
        folder.mkdir()
    except OSError:
        return Tree()
    return ControlGroup(str(folder))


def join(name: str) -> Group:
    """Put this process into the group of that name; an empty name is the tree below this process."""
    if not name:
        return Tree()
    group = ControlGroup(name)
    (group.folder / "cgroup.procs").write_text("0")
    return group


@contextmanager
def inside(group: Group) -> Iterator[None]:
    """Have what is started meanwhile belong to the group."""
    home = str(_own_control_group()) if group.name else ""
    join(group.name)
    try:
        yield
    finally:
        join(home)


def end(group: Group) -> None:
    """Kill whatever is left in the group, until nothing is."""
    deadline = time.monotonic() + END_SECONDS
    while (left := group.processes()) and time.monotonic() < deadline:
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    try:
        group.close()
    except OSError as error:
        print(f"bench: processes {left} outlive their group: {error}")


def _own_control_group() -> Path:
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    mount = next((words[1] for words in mounts if words[2] == "cgroup2"), None)
    if mount is None:
        raise FileNotFoundError("no control groups of version 2")
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    return Path(mount + own)


def _stat(process: int) -> list[str]:
    """Give the fields of /proc/PID/stat from the state on (the name before may hold spaces); none once it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _below(process: int, children: dict[int, list[int]]) -> Iterator[int]:
    for child in children.get(process, ()):
        yield child
        yield from _below(child, children)

"""What a node has, seen from inside it: cores, NUMA domains, devices, memory, and what the scheduler granted.

Standard library only, and nothing is started but `nvidia-smi` where a kernel without /proc/driver/nvidia asks for it:
a thousand agents do this at the same time.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from heald.site.device import VISIBLE
from heald.site.hostlist import expand
from heald.site.profile import NodeShape

HOSTS = "HEALD_HOSTS"  # the hosts of a job whose scheduler does not say so itself, set by its script
ENDS = "HEALD_ENDS"  # when a job will be ended, in seconds since the epoch; set by its script
LEFT = "HEALD_LEFT"  # in how many seconds that is, by the clock of its first node when the agents are started

_ROOT = Path("/")
_INTEL_COMPUTE = "0x0380"  # PCI class: a display controller without a screen; an integrated GPU is 0x0300


class Machine(msgspec.Struct, frozen=True):
    """This node, as far as this process may use it.

    `cpus`: ids of hardware threads. `cores`: the same, grouped by core; `domains`: by NUMA domain. `gpus`: names of
    devices as their vendor's variable takes them, `gpu` the vendor. `memory` in bytes.
    """

    name: str
    cpus: tuple[int, ...]
    cores: tuple[tuple[int, ...], ...]
    domains: tuple[tuple[int, ...], ...]
    gpu: str
    gpus: tuple[str, ...]
    memory: int

    @property
    def shape(self) -> NodeShape:
        """Its counts."""
        return NodeShape(len(self.cores), len(self.domains), len(self.gpus), self.gpu, self.memory)


class Grant(msgspec.Struct, frozen=True):
    """The batch job that this process is in: whose (`scheduler`, as in a Site; empty when not known), its id, its hosts
    in order, when it will be ended (None: not known without asking), and how many cores of this node are its (0: all).
    """

    scheduler: str = ""
    job: str = ""
    hosts: tuple[str, ...] = ()
    ends: datetime | None = None
    cpus: int = 0


def machine(variables: Mapping[str, str] = os.environ, root: Path = _ROOT) -> Machine:
    """This node. `variables` and `root` stand in for the environment and the file system in tests.

    >>> here = machine()
    >>> len(here.cpus) >= len(here.cores) >= len(here.domains) >= 1
    True
    """
    limit = min(filter(None, (_quota(root), grant(variables, root).cpus)), default=0)
    cores = _by_core(os.sched_getaffinity(0) if root == _ROOT else _online(root), root)
    cores = cores[:limit] if limit else cores
    cpus = tuple(sorted(cpu for core in cores for cpu in core))
    gpu, gpus = _devices(variables, root)
    name = variables.get("SLURMD_NODENAME") or socket.gethostname()
    return Machine(name, cpus, tuple(cores), _by_domain(cpus, root), gpu, gpus, _memory(variables, root))


def grant(variables: Mapping[str, str] = os.environ, root: Path = _ROOT) -> Grant:
    """The batch job that this process is in.

    >>> grant({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_CPUS_ON_NODE": "4"}).hosts
    ('n1', 'n2')
    """
    ends = variables.get("SLURM_JOB_END_TIME") or variables.get(ENDS) or ""
    until = datetime.fromtimestamp(int(ends), UTC) if ends.isdigit() else None
    if own := variables.get(HOSTS):
        return Grant("", "", tuple(host for word in own.split() for host in expand(word)), until)
    if job := variables.get("SLURM_JOB_ID"):
        granted = int(variables.get("SLURM_CPUS_ON_NODE") or 0)
        return Grant("slurm", job, expand(variables.get("SLURM_JOB_NODELIST", "")), until, granted)
    if (job := variables.get("PBS_JOBID")) and "PBS_NODEFILE" in variables:
        hosts = _once(_lines(root, variables["PBS_NODEFILE"]))
        return Grant("pbs", job, hosts, until)
    if job := variables.get("LSB_JOBID"):
        words = variables.get("LSB_MCPU_HOSTS", "").split()
        slots = dict(zip(words[::2], map(int, words[1::2]), strict=False))
        return Grant("lsf", job, tuple(slots), until, _own(slots))
    if (job := variables.get("JOB_ID")) and "SGE_ROOT" in variables:
        rows = [line.split() for line in _lines(root, variables.get("PE_HOSTFILE", ""))]
        slots = {row[0]: int(row[1]) for row in rows} or {socket.gethostname(): int(variables.get("NSLOTS", 1))}
        return Grant("gridengine", job, tuple(slots), until, _own(slots))
    return Grant(ends=until)


def _own(slots: Mapping[str, int]) -> int:
    """The slots on this node, whose name may be known with or without its domain."""
    name = socket.gethostname().partition(".")[0]
    return next((count for host, count in slots.items() if host.partition(".")[0] == name), 0)


# Cores


def _by_core(cpus: Iterable[int], root: Path) -> list[tuple[int, ...]]:
    allowed, found = set(cpus), dict[int, tuple[int, ...]]()
    for cpu in sorted(allowed):
        siblings = _text(root, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        threads = tuple(sorted(allowed & {*numbers(siblings), cpu}))
        found.setdefault(threads[0], threads)
    return list(found.values())


def _by_domain(cpus: tuple[int, ...], root: Path) -> tuple[tuple[int, ...], ...]:
    folders = sorted((root / "sys/devices/system/node").glob("node[0-9]*"), key=lambda path: int(path.name[4:]))
    domains = [tuple(cpu for cpu in numbers(_text(path, "cpulist")) if cpu in cpus) for path in folders]
    return tuple(filter(None, domains)) or (cpus,)


def _online(root: Path) -> tuple[int, ...]:
    return numbers(_text(root, "sys/devices/system/cpu/online"))


def _quota(root: Path) -> int:
    """Whole cores that the control group of this process may keep busy; 0 for no limit."""
    limits = []
    for folder in _groups(root, "cpu"):
        quota, _, period = (_text(folder, "cpu.max") or _text(folder, "cpu.cfs_quota_us")).partition(" ")
        period = period or _text(folder, "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            limits.append(max(1, int(quota) // int(period)))
    return min(limits, default=0)


def _groups(root: Path, controller: str) -> list[Path]:
    """The folders of this process' control groups that may limit it, up to the root; version 1 and 2."""
    found = []
    for line in _lines(root, "proc/self/cgroup"):
        _, controllers, name = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / (controller if controllers else "")
            folder = top / name.strip("/")
            found += [path for path in (folder, *folder.parents) if path == top or top in path.parents]
    return found


def _memory(variables: Mapping[str, str], root: Path) -> int:
    total = re.search(r"MemTotal:\s*(\d+) kB", _text(root, "proc/meminfo"))
    sizes = [int(total[1]) * 1024] if total else []
    for folder in _groups(root, "memory"):
        limit = _text(folder, "memory.max") or _text(folder, "memory.limit_in_bytes")
        sizes += [int(limit)] if limit.isdigit() else []
    granted = variables.get("SLURM_MEM_PER_NODE", "")  # MiB
    sizes += [int(granted) * 2**20] if granted.isdigit() and int(granted) else []
    return min(sizes, default=0)


# Devices


def _devices(variables: Mapping[str, str], root: Path) -> tuple[str, tuple[str, ...]]:
    """The vendor of the devices, and their names: those that the scheduler left visible, else all there are."""
    flat = variables.get("ZE_FLAT_DEVICE_HIERARCHY") in ("FLAT", "COMBINED")
    all_there = {"nvidia": _nvidia(root), "amd": _amd(root), "intel": _intel(root, flat)}
    present = [vendor for vendor, names in all_there.items() if names]
    for vendor in dict.fromkeys((*present, *VISIBLE)):  # Slurm sets the variables of all vendors
        named = [name for name in variables.get(VISIBLE[vendor], "").split(",") if re.fullmatch(r"[\w.:/-]+", name)]
        named = [name for name in named if name not in ("-1", "NoDevFiles")]
        if named:
            return vendor, tuple(named)
    return next(((one, tuple(all_there[one])) for one in present if VISIBLE[one] not in variables), ("", ()))


def _nvidia(root: Path) -> list[str]:
    return [str(number) for number, _ in enumerate((root / "proc/driver/nvidia/gpus").glob("*"))]


def _amd(root: Path) -> list[str]:
    nodes = (root / "sys/class/kfd/kfd/topology/nodes").glob("*/properties")
    units = [re.search(r"^simd_count (\d+)", _text(path.parent, path.name), re.MULTILINE) for path in nodes]
    return [str(number) for number, _ in enumerate(unit for unit in units if unit and int(unit[1]))]


def _intel(root: Path, flat: bool) -> list[str]:
    """The tiles: by card and tile, or counted through where programs are told to see each as a device."""
    cards = (root / "sys/class/drm").glob("card[0-9]*")
    cards = (card for card in cards if _text(card, "device/vendor") == "0x8086")
    compute = sorted(card for card in cards if _text(card, "device/class").startswith(_INTEL_COMPUTE))
    names: list[str] = []
    for number, card in enumerate(compute):
        tiles = len(list(card.glob("gt/gt[0-9]*")))
        names += [f"{number}.{tile}" for tile in range(tiles)] if tiles > 1 else [str(number)]
    return [str(number) for number, _ in enumerate(names)] if flat else names


# Files of the kernel


def _text(root: Path, name: str) -> str:
    """The text of a file; empty when it is not there."""
    try:
        return (root / name).read_text().strip()
    except OSError:
        return ""


def _lines(root: Path, name: str) -> list[str]:
    return _text(root, name.lstrip("/")).splitlines() if name else []


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def numbers(ranges: str) -> tuple[int, ...]:
    """Numbers in the kernel's way of writing.

    >>> numbers("0-2,8")
    (0, 1, 2, 8)

    Raises ValueError for what are none.
    """
    ends = (part.partition("-")[::2] for part in ranges.split(",") if part)
    return tuple(number for first, last in ends for number in range(int(first), int(last or first) + 1))

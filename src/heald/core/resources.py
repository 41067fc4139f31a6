"""What an attempt needs, and the units people write it in.

Durations are `timedelta`, seconds or text ("90s", "10m", "1:30:00", "2d"); sizes are bytes or text ("4GB", "512MiB").
Records keep seconds and bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

import msgspec

from heald.core.errors import UsageError

_PARTS = 10**6  # attempts on a node at a time from which a limit is a mistake
_MOST = 2**53  # seconds, bytes and counts from which a number is a mistake
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*"  # of a duration: a number and its unit
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def seconds(duration: timedelta | float | str) -> float:
    """Seconds in a duration written as people write it.

    >>> seconds("10m"), seconds("1:30:00"), seconds(timedelta(minutes=2)), seconds(1.5)
    (600.0, 5400.0, 120.0, 1.5)

    Raises UsageError for text that is no duration, and for a negative one.
    """
    value: float
    if isinstance(duration, timedelta):
        value = duration.total_seconds()
    elif isinstance(duration, str):
        value = _parse_seconds(duration)
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        value = duration
    else:
        raise UsageError(f"{duration!r} is no duration", hint='write "10m", "1:30:00", seconds or a timedelta')
    if not 0 <= value < _MOST:
        raise UsageError(f"a duration cannot be {duration!r}", hint='write "10m", "1:30:00", seconds or a timedelta')
    return float(value)


def _parse_seconds(given: str) -> float:
    text = given.strip().lower()
    if re.fullmatch(r"(\d+:)?\d+:\d+(\.\d+)?", text):
        total = 0.0
        for part in text.split(":"):
            total = total * 60 + float(part)
        return total
    parts = re.findall(_PART, text)
    lone = len(parts) == 1  # only then the unit may be left out
    if not parts or re.sub(_PART, "", text) or any(unit not in _SECONDS or not (unit or lone) for _, unit in parts):
        raise UsageError(f"{given!r} is no duration", hint='write "90s", "10m", "1h 30m", "1:30:00" or seconds')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def size(amount: int | float | str) -> int:
    """Bytes in an amount of memory or disk written as people write it.

    >>> size("4GB"), size("512MiB"), size(100)
    (4000000000, 536870912, 100)

    Raises UsageError for text that is no size, and for a negative one.
    """
    value: object = amount
    if isinstance(amount, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", amount.strip().lower())
        value = float(found[1]) * _BYTES[found[2]] if found is not None and found[2] in _BYTES else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST:
        raise UsageError(f"{amount!r} is no size", hint='write "4GB", "512MiB" or a number of bytes')
    return int(value)


class Resources(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one attempt of a task needs.

    `nodes`: whole machines it spreads over, at least 1. `ranks`: processes in all (MPI), spread evenly over the nodes.
    `cpus`: cores for each rank. `gpus`: devices for each rank; a fraction below 1 shares one device.
    `memory`: bytes on each node, 0 when not stated. `walltime`: seconds after which it is stopped, 0 for no limit.
    `hosts`: names of machines, on no others; empty for any. `tasks_per_node`: takes such a part of a node that no more
    attempts that ask so are on it at a time, whatever else they need; 0 for no limit. `notice`: seconds before the end
    of its walltime, or of its nodes, at which it is told that its time ends; 0 for never.

    >>> Resources(ranks=4, cpus=2).cpus_per_node
    8
    """

    cpus: int = 1
    gpus: float = 0.0
    memory: int = 0
    walltime: float = 0.0
    ranks: int = 1
    nodes: int = 1
    hosts: tuple[str, ...] = ()
    tasks_per_node: int = 0
    notice: float = 0.0

    @property
    def span(self) -> float:
        """Seconds for which its nodes must be there: until it ends, or else until it has been told of the end."""
        return self.walltime or self.notice

    @property
    def ranks_per_node(self) -> int:
        """Ranks on the fullest of its nodes."""
        return -(-self.ranks // self.nodes)

    @property
    def cpus_per_node(self) -> int:
        """Cores on the fullest of its nodes."""
        return self.cpus * self.ranks_per_node


SINGLE = Resources()


def resources(
    *,
    cpus: int = 1,
    gpus: float = 0,
    memory: int | str | None = None,
    walltime: timedelta | float | str | None = None,
    ranks: int | None = None,
    nodes: int = 1,
    ranks_per_node: int | None = None,
    hosts: str | Sequence[str] = (),
    tasks_per_node: int = 0,
    notice: timedelta | float | str | None = None,
) -> Resources:
    """A Resources from what users write, checked. Of `memory`, `walltime` and `notice`, None is none, as is 0.

    >>> needs = resources(ranks=2, walltime="10m", memory="1GB")
    >>> needs.walltime, needs.memory
    (600.0, 1000000000)

    Raises UsageError for counts below 1, GPU amounts that are neither a fraction of one nor whole, ranks that
    contradict `ranks_per_node`, fewer hosts than nodes, and a notice that is no shorter than the walltime.
    """
    if isinstance(tasks_per_node, bool) or not isinstance(tasks_per_node, int) or not 0 <= tasks_per_node <= _PARTS:
        raise UsageError(f"tasks_per_node={tasks_per_node!r}: must be a whole number up to {_PARTS}, or 0 for no limit")
    for name, value in (("cpus", cpus), ("nodes", nodes), ("ranks", ranks), ("ranks_per_node", ranks_per_node)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < _MOST):
            raise UsageError(f"{name}={value!r}: must be a whole number, at least 1")
    whole = not isinstance(gpus, bool) and isinstance(gpus, int | float) and 0 <= gpus < _MOST
    if not whole or (gpus > 1 and gpus != int(gpus)):
        raise UsageError(f"gpus={gpus!r}: must be 0, a fraction of one device, or a whole number of devices")
    if ranks_per_node is not None:
        if ranks is not None and ranks != nodes * ranks_per_node:
            raise UsageError(
                f"ranks={ranks} is not nodes={nodes} x ranks_per_node={ranks_per_node}",
                hint="leave one of the three out",
            )
        ranks = nodes * ranks_per_node
    ranks = ranks or nodes
    if ranks < nodes:
        raise UsageError(f"ranks={ranks} on nodes={nodes}: a node would have none", hint="lower nodes or raise ranks")
    chosen = _hosts(hosts)
    if chosen and len(chosen) < nodes:
        raise UsageError(f"nodes={nodes} of hosts={chosen}: there are only {len(chosen)}", hint="name more, or none")
    time, before = seconds(0 if walltime is None else walltime), seconds(0 if notice is None else notice)
    if time and before >= time:
        raise UsageError(f"notice={notice!r}: must be less than walltime={walltime!r}")
    allowed = size(0 if memory is None else memory)
    return Resources(cpus, float(gpus), allowed, time, ranks, nodes, chosen, tasks_per_node, before)


def _hosts(given: str | Sequence[str]) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple | set | frozenset) or not all(
        isinstance(name, str) and name for name in names
    ):
        raise UsageError(f"hosts={given!r}: must be names of machines", hint='write hosts=["n3", "n4"]')
    return tuple(sorted(set(names)))

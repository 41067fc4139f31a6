"""Jobs and nodes as the fake PBS keeps them, and where a job's chunks find room."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tests.testbed.fake.pbs.submission import Submission, size
from tests.testbed.fake.session import Session

SERVER = "n0"
ACTIVE = ("R", "E")
_COUNTED = ("ncpus", "ngpus", "mem")


@dataclass
class Node:
    """A machine that jobs run on."""

    name: str
    available: dict[str, int]  # memory in bytes
    mom: bool = True  # its daemon answers
    offline: bool = False
    changed: float = field(default_factory=time.time)
    used: float | None = None


@dataclass
class Job:
    """A job, an array of jobs, or one of an array's."""

    id: str
    asked: Submission
    index: int | None = None
    members: list[Job] = field(default_factory=list)  # of an array
    state: str = "Q"
    substate: int = 10
    hold: str = "n"
    created: float = field(default_factory=time.time)
    changed: float = field(default_factory=time.time)
    eligible: float | None = None
    started: float | None = None
    ended: float | None = None
    places: list[tuple[str, dict[str, int]]] = field(default_factory=list)  # of each chunk: host, what it takes there
    slots: list[int] = field(default_factory=list)  # its number among the jobs of that host
    status: int | None = None
    comment: str = ""
    runs: int = 0
    fate: str = ""  # why it is ended: "deleted", "walltime"
    sessions: list[Session] = field(default_factory=list)  # of the script, then those of pbsdsh

    @property
    def name(self) -> str:
        """As its user named it."""
        return self.asked.name

    @property
    def hosts(self) -> list[str]:
        """Where it runs, in the order of its chunks, each once."""
        return list(dict.fromkeys(host for host, _ in self.places))

    @property
    def rerunable(self) -> bool:
        """Whether it may be started again."""
        return self.asked.options.get("r", "y") == "y"

    @property
    def number(self) -> str:
        """The part of its id before all else: "3" of 3[1].n0."""
        return self.id.partition(".")[0].partition("[")[0]

    def move(self, state: str, substate: int) -> None:
        """Go into another state."""
        self.state, self.substate, self.changed = state, substate, time.time()

    def total(self, resource: str) -> int:
        """What all chunks need of a resource."""
        return sum(_need(chunk).get(resource, 0) for chunk in self.asked.chunks)


def find_room(job: Job, nodes: list[Node], running: list[Job]) -> list[tuple[str, dict[str, int]]] | str:
    """A host for each chunk; or why there is none, as PBS says it."""
    chunks = job.asked.chunks
    words = set(job.asked.place.split(":"))
    whole = {node.name: dict(node.available) for node in nodes}
    free = {node.name: dict(node.available) for node in nodes if node.mom and not node.offline}
    taken: set[str] = set()
    for other in running:
        for host, need in other.places:
            if host in free:
                taken.add(host)
                _subtract(free[host], need)
                if "excl" in other.asked.place:
                    del free[host]
    if words & {"excl", "exclhost"}:
        free = {host: has for host, has in free.items() if host not in taken}
    found = _fit(chunks, free, words)
    if found is not None:
        return found
    if _fit(chunks, whole, words) is None:
        return f"Can Never Run: Insufficient amount of resource: {_lacking(job, free, whole)}"
    if any("host" in chunk or "vnode" in chunk for chunk in chunks):
        return "Not Running: Insufficient amount of resource: host "
    return f"Not Running: Insufficient amount of resource: {_lacking(job, free, whole)}"


def _fit(
    chunks: list[dict[str, str]], nodes: dict[str, dict[str, int]], words: set[str]
) -> list[tuple[str, dict[str, int]]] | None:
    if "pack" in words:
        hosts = [[host] for host in nodes]
    else:
        hosts = [list(nodes)]
    for allowed in hosts:
        free = {host: dict(nodes[host]) for host in allowed}
        found: list[tuple[str, dict[str, int]]] = []
        for chunk in chunks:
            need = _need(chunk)
            wanted = chunk.get("host", chunk.get("vnode"))
            fits = (
                host
                for host, has in free.items()
                if (wanted is None or host == wanted) and all(has.get(name, 0) >= need[name] for name in need)
            )
            host = next(fits, None)
            if host is None:
                break
            found.append((host, need))
            _subtract(free[host], need)
            if words & {"scatter", "vscatter"}:
                del free[host]
        else:
            return found
    return None


def _need(chunk: dict[str, str]) -> dict[str, int]:
    return {name: size(chunk[name]) if name == "mem" else int(chunk[name]) for name in _COUNTED if name in chunk}


def _subtract(has: dict[str, int], need: dict[str, int]) -> None:
    for name, amount in need.items():
        has[name] = has.get(name, 0) - amount


def _lacking(job: Job, free: dict[str, dict[str, int]], whole: dict[str, dict[str, int]]) -> str:
    """The resource that there is too little of: "ncpus (R: requested A: available T: total)"."""
    for name in _COUNTED:
        need, has = job.total(name), sum(node.get(name, 0) for node in free.values())
        if need > has:
            return f"{name} (R: {need} A: {has} T: {sum(node.get(name, 0) for node in whole.values())})"
    return "ncpus"

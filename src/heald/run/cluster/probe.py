"""What `heald site check` runs on each node: a look at the node, and at the way back to the head of the run."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence

import msgspec

from heald.core.errors import HealdError
from heald.core.version import __version__
from heald.site import node
from heald.site.launcher import flavour, launcher
from heald.site.profile import NodeShape, Site
from heald.wire import address
from heald.wire.address import Unreachable

_ROUNDS = 5  # connections, of which the quickest counts


class Probe(msgspec.Struct, frozen=True):
    """A node as a task of heald finds it. `shape`: what a job may use there.

    `endpoint`: the address of the head that it reaches, `trip`: seconds there and back, the start of a connection;
    `unreached`: what became of the other addresses. `launcher`: what starts the agents. `mpi`: whose the mpiexec on
    PATH is, empty when there is none; `mpi_problem`: why it cannot be used.
    """

    host: str
    shape: NodeShape
    python: str
    heald: str
    executable: str
    endpoint: str
    trip: float
    unreached: tuple[str, ...]
    launcher: str
    mpi: str = ""
    mpi_problem: str = ""


def probe(site: Site, endpoints: Sequence[str]) -> Probe:
    """Look around on this node; the head listens at `endpoints`. Raises HealdError when the launcher is not known."""
    endpoint, trip, unreached = _way_back(endpoints)
    mpi = problem = ""
    try:
        mpi = _name(flavour())
    except HealdError as raised:
        problem = raised.message
    machine = node.machine()
    return Probe(
        machine.name,
        machine.shape,
        sys.version.split()[0],
        __version__,
        sys.executable,
        endpoint,
        trip,
        unreached,
        _name(launcher(site)),
        mpi,
        problem,
    )


def _name(found: object) -> str:
    return type(found).__name__.lower()


def _way_back(endpoints: Sequence[str]) -> tuple[str, float, tuple[str, ...]]:
    """The endpoint that agents choose, the seconds that it takes there and back, and what became of the others."""
    unreached = []
    for one in endpoints:
        try:
            address.reachable([one], timeout=2.0)
        except Unreachable as raised:
            unreached.append(str(raised).partition(": ")[2])
    reached = [one for one in endpoints if not any(text.startswith(one) for text in unreached)]
    if not reached:
        return "", 0.0, tuple(unreached)
    host, _, port = reached[0].partition("://")[2].rpartition(":")
    times = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0):
            times.append(time.perf_counter() - begun)
    return reached[0], min(times), tuple(unreached)

"""What the agents of an executor need outside of their process: where their head is, and a folder with their files.

Mostly a file system that the nodes share with this machine has that folder; `login` is for nodes that share none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from heald.run.cluster.settings import AgentSettings
from heald.run.function import folders
from heald.run.kernel import raw_argv
from heald.run.log import tail
from heald.site.profile import Site
from heald.wire import key
from heald.wire.key import Keys

if TYPE_CHECKING:
    from heald.run.cluster.executor import ClusterExecutor
    from heald.site.command import Ask

_HEAD = "head.json"  # where agents find the head: for each of its sockets the endpoints, the likeliest first


class Depot(Protocol):
    """All paths are as the nodes know them, and so is `site`; `folder` has the agents' files, `run` what tasks leave.

    `ask` runs the scheduler's programs; None: here. `interface` and `port` are where the head listens.
    """

    site: Site
    run: str
    folder: str
    directory: str
    path: tuple[str, ...]
    interface: str
    port: int

    @property
    def ask(self) -> Ask | None:
        """See the class."""

    def open(self, sockets: Sequence[Sequence[str]]) -> list[list[str]]:
        """Make it, for a head with these sockets, each having several endpoints; those by which agents reach them.

        Raises SiteError when that cannot be.
        """

    def write(self, name: str, content: bytes) -> None:
        """Write a file in `folder`, readable by its owner alone; from any thread. Raises HealdError."""

    def tail(self, name: str) -> str:
        """The last lines of a file in `folder`, empty when it cannot be had; from any thread."""

    def close(self) -> None:
        """No agent needs it any more."""


class Shared:
    """The folder of the executor in the run, on a file system that the nodes see."""

    ask: Ask | None = None

    def __init__(self, executor: ClusterExecutor, folder: Path, run: Path) -> None:
        self.site = executor.site
        self.run, self.folder, self.directory = str(run), str(folder), os.getcwd()
        self.path = folders()
        self.interface = executor.interface or executor.site.interface
        self.port = next(iter(ports(folder)), 0)

    def open(self, sockets: Sequence[Sequence[str]]) -> list[list[str]]:
        """See `Depot`."""
        return [list(one) for one in sockets]

    def write(self, name: str, content: bytes) -> None:
        """See `Depot`."""
        key.write(Path(self.folder, name), content)

    def tail(self, name: str) -> str:
        """See `Depot`."""
        return tail(Path(self.folder, name))

    def close(self) -> None:
        """See `Depot`: it is part of the run."""


def depot(executor: ClusterExecutor, folder: Path, run: Path, keys: Keys, *, kept: bool) -> Depot:
    """The one of an executor, whose own folder is `folder`. `kept`: the run is to be looked at when it is over."""
    if not executor.site.login:
        return Shared(executor, folder, run)
    from heald.run.cluster.login import LoginNode

    return LoginNode(executor, folder, f"{run.stem}-{keys.head.public[:8].encode().hex()}", kept=kept)


def told(executor: ClusterExecutor, keys: Keys, depot: Depot, endpoints: Sequence[str]) -> AgentSettings:
    """What its agents are told, but for the name of their allocation."""
    return AgentSettings(
        allocation="",
        endpoints=tuple(endpoints),
        head=keys.head.public,
        pair=keys.agent,
        run=depot.run,
        directory=depot.directory,
        path=depot.path,
        argv=raw_argv(),
        folder=depot.folder,
        site=depot.site,
        fan_out=executor.fan_out,
        silence=executor.silence,
        lease=executor.lease,
        workers=executor.workers or 0,
        gpus=executor.gpus,
        memory=executor.memory,
        grace=executor.grace_seconds,
        bind=executor.bind,
        initializer=executor.pickled_initializer(),
        environment=executor.environment,
        notice=executor.notice_seconds,
    )


def remember(folder: Path, sockets: Sequence[Sequence[str]]) -> None:
    """Write down where agents find the head."""
    key.write(folder / _HEAD, msgspec.json.encode(sockets))


def endpoints(folder: Path) -> list[list[str]]:
    """What was written down last; nothing where there is no such file."""
    try:
        return msgspec.json.decode((folder / _HEAD).read_bytes(), type=list[list[str]])
    except (OSError, msgspec.MsgspecError):
        return []


def ports(folder: Path) -> list[int]:
    """The ports of the head that was killed, at which its agents look first."""
    return [int(one[0].rpartition(":")[2]) for one in endpoints(folder) if one]

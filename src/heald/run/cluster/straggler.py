"""Ranks that outlive what started them, and who is asked to end them.

srun, when it is killed, leaves its ranks to run on, and every launcher those on nodes that it cannot reach any more. So
when an attempt on many ranks did not end well, the agents of all its nodes look for what is left of it there.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from heald.run.cluster.dialogue import Sweep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heald.run.cluster.lane import FarLane, Remote


class Stragglers:
    """What agents are asked to end. `remotes` are those that are there, by the name of the node."""

    def __init__(self, remotes: Mapping[str, Remote]) -> None:
        self._remotes = remotes
        self._waiting: defaultdict[str, list[Sweep]] = defaultdict(list)  # for a node whose agent may come again

    def end(self, lane: FarLane, task: int, attempt: int) -> None:
        """This attempt, which a lane has, is over and did not end well."""
        if lane.lease is None or lane.lease.needs.ranks < 2:
            return
        for share in lane.lease.shares:
            remote = self._remotes.get(share.node)
            tell = self._waiting[share.node].append if remote is None else remote.tell
            tell(Sweep(task, attempt))

    def met(self, remote: Remote) -> None:
        """An agent came."""
        for sweep in self._waiting.pop(remote.node.name, ()):
            remote.tell(sweep)

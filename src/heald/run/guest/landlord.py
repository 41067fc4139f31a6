"""What heald needs of a cluster that somebody else runs: where there is room, and an agent begun or ended there.

Calls may block, and come from one thread at a time. That they come from a lodging is not known here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import msgspec

from heald.core.errors import SiteError


class Place(msgspec.Struct, frozen=True):
    """Room for one agent: so many `cores` and `gpus`, and bytes of `memory` (0: not known)."""

    name: str
    cores: int
    gpus: int = 0
    memory: int = 0


class Look(msgspec.Struct, frozen=True):
    """How things are: all that the cluster has (`whole`), where an agent could begin now (`free`), and which agents
    have ended since the last look (`over`), with the reason.
    """

    whole: tuple[Place, ...]
    free: tuple[Place, ...]
    over: Mapping[str, str]


class ClusterLost(SiteError):
    """The cluster does not answer any more."""


class Landlord(Protocol):
    """One cluster. All raise ClusterLost when it does not answer any more."""

    name: str

    def look(self) -> Look:
        """How things are."""

    def begin(self, agent: str, place: Place, given: bytes) -> None:
        """Have `lodge.lodge` called at that place, with what the agent is told; it holds what the place has."""

    def end(self, agents: Collection[str]) -> None:
        """End these agents, begun or not; those that are over are left alone."""

    def close(self) -> None:
        """Let go of the cluster, and end it when it is ours."""

"""The head's end of agents in a cluster that somebody else runs: all but where they come from is as on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from heald.core.resources import Resources
from heald.run.cluster import dialogue
from heald.run.cluster.pool import ClusterPool
from heald.run.cluster.settings import AgentSettings
from heald.run.guest.lodging import Lodging

if TYPE_CHECKING:
    from heald.run.guest.executor import GuestExecutor


class GuestPool(ClusterPool):
    """Agents that a lodging begins. Raises what the landlord does when the cluster cannot be reached."""

    executor: GuestExecutor

    def start(self) -> None:
        """Find the cluster, and listen for agents."""
        self._landlord = self.executor.landlord(self.folder)
        try:
            self._first = self._landlord.look()
            super().start()
        except BaseException:
            self._landlord.close()
            raise

    def _supply(self, given: AgentSettings) -> Lodging:
        self._lodging = Lodging(self._landlord, self._first, given, self.executor.idle_seconds, self)
        return self._lodging

    def met(self, name: bytes, hello: bytes) -> str:
        """A new agent: take its node in, when it is one of this lodging's."""
        try:
            allocation = dialogue.hello(hello).allocation
        except msgspec.MsgspecError:
            return super().met(name, hello)  # says what is wrong with it
        if allocation not in self._lodging.agents:
            return "it is of a process that is over, or was given up"
        return super().met(name, hello)

    def unfit(self, needs: Resources) -> str | None:
        """Why it could never run here, or None when it could."""
        return super().unfit(needs) or self._lodging.unfit(needs)

    def give_up(self, allocation: str, reason: str) -> None:
        """An agent is not there any more: run what it had elsewhere."""
        for remote in self.remotes(allocation):
            assert self._hub is not None
            self._hub.give_up(remote.name, reason)

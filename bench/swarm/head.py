"""An executor whose nodes are simulated agents, in processes of this machine, several thousands in each."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import heald
from heald.run.cluster import settings
from heald.run.cluster.pool import ClusterPool
from heald.site.profile import Site

ARRIVAL_SECONDS = 120
IN_A_PROCESS = 4000  # agents: each has some descriptors open


class SwarmExecutor(heald.ClusterExecutor):
    """As any on a cluster; its nodes come by themselves."""

    def __init__(self, agents: int) -> None:
        super().__init__(Site("swarm"), interface="lo")
        self.agents = agents

    def pool(self, host: Any) -> Any:
        self._pool = SwarmPool(self, host)
        return self._pool

    def await_all(self) -> None:
        """Wait until every agent can have a task."""
        deadline = time.monotonic() + ARRIVAL_SECONDS
        while (here := self._pool.dispatch.spare) < self.agents:
            if time.monotonic() > deadline or self._pool.swarm.broken():
                raise TimeoutError(f"{here} of {self.agents} agents came")
            time.sleep(0.1)


class SwarmPool(ClusterPool):
    """Nodes from no scheduler."""

    def _supply(self, given: settings.AgentSettings) -> "Swarm":
        self.swarm = Swarm(given, self.folder / "swarm.json", self.executor.agents)
        return self.swarm


class Swarm:
    """Starts all agents at the beginning. See `heald.run.cluster.pool.Supply`."""

    def __init__(self, given: settings.AgentSettings, file: Path, agents: int) -> None:
        self.given, self.file, self.agents = given, file, agents
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> bool:
        settings.write(self.file, self.given)
        for first in range(0, self.agents, IN_A_PROCESS):
            count = min(IN_A_PROCESS, self.agents - first)
            words = [sys.executable, "-m", "bench.swarm.agent", str(self.file), str(first), str(count)]
            self.processes.append(subprocess.Popen(words))
        return False

    def broken(self) -> bool:
        """A process of agents has ended."""
        return any(process.poll() is not None for process in self.processes)

    def consider(self) -> None:
        pass

    def met(self, allocation: str) -> None:
        pass

    def refused(self, allocation: str, reason: str) -> None:
        raise RuntimeError(reason)

    def lost(self, allocation: str, reason: str) -> None:
        print(f"an agent is lost: {reason}", file=sys.stderr)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

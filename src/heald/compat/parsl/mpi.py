"""MPIExecutor: apps that start MPI programs on some of the nodes of a block."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from heald.compat.parsl import remote
from heald.compat.parsl.error import InvalidResourceSpecification
from heald.compat.parsl.executor import Specification
from heald.compat.parsl.high_throughput import MEANINGLESS, HighThroughputExecutor, check
from heald.compat.parsl.launcher import SimpleLauncher
from heald.compat.parsl.provider import ClusterProvider, LocalProvider
from heald.compat.parsl.representation import retired

_KNOWN = {"num_nodes", "ranks_per_node", "num_ranks", "launcher_options", "priority"}


@retired(MEANINGLESS, change=check)
@dataclass(repr=False, eq=False)
class MPIExecutor(HighThroughputExecutor):
    """Runs apps on the first node of a block; `$PARSL_MPI_PREFIX` starts programs on the nodes that each holds."""

    label: str = "MPIExecutor"
    max_workers_per_block: int = 1
    mpi_launcher: str = "mpiexec"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mpi_launcher not in ("mpiexec", "srun", "aprun"):
            raise ValueError(f"mpi_launcher={self.mpi_launcher!r}: must be 'mpiexec', 'srun' or 'aprun'")
        provider = self.provider
        simple = isinstance(getattr(provider, "launcher", None), SimpleLauncher)
        if not simple or not isinstance(provider, LocalProvider | ClusterProvider):
            raise TypeError("MPIExecutor needs a provider with SimpleLauncher")
        self.max_workers_per_node = self.max_workers_per_block
        self.cores_per_worker = 1e-9  # programs share the cores: how many run is said by max_workers_per_block
        self._nodes = provider.nodes_per_block

    def _devices(self, variables: dict[str, str]) -> list[str]:
        if isinstance(self.provider, LocalProvider):
            self._nodes = len(remote.hosts({**os.environ, **variables})) or 1
        return [str(place) for place in range(self._nodes)]

    def validate_resource_spec(self, resource_specification: Specification) -> None:
        """Raises InvalidResourceSpecification for what it does not take."""
        given = resource_specification.keys()
        if not given or given - _KNOWN:
            raise InvalidResourceSpecification(given - _KNOWN, f"MPI programs need some of {', '.join(sorted(_KNOWN))}")
        nodes, ranks, each = _spread(resource_specification)
        if nodes > self._nodes:
            raise InvalidResourceSpecification({"num_nodes"}, f"num_nodes is {nodes}, and a block has {self._nodes}")
        if not nodes <= ranks <= nodes * each:
            raise InvalidResourceSpecification({"num_ranks"}, "num_ranks must be num_nodes * ranks_per_node")

    def _options(self, func: Any, specification: Specification) -> dict[str, Any]:
        return {**super()._options(func, specification), "gpus": _spread(specification)[0]}

    def _made(self, function: Any, specification: Specification) -> remote.Body:
        _, ranks, each = _spread(specification)
        return remote.MpiBody(function, self.mpi_launcher, ranks, each, specification.get("launcher_options", ""))

    def monitor_resources(self) -> bool:
        """Programs run on other nodes, too: there is nothing to sample."""
        return False


def _spread(specification: Specification) -> tuple[int, int, int]:
    """Nodes, ranks in all, and ranks of a node: of the last two, each follows from the other."""
    nodes = int(specification.get("num_nodes", 1))
    each, ranks = (int(specification.get(name) or 0) for name in ("ranks_per_node", "num_ranks"))
    return nodes, ranks or nodes * (each or 1), each or -(-(ranks or nodes) // nodes)

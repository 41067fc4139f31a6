"""HighThroughputExecutor: heald's warm workers on this machine, or on the nodes of batch jobs."""

from __future__ import annotations

import os
import platform
import time
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from typing import Any

import heald
from heald.compat import NotServed, installed
from heald.compat.parsl import remote
from heald.compat.parsl.error import InvalidResourceSpecification
from heald.compat.parsl.executor import SessionExecutor, Specification
from heald.compat.parsl.provider import ClusterProvider, ExecutionProvider, LocalProvider
from heald.compat.parsl.representation import retired
from heald.compat.parsl.state import JobState, JobStatus
from heald.compat.parsl.tool import VERSION, get_all_addresses
from heald.core.allocation import Allocation, AllocationState
from heald.run.cluster import ledger
from heald.site import binding


class BlockProviderExecutor(SessionExecutor):
    """An executor whose workers a provider starts."""

    provider: ExecutionProvider


class ManagerSelector:
    """Which node gets a task first: heald's own placement says."""


RandomManagerSelector = BlockIdManagerSelector = ManagerSelector


def simple_error_handler(executor: BlockProviderExecutor, status: dict[str, JobStatus], threshold: int = 3) -> None:
    """What becomes of blocks that fail: heald gives up after two that ended before a node came, and says why."""


windowed_error_handler = noop_error_handler = simple_error_handler

# How Parsl's own processes talk, and what they log: heald's have no such settings.
MEANINGLESS = (
    "launch_cmd interchange_launch_cmd interchange_address loopback_address worker_port worker_ports "
    "worker_port_range interchange_port_range worker_debug worker_logdir_root prefetch_capacity "
    "heartbeat_period drain_period poll_period address_probe_timeout manager_selector encrypted start_method "
    "suppress_failure"
)


def check(given: dict[str, Any]) -> None:
    """Take out what heald does in its own way. Raises NotServed for what it does not do."""
    handler = given.pop("block_error_handler", True)
    if callable(handler) and getattr(handler, "func", handler) is not simple_error_handler:
        hint = "leave block_error_handler out: when no nodes can be had, tasks fail with what the last jobs printed"
        raise NotServed("block_error_handler: heald calls no function of yours for blocks that fail", hint=hint)
    if given.pop("enable_mpi_mode", False):
        raise NotServed("enable_mpi_mode is an executor of its own", hint="MPIExecutor(max_workers_per_block=…)")


@retired(MEANINGLESS, change=check, max_workers="max_workers_per_node")
@dataclass(repr=False, eq=False)
class HighThroughputExecutor(BlockProviderExecutor):
    """Worker processes, as many on each node as Parsl would start there."""

    label: str = "HighThroughputExecutor"
    provider: ExecutionProvider = field(default_factory=LocalProvider)
    address: str | None = None
    storage_access: Any = None
    working_dir: str | os.PathLike[str] | None = None
    cores_per_worker: float = 1.0
    mem_per_worker: float | None = None
    max_workers_per_node: float | None = None
    cpu_affinity: str = "none"
    available_accelerators: Any = ()  # their names, or their number
    heartbeat_threshold: float = 120  # seconds after which agents end whose script has died
    remote_monitoring_radio: Any = None

    def __post_init__(self) -> None:
        self.provider = self.provider or LocalProvider()
        self.available_accelerators = [",".join(names) for names in binding.devices(self.available_accelerators)]

    # -- workers -----------------------------------------------------------------------------------------------------

    @property
    def workers_per_node(self) -> int | None:
        """Workers of a node: bounded by cores, memory, devices and the given maximum; None when only the node knows."""
        cores, memory = (getattr(self.provider, name, None) for name in ("cores_per_node", "mem_per_node"))
        bounds: list[float] = [cores / self.cores_per_worker] if cores else []
        if self.mem_per_worker and memory:
            bounds.append(memory / self.mem_per_worker)
        if self.max_workers_per_node:
            bounds.append(self.max_workers_per_node)
        if self.available_accelerators:
            bounds.append(len(self.available_accelerators))
        return max(1, int(min(bounds))) if bounds else None

    def _workers(self) -> Any:
        provider, count = self.provider, self.workers_per_node
        if not isinstance(provider, LocalProvider | ClusterProvider):
            hint = "use LocalProvider, or one of SlurmProvider, PBSProProvider, LSFProvider and GridEngineProvider"
            raise NotServed(f"{type(provider).__name__} starts workers where heald does not", hint=hint)
        if isinstance(provider, ClusterProvider) or provider.spreads:
            return self._cluster(provider, count)
        nodes = 1 if provider.launcher.starts == "fork" else provider.nodes_per_block
        count, variables = (count or 1) * provider.blocks * nodes, provider.variables()
        desk, devices = self._desk(count, variables), self._devices(variables)
        return heald.ProcessExecutor(count, label=self.label, gpus=devices, initializer=desk.take)

    def _cluster(self, provider: LocalProvider | ClusterProvider, count: int | None) -> heald.ClusterExecutor:
        if count is None and self.cores_per_worker < 1:
            hint = "say max_workers_per_node, or cores_per_node of the provider"
            raise NotServed(f"cores_per_worker={self.cores_per_worker}: the number of cores is not known", hint=hint)
        scales = self.max_idletime is not None
        most = provider.blocks if scales else max(provider.init_blocks, 1)
        return heald.ClusterExecutor(
            provider.site(),
            nodes=provider.nodes_per_block,
            walltime=provider.seconds,
            blocks=(provider.init_blocks, min(provider.min_blocks, most) if scales else 0, most),
            parallelism=min(max(provider.parallelism, 1e-9), 1.0),
            idle=self.max_idletime or 0,
            workers=count,
            gpus=self._devices({}),
            interface=self.address if self.address in get_all_addresses() else "",
            lease=self.heartbeat_threshold,
            initializer=self._desk(count, {}).take,
            label=self.label,
        )

    def _devices(self, variables: dict[str, str]) -> list[str]:
        """What tasks ask heald for as devices; accelerators are not, workers have theirs by their rank."""
        return []

    def _desk(self, count: int | None, variables: dict[str, str]) -> remote.Desk:
        slots = count or self.cpu_affinity.count(":") or 1
        binding.cores(self.cpu_affinity, range(2**12), slots)  # a mistake in it is told now
        devices, served = self.available_accelerators, installed("parsl")
        key, cores = uuid.uuid4().hex, self.cores_per_worker
        return remote.Desk(key, self.label, count, cores, self.cpu_affinity, devices, variables, served)

    # -- tasks -------------------------------------------------------------------------------------------------------

    def validate_resource_spec(self, resource_specification: Specification) -> None:
        """Raises InvalidResourceSpecification for what it does not take."""
        unknown = resource_specification.keys() - {"priority"}
        if unknown:
            raise InvalidResourceSpecification(unknown, f"{type(self).__name__} takes 'priority' only")

    @cached_property
    def _needs(self) -> dict[str, Any]:
        """What bounds the workers of a node when only the node knows how many there may be."""
        needs: dict[str, Any] = {}
        if self.workers_per_node is None and self.cores_per_worker > 1:
            needs["cpus"] = -int(-self.cores_per_worker // 1)
        if self.mem_per_worker and not getattr(self.provider, "mem_per_node", None):
            needs["memory"] = int(self.mem_per_worker * 2**30)
        return needs

    def _options(self, func: Any, specification: Specification) -> dict[str, Any]:
        options = dict(self._needs)
        if isinstance(func, remote.Timed):
            options["walltime"] = func.seconds
        if "priority" in specification:
            options["priority"] = -int(specification["priority"])  # in Parsl the lowest goes first
        return options

    # -- facts -------------------------------------------------------------------------------------------------------

    def _allocations(self) -> dict[str, Allocation]:
        """The batch jobs that there are and were, by Parsl's name for what heald calls a1, a2, ..."""
        session = self._session
        found = ledger.read(session.logs.parent / "agents" / self.label) if session else ()
        return {str(int(one.id[1:]) - 1): one for one in found}

    def status(self) -> dict[str, JobStatus]:
        """Where each block is, by its id."""
        found = {block: JobStatus(_state(one), one.reason or None) for block, one in self._allocations().items()}
        return found or dict.fromkeys(self.connected_blocks(), JobStatus(JobState.RUNNING))

    status_facade = property(status)

    @property
    def blocks_to_job_id(self) -> dict[str, str]:
        """What the scheduler calls the job of each block."""
        return {block: one.job for block, one in self._allocations().items() if one.job is not None}

    def connected_managers(self) -> list[dict[str, Any]]:
        """The nodes at work: this one, while it runs; or those of running blocks."""
        blocks = self._allocations().items()
        places = [(block, host) for block, one in blocks if one.state is AllocationState.running for host in one.hosts]
        if isinstance(self.provider, LocalProvider) and self._session and self._functions:
            places = places or [("0", platform.node())]  # workers start with the first task
        node: dict[str, Any] = {"worker_count": self.workers_per_node or 0, "active": True, "draining": False}
        node |= {"python_version": platform.python_version(), "parsl_version": VERSION}
        node |= {"tasks": self.outstanding(), "idle_duration": 0.0, "last_heartbeat": time.time()}
        return [
            {**node, "manager": f"{self.label}-{block}-{host}", "block_id": block, "hostname": host}
            for block, host in places
        ]

    def connected_managers_packages(self) -> dict[str, dict[str, str]]:
        """The distributions that each node has, with their versions."""
        found = {one.metadata["Name"]: one.version for one in metadata.distributions()} | {"parsl": VERSION}
        return {node["manager"]: found for node in self.connected_managers()}

    def connected_blocks(self) -> list[str]:
        """The blocks at work."""
        return list(dict.fromkeys(node["block_id"] for node in self.connected_managers()))

    @property
    def connected_workers(self) -> int:
        """Workers of the nodes at work."""
        return sum(node["worker_count"] for node in self.connected_managers())


def _state(allocation: Allocation) -> JobState:
    return JobState.COMPLETED if allocation.state is AllocationState.ended else JobState[allocation.state.upper()]

"""Parsl's executors on one machine: threads, and heald's warm worker processes.

Each is a session of heald with one executor in it.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any
from weakref import WeakKeyDictionary

import heald
from heald.compat import NotServed, installed
from heald.compat.parsl import remote
from heald.compat.parsl.error import BadStateException, InvalidResourceSpecification
from heald.compat.parsl.provider import ExecutionProvider, LocalProvider, SimpleLauncher
from heald.compat.parsl.representation import RepresentationMixin, retired
from heald.compat.parsl.tool import VERSION

_Specification = dict[str, Any]


class ParslExecutor(ABC):
    """What runs tasks; one of your own needs `start`, `submit` and `shutdown`, and a `label`."""

    label: str = "undefined"
    storage_access: Sequence[Any] | None = None
    working_dir: str | os.PathLike[str] | None = None
    run_dir: str = "."
    run_id: str | None = None
    remote_monitoring_radio: Any = None

    @abstractmethod
    def start(self) -> None:
        """Get ready for tasks."""

    @abstractmethod
    def submit(
        self, func: Callable[..., Any], resource_specification: _Specification, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """A future of `func(*args, **kwargs)`."""

    @abstractmethod
    def shutdown(self) -> None:
        """End everything."""

    def monitor_resources(self) -> bool:
        """Whether resources are to be sampled."""
        return True

    def __enter__(self) -> ParslExecutor:
        return self

    def __exit__(self, *raised: object) -> None:
        self.shutdown()


class _SessionExecutor(ParslExecutor, RepresentationMixin):
    """An executor that is a session of heald."""

    _body: type[remote.Body] = remote.Body

    _session: heald.Session | None = None
    _functions: WeakKeyDictionary[Any, dict[Any, heald.Function[..., Any]]]  # by what the app is made of, by options

    @abstractmethod
    def _workers(self) -> Any:
        """The executor of heald behind it."""

    def start(self) -> None:
        """Get ready for tasks."""
        self._functions = WeakKeyDictionary()
        self._session = heald.Session([self._workers()], memo=None, progress=False).start(current=False)

    def submit(
        self, func: Callable[..., Any], resource_specification: _Specification, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """A future of `func(*args, **kwargs)`."""
        self.validate_resource_spec(resource_specification)
        if self._session is None:
            raise BadStateException(self, "it does not run")
        return self._session.call(self._function(func, resource_specification), (args, kwargs), {})

    def validate_resource_spec(self, resource_specification: _Specification) -> None:
        """Raises InvalidResourceSpecification for what it does not take."""
        if resource_specification:
            raise InvalidResourceSpecification(
                resource_specification.keys(), f"{type(self).__name__} takes no resource specification"
            )

    def _function(self, func: Any, specification: _Specification) -> heald.Function[..., Any]:
        """heald's function for `func`, made once for each set of options."""
        try:
            known = self._functions.setdefault(func, {})
        except TypeError:  # it cannot be hashed or referred to weakly
            known = {}
        options = self._options(func, specification)
        key = tuple(options.items())
        if key not in known:
            inner = func.function if "walltime" in options else func
            known[key] = heald.task(**options)(self._body(inner, self._variables(specification)))
        return known[key]

    def _options(self, func: Any, specification: _Specification) -> dict[str, Any]:
        return {}

    def _variables(self, specification: _Specification) -> dict[str, str]:
        return {}

    def outstanding(self) -> int:
        """How many tasks are not over."""
        return int(self._session.tally.open) if self._session else 0

    def shutdown(self, *, wait: bool = False) -> None:
        """End everything."""
        session, self._session = self._session, None
        if session is not None:
            session.close(cancel=not wait)


@dataclass(repr=False, eq=False)
class ThreadPoolExecutor(_SessionExecutor):
    """Threads of this process. It ends when all that it was given is done."""

    label: str = "threads"
    max_threads: int = 2
    thread_name_prefix: str | None = None
    storage_access: Sequence[Any] | None = None
    working_dir: str | os.PathLike[str] | None = None
    remote_monitoring_radio: Any = None

    _body = remote.LiveBody

    def _workers(self) -> heald.ThreadExecutor:
        return heald.ThreadExecutor(self.max_threads, label=self.label)

    def shutdown(self, block: bool = True, *, wait: bool = True) -> None:
        """End everything."""
        super().shutdown(wait=block and wait)

    def monitor_resources(self) -> bool:
        """Threads share the process: there is nothing to tell apart."""
        return False


class BlockProviderExecutor(_SessionExecutor):
    """An executor whose workers a provider starts."""

    provider: ExecutionProvider


class ManagerSelector:
    """Which node gets a task first: on one machine there is one."""


class RandomManagerSelector(ManagerSelector):
    """Any node."""


class BlockIdManagerSelector(ManagerSelector):
    """The block with the lowest number first."""


# How Parsl's own processes talk, and what they log: heald's have no such settings.
_MEANINGLESS = (
    "launch_cmd interchange_launch_cmd address interchange_address loopback_address worker_port worker_ports "
    "worker_port_range interchange_port_range worker_debug worker_logdir_root prefetch_capacity heartbeat_threshold "
    "heartbeat_period drain_period poll_period address_probe_timeout manager_selector block_error_handler encrypted "
    "start_method suppress_failure"
)


@retired(_MEANINGLESS, max_workers="max_workers_per_node")
@dataclass(repr=False, eq=False)
class HighThroughputExecutor(BlockProviderExecutor):
    """Worker processes on this machine, as many as Parsl would start here."""

    label: str = "HighThroughputExecutor"
    provider: ExecutionProvider = field(default_factory=LocalProvider)
    storage_access: Sequence[Any] | None = None
    working_dir: str | os.PathLike[str] | None = None
    cores_per_worker: float = 1.0
    mem_per_worker: float | None = None
    max_workers_per_node: float | None = None
    cpu_affinity: str = "none"
    available_accelerators: Any = ()  # their names, or their number
    remote_monitoring_radio: Any = None

    def __post_init__(self) -> None:
        self.provider = self.provider or LocalProvider()
        devices = self.available_accelerators
        self.available_accelerators = list(map(str, range(devices) if isinstance(devices, int) else devices))

    @property
    def workers_per_node(self) -> int:
        """Worker processes of a block: bounded by cores, memory, devices and `max_workers_per_node`."""
        cores = int(os.environ.get("PARSL_CORES") or len(os.sched_getaffinity(0)))
        bounds: list[float] = [cores / self.cores_per_worker]
        if self.mem_per_worker:
            total = (
                os.environ.get("PARSL_MEMORY_GB") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
            )
            bounds.append(float(total) / self.mem_per_worker)
        if self.max_workers_per_node:
            bounds.append(self.max_workers_per_node)
        if self.available_accelerators:
            bounds.append(len(self.available_accelerators))
        return max(1, int(min(bounds)))

    def _workers(self) -> heald.ProcessExecutor:
        provider = self.provider
        if not isinstance(provider, LocalProvider):
            raise NotServed(
                f"{type(provider).__name__} starts workers where heald does not",
                hint="use LocalProvider inside of the batch job",
            )
        count = self.workers_per_node * provider.blocks * provider.nodes_per_block
        ranks = tempfile.mkdtemp(prefix="ranks-", dir=self.run_dir)
        remote.share(self.cpu_affinity, [], 0, count)  # a mistake in it is told here
        devices, variables = self.available_accelerators, provider.variables()
        desk = remote.Desk(self.label, count, ranks, self.cpu_affinity, devices, variables, installed("parsl"))
        return heald.ProcessExecutor(count, label=self.label, initializer=desk.take)

    def validate_resource_spec(self, resource_specification: _Specification) -> None:
        """Raises InvalidResourceSpecification for what it does not take."""
        unknown = resource_specification.keys() - {"priority"}
        if unknown:
            raise InvalidResourceSpecification(unknown, f"{type(self).__name__} takes 'priority' only")

    def _options(self, func: Any, specification: _Specification) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if isinstance(func, remote.Timed):
            options["walltime"] = func.seconds
        if "priority" in specification:
            options["priority"] = -int(specification["priority"])  # in Parsl the lowest goes first
        return options

    def connected_managers(self) -> list[dict[str, Any]]:
        """The nodes at work: this one, while it runs."""
        if not self.connected_blocks():
            return []
        node = {"manager": self.label, "block_id": "0", "worker_count": self.workers_per_node, "active": True}
        node |= {"python_version": platform.python_version(), "parsl_version": VERSION, "draining": False}
        return [{**node, "tasks": self.outstanding(), "idle_duration": 0.0, "last_heartbeat": time.time()}]

    def connected_managers_packages(self) -> dict[str, dict[str, str]]:
        """The distributions that each node has, with their versions."""
        found = {one.metadata["Name"]: one.version for one in metadata.distributions()} | {"parsl": VERSION}
        return {node["manager"]: found for node in self.connected_managers()}

    def connected_blocks(self) -> list[str]:
        """The blocks at work: workers start with the first task."""
        return ["0"] if self._session and self._functions else []


@retired(_MEANINGLESS)
@dataclass(repr=False, eq=False)
class MPIExecutor(HighThroughputExecutor):
    """Runs MPI programs on this machine's one node: apps start them with `$PARSL_MPI_PREFIX`."""

    label: str = "MPIExecutor"
    max_workers_per_block: int = 1
    mpi_launcher: str = "mpiexec"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mpi_launcher not in ("mpiexec", "srun", "aprun"):
            raise ValueError(f"mpi_launcher={self.mpi_launcher!r}: must be 'mpiexec', 'srun' or 'aprun'")
        if not isinstance(self.provider, LocalProvider) or not isinstance(self.provider.launcher, SimpleLauncher):
            raise TypeError("MPIExecutor needs a provider with SimpleLauncher")
        self.max_workers_per_node = self.max_workers_per_block
        self.cores_per_worker = 1e-9  # programs share the cores: how many run is said by max_workers_per_block

    def validate_resource_spec(self, resource_specification: _Specification) -> None:
        """Raises InvalidResourceSpecification for what it does not take."""
        known = {"num_nodes", "ranks_per_node", "num_ranks", "launcher_options", "priority"}
        given = resource_specification.keys()
        if not given or given - known:
            raise InvalidResourceSpecification(given - known, f"MPI programs need some of {', '.join(sorted(known))}")
        if resource_specification.get("num_nodes", 1) != 1:
            raise InvalidResourceSpecification({"num_nodes"}, "there is one node here")
        _ranks(resource_specification)

    def _variables(self, specification: _Specification) -> dict[str, str]:
        nodes, each, ranks = specification.get("num_nodes", 1), *_ranks(specification)
        extra = specification.get("launcher_options", "")
        prefixes = {
            "mpiexec": f"mpiexec -n {ranks} -ppn {each} {extra}".strip(),
            "srun": f"srun --ntasks {ranks} --ntasks-per-node {each} {extra}".strip(),
            "aprun": f"aprun -n {ranks} -N {each} {extra}".strip(),
        }
        found = {f"PARSL_{name.upper()}_PREFIX": prefix for name, prefix in prefixes.items()}
        found |= {"PARSL_MPI_PREFIX": prefixes[self.mpi_launcher], "PARSL_MPI_NODELIST": "localhost"}
        return found | {"PARSL_NUM_NODES": str(nodes), "PARSL_RANKS_PER_NODE": str(each), "PARSL_NUM_RANKS": str(ranks)}


def _ranks(specification: _Specification) -> tuple[int, int]:
    """Ranks of a node, and in all: each follows from the other."""
    each, ranks = specification.get("ranks_per_node"), specification.get("num_ranks")
    if each is not None and ranks is not None and each != ranks:
        raise InvalidResourceSpecification({"num_ranks"}, "num_ranks must be num_nodes * ranks_per_node")
    found = each or ranks or 1
    return found, found

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
from importlib import metadata
from typing import Any
from weakref import WeakKeyDictionary

import heald
from heald.compat import NotServed, installed
from heald.compat.parsl import remote
from heald.compat.parsl.error import BadStateException, InvalidResourceSpecification
from heald.compat.parsl.monitoring import HTEXRadio
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

    def __init__(self) -> None:
        self._session: heald.Session | None = None
        self._functions: WeakKeyDictionary[Any, dict[Any, heald.Function[..., Any]]] = WeakKeyDictionary()

    @abstractmethod
    def _workers(self) -> Any:
        """The executor of heald behind it."""

    def start(self) -> None:
        """Get ready for tasks."""
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


class ThreadPoolExecutor(_SessionExecutor):
    """Threads of this process. It ends when all that it was given is done."""

    _body = remote.LiveBody

    def __init__(
        self,
        label: str = "threads",
        max_threads: int = 2,
        thread_name_prefix: str | None = None,
        storage_access: Sequence[Any] | None = None,
        working_dir: str | os.PathLike[str] | None = None,
        remote_monitoring_radio: Any = None,
    ) -> None:
        super().__init__()
        self.label = label
        self.max_threads = max_threads
        self.thread_name_prefix = thread_name_prefix
        self.storage_access = storage_access
        self.working_dir = working_dir
        self.remote_monitoring_radio = remote_monitoring_radio

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

    provider: ExecutionProvider | None = None


class ManagerSelector:
    """Which node gets a task first: on one machine there is one."""


class RandomManagerSelector(ManagerSelector):
    """Any node."""


class BlockIdManagerSelector(ManagerSelector):
    """The block with the lowest number first."""


class HighThroughputExecutor(BlockProviderExecutor):
    """Worker processes on this machine, as many as Parsl would start here.

    What says how Parsl's own processes talk (addresses, ports, heartbeats, `launch_cmd`, …) is kept and means nothing.
    """

    @retired(
        "start_method", "worker_ports", "interchange_address", "suppress_failure", max_workers="max_workers_per_node"
    )
    def __init__(
        self,
        label: str = "HighThroughputExecutor",
        provider: ExecutionProvider | None = None,
        launch_cmd: str | None = None,
        interchange_launch_cmd: Sequence[str] | None = None,
        address: str | None = None,
        loopback_address: str = "127.0.0.1",
        worker_port: int | None = None,
        worker_port_range: tuple[int, int] | None = (54000, 55000),
        interchange_port_range: tuple[int, int] | None = (55000, 56000),
        storage_access: Sequence[Any] | None = None,
        working_dir: str | os.PathLike[str] | None = None,
        worker_debug: bool = False,
        cores_per_worker: float = 1.0,
        mem_per_worker: float | None = None,
        max_workers_per_node: float | None = None,
        cpu_affinity: str = "none",
        available_accelerators: int | Sequence[str] = (),
        prefetch_capacity: int = 0,
        heartbeat_threshold: int = 120,
        heartbeat_period: int = 30,
        drain_period: int | None = None,
        poll_period: int = 10,
        address_probe_timeout: int | None = None,
        worker_logdir_root: str | None = None,
        manager_selector: ManagerSelector | None = None,
        block_error_handler: Any = True,
        encrypted: bool = True,
        remote_monitoring_radio: Any = None,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        vars(self).update(settings)
        self.label = label
        self.provider = provider or LocalProvider()
        self.cores_per_worker = cores_per_worker
        self.mem_per_worker = mem_per_worker
        self.max_workers_per_node = max_workers_per_node
        self.cpu_affinity = cpu_affinity
        self.remote_monitoring_radio = remote_monitoring_radio or HTEXRadio()
        if isinstance(available_accelerators, int):
            available_accelerators = [str(device) for device in range(available_accelerators)]
        self.available_accelerators = list(available_accelerators)

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
        folder = tempfile.mkdtemp(prefix="ranks-", dir=self.run_dir)
        remote.share(self.cpu_affinity, [], 0, count)  # a mistake in it is told here
        desk = remote.Desk(
            self.label,
            count,
            folder,
            self.cpu_affinity,
            self.available_accelerators,
            provider.variables(),
            installed("parsl"),
        )
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


class MPIExecutor(HighThroughputExecutor):
    """Runs MPI programs on this machine's one node: apps start them with `$PARSL_MPI_PREFIX`."""

    def __init__(
        self,
        label: str = "MPIExecutor",
        provider: ExecutionProvider | None = None,
        max_workers_per_block: int = 1,
        mpi_launcher: str = "mpiexec",
        **settings: Any,
    ) -> None:
        super().__init__(label, provider, max_workers_per_node=max_workers_per_block, **settings)
        if mpi_launcher not in ("mpiexec", "srun", "aprun"):
            raise ValueError(f"mpi_launcher={mpi_launcher!r}: must be 'mpiexec', 'srun' or 'aprun'")
        if not isinstance(self.provider, LocalProvider) or not isinstance(self.provider.launcher, SimpleLauncher):
            raise TypeError("MPIExecutor needs a provider with SimpleLauncher")
        self.max_workers_per_block = max_workers_per_block
        self.mpi_launcher = mpi_launcher
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

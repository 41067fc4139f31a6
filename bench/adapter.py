"""What a system offers to the workloads. A system that lacks something leaves it out, and the table says so."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bench import function

WARM_UP_SECONDS = 60


class Adapter:
    """One system under measurement; what it gives for a submitted task is a handle, of any type.

    `environment` names the virtual environment (and the distribution whose version is reported), `imports` is the line
    that a user's script starts with, `limits` are smaller task counts for workloads where the system would take minutes
    and only a rate is wanted.
    """

    environment: ClassVar[str] = "python"
    requirements: ClassVar[tuple[str, ...]] = ()
    imports: ClassVar[str] = ""
    limits: ClassVar[Mapping[str, int]] = {}
    lists: ClassVar[bool] = False  # it has `listing`
    cluster: ClassVar[bool] = False  # it is measured on the head of a cluster, with one worker on each node

    def __init__(self, workers: int, folder: Path) -> None:
        self.workers = workers
        self.folder = folder

    def version(self) -> str:
        import platform  # both are slow to import, and the start-up of every system pays for this module
        from importlib import metadata

        return platform.python_version() if self.environment == "python" else metadata.version(self.environment)

    def start(self) -> None:
        """Start the system with its workers; the first result need not be quick yet."""
        raise NotImplementedError("it runs no functions")

    def stop(self) -> None:
        """Stop it. Whatever stays behind is killed by the driver."""

    def submit(self, task: Callable[..., Any], *args: Any) -> Any:
        """Submit a task whose arguments are values."""
        raise NotImplementedError("it runs no functions")

    def after(self, task: Callable[..., Any], *args: Any) -> Any:
        """Submit a task of which some arguments are handles of earlier ones."""
        return self.submit(task, *args)

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        return [handle.result() for handle in handles]

    def share(self, value: Any) -> Any:
        """Give what to pass to many tasks that read the same large value."""
        return value

    def map(self, task: Callable[..., Any], values: Iterable[Any]) -> Iterator[Any]:
        """Give the results in order, with the least memory that the system's own means allow."""
        return iter(self.gather([self.submit(task, value) for value in values]))

    def commands(self, command: str, count: int) -> int:
        """Run a command many times and tell how many exited with 0."""
        return self.gather([self.submit(function.call, [command]) for _ in range(count)]).count(0)

    def lines(self, command: str, values: Sequence[str]) -> None:
        """Run a command line for each value, from the start of the system's own program to its end."""
        raise NotImplementedError("it has no program that runs command lines")

    def script(self, script: Path) -> str:
        """Run a script written for Parsl, from its start to its end; give what it printed."""
        raise NotImplementedError("it runs no scripts of Parsl")

    def parsl_perf(self, config: Path, tasks: int) -> str:
        """Measure a configuration of Parsl by `parsl-perf`; give what that printed."""
        raise NotImplementedError("it has no parsl-perf")

    def simulate(self, agents: int) -> None:
        """Start with so many simulated nodes, of which no task is run."""
        raise NotImplementedError("it has no agents to simulate")

    def pack(self, jobs: Sequence[Any], nodes: int) -> float:
        """Run jobs of several nodes each (see `bench.packing`) in one allocation; seconds from the first start on."""
        raise NotImplementedError("it has no tasks of several nodes")

    def listing(self, rows: int) -> str:
        """Print the first tasks of the run that has just ended, and how many ended how, by the system's own program."""
        raise NotImplementedError

    def help(self) -> str:
        """Print the help of the system's own program."""
        raise NotImplementedError("it has no program of its own")

    def program(self, *words: str) -> str:
        """Run a program of the system's environment; give what it printed."""
        import subprocess

        variables = os.environ | {"WORKERS": str(self.workers)}
        return subprocess.run(words, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout

    def warm(self) -> None:
        """Wait until every worker has answered, then run a hundred tasks."""
        seen: set[tuple[int, int]] = set()
        deadline = time.monotonic() + WARM_UP_SECONDS
        while len(seen) < self.workers and time.monotonic() < deadline:
            probes = [self.submit(function.whereabouts, 0.02) for _ in range(2 * self.workers)]
            seen.update(tuple(answer) for answer in self.gather(probes))
        self.gather([self.submit(function.noop, number) for number in range(100)])

"""Dask and Ray clusters of the tests' own: processes of this machine, with a home, a port and a token of their own."""

from __future__ import annotations

import os
import secrets
import select
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from distributed import Client

_PROGRAMS = Path(sys.executable).parent
# Ray makes a token in the user's home when it is given none, and reports that it is used.
_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}


class Program:
    """One process of a cluster, with all below it. No child of the tests: it starts and ends processes at will."""

    def __init__(self, *words: str, folder: Path, variables: dict[str, str] | None = None) -> None:
        around = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder), **(variables or {})}
        line = shlex.join([sys.executable, __file__, str(os.getpid()), str(_PROGRAMS / words[0]), *words[1:]])
        started = subprocess.run(
            ["sh", "-c", f"{line} </dev/null >>{words[0]}-{words[1]}.out 2>&1 & echo $!"],
            env=around, cwd=folder, start_new_session=True, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        self.process = psutil.Process(int(started.stdout))

    def kill(self) -> None:
        """End it and all below it, without a warning."""
        kill(self.process)


def kill(process: psutil.Process) -> None:
    """End a process and all below it, without a warning."""
    try:
        found = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in found:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(found, timeout=10)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Dask:
    """A scheduler, and workers of two threads each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        words = ("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show")
        self.scheduler = Program("dask", *words, folder=folder)
        self.workers: list[Program] = []

    def add_worker(self, *more: str) -> Program:
        """One more."""
        words = ("worker", self.address, "--nthreads", "2", "--no-dashboard", "--local-directory", str(self.folder))
        self.workers.append(Program("dask", *words, *more, folder=self.folder))
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), 30)
        return self.workers[-1]

    def kill(self) -> None:
        """End all of it."""
        for one in (*self.workers, self.scheduler):
            one.kill()


@contextmanager
def dask(folder: Path) -> Iterator[Dask]:
    """A Dask cluster with one worker."""
    cluster = Dask(folder)
    try:
        cluster.add_worker()
        yield cluster
    finally:
        cluster.kill()


class Ray:
    """A head of two CPUs. Whoever speaks with it needs `variables` in the environment."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder = folder
        self.variables = _TOKEN
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        words = (
            "start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port", str(port), "--num-cpus", "2",
            "--include-dashboard", "false", "--temp-dir", str(folder / "r"), *more,
        )  # fmt: skip
        self.head = Program("ray", *words, folder=folder, variables=self.variables)
        self._wait(1)
        self.nodes: list[Program] = []

    def add_node(self) -> Program:
        """One more, of two CPUs."""
        words = ("start", "--block", "--address", self.address, "--num-cpus", "2")
        self.nodes.append(Program("ray", *words, folder=self.folder, variables=self.variables))
        self._wait(1 + len(self.nodes))
        return self.nodes[-1]

    def _wait(self, nodes: int) -> None:
        code = (
            "import ray, time; from heald.wire.address import reachable\n"
            "while True:\n"
            f"    try: reachable(['tcp://{self.address}']); break\n"
            "    except OSError: time.sleep(0.05)\n"
            f"ray.init({self.address!r}, log_to_driver=False, logging_level='error')\n"
            f"while sum(node['Alive'] for node in ray.nodes()) < {nodes}: time.sleep(0.05)"
        )
        around = {**os.environ, "HOME": str(self.folder), **self.variables}
        subprocess.run([sys.executable, "-c", code], env=around, check=True, timeout=60, capture_output=True)

    def kill(self) -> None:
        """End all of it."""
        for one in (*self.nodes, self.head):
            one.kill()


@contextmanager
def ray(folder: Path, *more: str) -> Iterator[Ray]:
    """A Ray cluster of one node."""
    cluster = Ray(folder, *more)
    try:
        yield cluster
    finally:
        cluster.kill()


def _run_no_longer_than(tests: int, argv: list[str]) -> None:
    """Run a program until it ends, or the tests do, which may be killed."""
    process = psutil.Popen(argv)
    select.select([os.pidfd_open(tests), os.pidfd_open(process.pid)], [], [])
    kill(process)


if __name__ == "__main__":
    _run_no_longer_than(int(sys.argv[1]), sys.argv[2:])

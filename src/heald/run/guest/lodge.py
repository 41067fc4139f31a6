"""What runs inside a worker of another cluster: starts an agent as a process of its own, and waits for its end.

So the agent owns its process, as everywhere, and the threads, signals and output of that worker are left as they are.
The agent ends with the worker, whatever ends that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import msgspec

from heald.core.errors import ConfigurationError, SiteError
from heald.core.version import __version__
from heald.run import kernel
from heald.run.affinity import THREADS
from heald.run.cluster import settings
from heald.run.cluster.settings import AgentSettings
from heald.run.log import tail
from heald.site import node

_BOOT = "import sys; sys.path[:] = sys.argv[3:]; from heald.run.guest.lodge import main; sys.exit(main(*sys.argv[1:3]))"
_FAREWELL = 12.0  # seconds for an agent to end all that it runs
_ARRIVAL = 10.0  # seconds within which an agent is begun after those who hold the place for it

_begun: dict[str, subprocess.Popen[bytes]] = {}
_changed = threading.Condition()


def versions() -> tuple[str, str]:
    """Of Python and of heald, which must be the same at both ends."""
    return sys.version.split()[0], __version__


def lodge(agent: str, given: bytes, gpus: int, there: tuple[str, str]) -> str:
    """Run an agent to its end; its last words. `gpus`: devices that it may use. `there`: `versions` of its head.

    Raises ConfigurationError when the versions are others here, SiteError when the agent failed.
    """
    _check(*there)
    told = msgspec.json.decode(given, type=AgentSettings)
    with tempfile.TemporaryDirectory(prefix="heald-") as folder:
        file, words = Path(folder, "agent.json"), Path(folder, "agent.out")
        run = told.run if _usable(told.run) else folder
        settings.write(file, msgspec.structs.replace(told, run=run, folder=folder, gpus=_devices(gpus)))
        # Dask and Ray say there how many threads a task of theirs may have; for heald's own, heald does.
        around = {name: value for name, value in os.environ.items() if name not in THREADS}
        argv = [sys.executable, "-c", _BOOT, str(os.getpid()), str(file), *map(os.path.abspath, sys.path)]
        with words.open("wb") as output:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=around, start_new_session=True
            )
        with _changed:
            _begun[agent] = process
            _changed.notify_all()
        try:
            status = process.wait()
        finally:
            with _changed:
                del _begun[agent]
            _finish(process)
        if status:
            raise SiteError(tail(words) or f"the agent {kernel.exit_text(status)}")
        return tail(words, 1)


def stay(agent: str) -> None:
    """Occupy a thread for as long as the agent is there: it uses the core that goes with it."""
    with _changed:
        _changed.wait_for(lambda: agent in _begun, _ARRIVAL)
        process = _begun.get(agent)
    if process is not None:
        process.wait()


async def leave(agent: str) -> None:
    """End an agent of this process, and wait until it has ended."""
    import asyncio

    if (process := _begun.get(agent)) is not None:
        await asyncio.to_thread(_finish, process)


def _finish(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _check(python: str, heald: str) -> None:
    here = versions()
    if (python.split(".")[:2], heald) != (here[0].split(".")[:2], here[1]):
        raise ConfigurationError(
            f"there is Python {here[0]} with heald {here[1]} on {os.uname().nodename}, and Python {python} with heald "
            f"{heald} where the tasks come from",
            hint=f"use the same on both sides: pip install heald=={heald}",
        )


def _usable(folder: str) -> bool:
    """Whether this machine has the folder of the run, which is so where both see the same file system."""
    return os.access(folder, os.W_OK)


def _devices(count: int) -> tuple[str, ...]:
    return node.machine().gpus[:count] or tuple(map(str, range(count)))


def main(parent: str, file: str) -> int:
    """Look after the agent, as on a node of a batch job, but no longer than `parent` lives."""
    from heald.run.cluster import warden

    kernel.die_with_parent()
    return warden.main([file]) if os.getppid() == int(parent) else 1

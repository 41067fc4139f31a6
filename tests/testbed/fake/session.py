"""A process on a host with all that it starts, as a scheduler's daemon there would start and end it.

Runs in the keeper's namespaces: it sees the processes of all hosts, and belongs to none of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_SPACES = ("net", "uts", "ipc", "pid", "mnt")
_OPTION = {"mnt": "mount"}


class Session:
    """One process and its descendants, but for those that went off into sessions of their own."""

    def __init__(self, host: str, process: asyncio.subprocess.Process, pid: int) -> None:
        self.host = host
        self.pid = pid
        self._process = process

    @classmethod
    async def start(
        cls,
        testbed: Path,
        host: str,
        command: Sequence[str],
        *,
        folder: str,
        environment: Mapping[str, str],
        files: tuple[int, int, int],
    ) -> Session:
        """Start a command on a host of the testbed in that folder. Raises FileNotFoundError if the host is off."""
        init = (testbed / host / "pid").read_text().strip()
        enter = [f"--{_OPTION.get(space, space)}=/run/machine/{init}/ns/{space}" for space in _SPACES]
        process = await asyncio.create_subprocess_exec(
            *("nsenter", *enter, f"--wdns={folder}", "--", "setsid", *command),
            stdin=files[0],
            stdout=files[1],
            stderr=files[2],
            env=dict(environment),
        )
        return cls(host, process, await _child(process))

    async def wait(self) -> int:
        """Its status: negative for a signal, as with subprocess."""
        return await self._process.wait()

    def signal(self, number: int) -> None:
        """Signal every process of the session."""
        for pid in self._members():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    async def end(self, grace: float) -> None:
        """SIGTERM, and SIGKILL to what is there after so many seconds."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except TimeoutError:
            pass
        self.signal(signal.SIGKILL)

    def _members(self) -> list[int]:
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session(pid) == self.pid]


def is_on(host: str) -> bool:
    """Whether a host has power: a crash pulls its cable first."""
    return Path("/run/netns", host).exists()


def quiet() -> tuple[int, int, int]:
    """Files for a process without input and outputs."""
    return (subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)


async def _child(process: asyncio.subprocess.Process) -> int:
    """The process that nsenter started, which leads the session; nsenter waits for it."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while True:
        try:
            found = children.read_text().split()
        except (FileNotFoundError, ProcessLookupError):  # over already
            return process.pid
        if found:
            return int(found[0])
        await asyncio.sleep(0.001)


def _session(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):
        return None

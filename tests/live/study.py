"""A user's script on the head host of a Slurm cluster, and what its tasks wrote.

Whatever fails meanwhile, the script must end well, with every value right.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from tests.testbed.host import Process, python
from tests.testbed.slurm import Slurm

Wait = Callable[..., None]

WORK = """
def work(number, seconds):
    note("began", number)
    time.sleep(seconds)
    note("done", number)
    return number
"""

SCRIPT = """
import json, os, socket, sys, time
import heald

asked = json.loads(sys.argv[1])


def note(what, number):
    with open(f"{asked['folder']}/{what}", "a+") as file:
        file.write(f"{number} {socket.gethostname()} {os.getpid()}\\n")
        file.seek(0)
        return [line.split()[0] for line in file].count(str(number))


def number_of(value):
    # What a task was about: its number, or an array that is full of it.
    if isinstance(value, int):
        return value
    assert (value == value[0]).all()
    return int(value[0])

@WORK@
if __name__ == "__main__":
    executor = heald.ClusterExecutor(asked["site"], **asked["executor"])
    with heald.Session([executor], memo=None, journal="run.heald") as session:
        futures = [session.submit(work, n, asked["seconds"]) for n in range(asked["tasks"])]
        for future in heald.as_completed(futures):
            print("value", number_of(future.result()), flush=True)
"""


class Study:
    """The script on the head host, and what its tasks wrote."""

    def __init__(self, slurm: Slurm, folder: Path, wait_until: Wait) -> None:
        self.slurm = slurm
        self.hosts = slurm.hosts
        self.folder = folder
        self.wait_until = wait_until
        self.site = folder / "testbed.toml"
        self.process: Process | None = None
        self.tasks = 0
        self.describe()

    def describe(self, **keys: object) -> None:
        """Write the file of the site."""
        table = {"name": "testbed", "scheduler": "slurm", **keys}
        self.site.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()))

    def start(self, tasks: int = 24, seconds: float = 0.5, work: str = WORK, **executor: Any) -> None:
        """Begin it, with a block of all four nodes and one core of each unless told otherwise.

        `work`: the text of what each task does; it calls `note` when it begins and when it is done, which tells how
        many times it did.
        """
        self.tasks = tasks
        options = {"nodes": 4, "workers": 1, "walltime": "10m", "silence": 2, **executor}
        asked = {"site": str(self.site), "folder": str(self.folder), "tasks": tasks, "seconds": seconds}
        command = python(self.folder, SCRIPT.replace("@WORK@", work), json.dumps({**asked, "executor": options}))
        self.process = self.hosts.start("n0", command, folder=self.folder)

    def lines(self, name: str) -> list[list[str]]:
        """What tasks wrote into a file: number, host, process."""
        file = self.folder / name
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def begun(self, count: int) -> None:
        """Wait until tasks have begun so many times."""
        self._reached("began", count)

    def under_way(self, done: int = 1) -> None:
        """Wait until so many tasks are done."""
        self._reached("done", done)

    def _reached(self, name: str, count: int) -> None:
        assert self.process is not None
        process = self.process
        self.wait_until(lambda: len(self.lines(name)) >= count or process.poll() is not None, timeout=60)
        assert process.poll() is None, process.communicate()

    def kill(self) -> None:
        """Kill the script, which nobody can prepare for."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def end(self, timeout: float = 120) -> str:
        """Wait for its end, which must be good, with every value once; what it said besides."""
        assert self.process is not None
        stdout, stderr = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, stdout + stderr
        values = [int(line.split()[1]) for line in stdout.splitlines()]
        assert sorted(values) == list(range(self.tasks))
        return stderr

    def output(self, allocation: str = "a1") -> str:
        """What a batch job printed."""
        return (self.folder / f"run.heald/agents/cluster/{allocation}.out").read_text()

    def fail(self, timeout: float = 60) -> str:
        """Wait for its end, which must be bad; what it said."""
        assert self.process is not None
        stdout, stderr = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 1, stdout + stderr
        return stderr

    def agents(self, host: str) -> list[psutil.Process]:
        """The warden, the agent and the rest of heald on a host, in the order of their start."""
        found = []
        for one in self.hosts.strangers(host):
            with contextlib.suppress(psutil.Error):  # it has just ended
                if "heald.run" in " ".join(one.cmdline()):
                    found.append(one)
        return sorted(found, key=lambda one: one.pid)

    def repeated(self) -> list[str]:
        """Numbers of tasks that were done more than once."""
        return [number for number, count in Counter(line[0] for line in self.lines("done")).items() if count > 1]

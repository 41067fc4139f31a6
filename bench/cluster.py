"""A real Slurm of a head and a few nodes on this machine, where measurements run on the head, and jobs on the nodes.

All of it is in one control group, so that the CPU time of a system is that of its client and of its jobs; that of the
scheduler is in it too, for every system alike. Needs what the testbed of the tests needs (`tests/testbed/README.md`).
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench import group

NODES = 4
NAME = f"bench-{os.getpid()}"
QUIET_SECONDS = 30


class Cluster:
    """Up while it is entered, and gone with this process."""

    def __enter__(self) -> "Cluster":
        # Imported here: they need psutil, which this benchmark's other parts do without.
        from tests.testbed.host import Hosts
        from tests.testbed.install import missing
        from tests.testbed.slurm import Slurm

        if reason := missing("slurm"):
            raise SystemExit(f"no cluster can be had here: {reason}")
        self.group = group.make(NAME)
        with group.inside(self.group):
            self.hosts = Hosts.up(NAME, NODES)
            self.slurm = Slurm.up(self.hosts)
        return self

    def __exit__(self, *_: object) -> None:
        self.hosts.down()
        group.end(self.group)

    def start(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], stdout: int, stderr: int
    ) -> subprocess.Popen[str]:
        """Begin a program on the head."""
        path = f"{self.hosts.folder / 'bin'}:{environment['PATH']}:/usr/sbin:/sbin"
        mine = {**environment, "PATH": path}
        return self.hosts.start("n0", command, folder=folder, environment=mine, stdout=stdout, stderr=stderr)

    def clean(self) -> None:
        """End what a measurement left: its jobs, and its processes on every host."""
        self.slurm.command("scancel", "--user=root", status=None)
        self._kill()
        deadline = time.monotonic() + QUIET_SECONDS
        while self.slurm.command("squeue", "--noheader") or any(map(self.hosts.strangers, self.hosts.names)):
            if time.monotonic() > deadline:
                print("bench: the cluster does not become quiet", file=sys.stderr)
                break
            self._kill()
            time.sleep(0.1)
        self.slurm.await_idle()

    def _kill(self) -> None:
        import psutil  # measurements import this module too, in environments without it

        for host in self.hosts.names:
            for process in self.hosts.strangers(host):
                with suppress(psutil.NoSuchProcess):  # it ends by itself just now
                    process.kill()


class Accepted:
    """When the scheduler has accepted a job: a program called sbatch, before the real one on the PATH, notes it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "accepted"
        real = shutil.which("sbatch")
        program = folder / "notes" / "sbatch"
        program.parent.mkdir()
        # Only the first one counts, and its time is that of its answer.
        program.write_text(
            f'#!/bin/sh\n{real} "$@"\nstatus=$?\n[ -e {self.file} ] || date +%s.%N >{self.file}\nexit $status\n'
        )
        program.chmod(0o755)
        os.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"

    def time(self) -> float:
        """Seconds since the epoch. Raises NotImplementedError when no job was asked for."""
        if not self.file.exists():
            raise NotImplementedError("it asks for no jobs")
        return float(self.file.read_text())


def delay(folder: Path, nodes: int) -> float:
    """Give the seconds from a job's acceptance until its script runs: what nobody can be quicker than."""
    note = folder / "ran"
    note.unlink(missing_ok=True)
    script = f"#!/bin/sh\ndate +%s.%N >{note}.new\nmv {note}.new {note}\n"
    words = ["/usr/bin/sbatch", f"--nodes={nodes}", "--exclusive", "--parsable", "--output=/dev/null"]
    subprocess.run(words, input=script, text=True, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    accepted = time.time()
    while not note.exists():
        time.sleep(0.005)
    return float(note.read_text()) - accepted


def await_idle(nodes: int) -> None:
    """Wait until so many nodes have nothing to do."""
    words = ["sinfo", "--noheader", "--Node", "--partition=batch", "--format=%T"]
    while subprocess.run(words, capture_output=True, text=True, check=True).stdout.split().count("idle") < nodes:
        time.sleep(0.1)

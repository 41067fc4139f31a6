"""The fake PBS as tests hold it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.testbed.fake.testbed import FakeScheduler
from tests.testbed.host import HEAD, Hosts
from tests.testbed.keeper import TestbedFailed, wait_for

_PROGRAMS = ("qsub", "qstat", "qdel", "pbsnodes", "pbsdsh", "qhold", "qrls", "qrerun", "qsig", "qalter")
_UNREACHABLE = "Connection refused\n{program}: cannot connect to server n0 (errno=15010)"
_UNREACHABLE_STATUS = 15010 % 256


class FakePbs(FakeScheduler):
    """A fake PBS over real hosts: jobs run on n1, n2..., of four CPUs, four GPUs and 8 GB each."""

    @classmethod
    def up(cls, hosts: Hosts) -> FakePbs:
        """Start it on hosts that are up."""
        pbs = cls(hosts, "pbs")
        pbs._start(_PROGRAMS, _UNREACHABLE, _UNREACHABLE_STATUS)
        return pbs

    def submit(self, script: str, *options: str, folder: Path, environment: Mapping[str, str] = {}) -> str:
        """Submit the text of a job script from `folder`; the job's id."""
        submit = ["qsub", *options]
        return self.hosts.run(HEAD, submit, text=script + "\n", folder=folder, environment=environment).stdout.strip()

    def state(self, job: str) -> str:
        """The letter of a job's state: Q, H, R, E, F, B; empty if it is unknown."""
        lines = self.command("qstat", "-x", job, status=None).splitlines()
        return lines[-1].split()[-2] if lines else ""

    def await_state(self, job: str, *states: str, patience: float = 15.0) -> str:
        """Wait until a job is in one of the states; which."""
        wait_for(lambda: self.state(job) in states, f"job {job} {' or '.join(states)}", patience=patience)
        return self.state(job)

    def stop_server(self) -> None:
        """Let nobody answer; jobs go on."""
        self.turn(down=True)

    def start_server(self) -> None:
        """Answer again."""
        self.turn(down=False)

    def stop_node(self, node: str) -> None:
        """Kill a node's daemon: the node is down; its jobs run on, and later they are queued again or have failed."""
        self._control("stop", node)

    def start_node(self, node: str) -> None:
        """Start a node's daemon; it ends what runs there and is no longer a job of that node."""
        self._control("start", node)

    def resize(self, cpus: int) -> None:
        """Let each node have so many CPUs, until the end of the test."""
        self._control("cpus", str(cpus))

    def lose(self, job: str) -> None:
        """Forget a job and end it, as a server does that comes back without its files."""
        self._control("lose", job)

    def assert_clean(self) -> None:
        """No job is left and no process of one, or soon none will be; what is left is ended, and all is made whole."""
        self._control("reset")
        self.hosts.heal()
        left = ""
        try:
            wait_for(lambda: not self.command("qstat"), "an empty queue", patience=5)
        except TestbedFailed:
            left = self.command("qstat")
            self.command("qdel", *(line.split()[0] for line in left.splitlines()[2:]), status=None)
        self.hosts.assert_quiet()
        assert not left, f"jobs were left in the queue:\n{left}"

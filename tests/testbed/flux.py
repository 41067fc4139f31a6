"""The fake Flux as tests hold it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.testbed.fake.testbed import FakeScheduler
from tests.testbed.host import HEAD, Hosts
from tests.testbed.keeper import TestbedFailed, wait_for

_UNREACHABLE = "flux: ERROR: Unable to connect to Flux: broker socket /run/flux/local was not found"


class FakeFlux(FakeScheduler):
    """A fake Flux over real hosts: jobs run on n1, n2..., of four cores and four GPUs each."""

    @classmethod
    def up(cls, hosts: Hosts) -> FakeFlux:
        """Start it on hosts that are up."""
        flux = cls(hosts, "flux")
        flux._start(["flux"], _UNREACHABLE, 1)
        return flux

    def submit(self, script: str, *options: str, folder: Path, environment: Mapping[str, str] = {}) -> str:
        """Submit the text of a batch script from `folder`; the job's id."""
        text = script if script.startswith("#!") else f"#!/bin/sh\n{script}\n"
        batch = ["flux", "batch", *options]
        return self.hosts.run(HEAD, batch, text=text, folder=folder, environment=environment).stdout.strip()

    def show(self, job: str, pattern: str) -> str:
        """What flux jobs says of a job in a format; empty if it is unknown."""
        return self.command("flux", "jobs", "-a", "-n", "-o", pattern, job).strip()

    def state(self, job: str) -> str:
        """SCHED, RUN, CLEANUP; or, when it is over, its result: COMPLETED, FAILED, CANCELED, TIMEOUT."""
        state, _, result = self.show(job, "{state} {result}").partition(" ")
        return result or state

    def await_state(self, job: str, *states: str, patience: float = 15.0) -> str:
        """Wait until a job is in one of the states; which."""
        wait_for(lambda: self.state(job) in states, f"job {job} {' or '.join(states)}", patience=patience)
        return self.state(job)

    def assert_clean(self) -> None:
        """No job is left and no process of one, or soon none will be; what is left is ended, and all is made whole."""
        self._control("reset")
        self.hosts.heal()
        left = ""
        try:
            wait_for(lambda: not self.command("flux", "jobs", "-n"), "an empty queue", patience=5)
        except TestbedFailed:
            left = self.command("flux", "jobs")
            self.command("flux", "cancel", "--all")
        self.hosts.assert_quiet()
        assert not left, f"jobs were left in the queue:\n{left}"

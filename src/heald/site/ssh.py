"""A list of hosts that ssh reaches: a job gets hosts that no other job of ours has, at once, and runs on the first.

Whoever else uses those hosts is not known here. All that a job prints goes to its `stdout`, a file of this machine.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from heald.core.errors import ConfigurationError
from heald.site.command import Ask
from heald.site.launcher import ssh
from heald.site.local import Local, limited
from heald.site.profile import NodeShape, Site
from heald.site.scheduler import Job, JobState, Nodes

_LOST = 255  # what ssh says when it could not connect, or lost the connection


class Ssh(Local):
    """Runs jobs over ssh on `hosts`, all of one `shape`."""

    def __init__(self, hosts: Sequence[str], shape: NodeShape) -> None:
        super().__init__(hosts)
        self.shape = shape

    @classmethod
    def of(cls, site: Site, ask: Ask) -> Ssh:
        """The one of a site."""
        if not site.hosts:
            hint = 'write hosts = ["node1", "node2"] into its file'
            raise ConfigurationError(f"the site {site.name} names no hosts", hint=hint)
        return cls(site.hosts, site.node)

    def nodes(self) -> Sequence[Nodes]:
        """See `Scheduler`."""
        return [Nodes(self.shape, len(self.hosts))]

    def _argv(self, job: Job, hosts: tuple[str, ...]) -> list[str]:
        # A terminal (-tt), so that the job ends when the connection does; stty, since its lines would end in CR LF.
        return [*ssh(), "-tt", hosts[0], f"stty -onlcr; exec {shlex.join(limited(job, hosts))}"]

    def _outcome(self, status: int) -> tuple[JobState, str]:
        if status == _LOST:
            return JobState.node_failed, "ssh could not connect, or lost the connection"
        return super()._outcome(status)

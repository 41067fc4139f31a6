"""Writes down what a scheduler tells of its machine, as a first version of a Site that users then make their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

from heald.core.errors import SiteError
from heald.site.adapter import connect
from heald.site.profile import NodeShape, Site
from heald.site.scheduler import Nodes, Queue, Scheduler

# The program by which a scheduler is known. Grid Engine's and PBS's other programs have the same names.
_PROGRAMS = {"slurm": "sbatch", "flux": "flux", "lsf": "bsub", "gridengine": "qconf", "pbs": "pbsnodes"}
_SCRATCH = ("SCRATCH", "MEMBERWORK", "WORK")


def schedulers() -> list[str]:
    """The schedulers whose programs are on PATH."""
    return [name for name, program in _PROGRAMS.items() if shutil.which(program)]


def detect(
    name: str, scheduler: str, queue: str = "", ask: Scheduler | None = None, variables: Mapping[str, str] = os.environ
) -> Site:
    """A Site of this name, from what the scheduler tells; of its queues, the one named, or its default.

    `ask` stands in for the scheduler's programs. Raises SiteError when there is no such queue.
    """
    asked = ask or connect(Site(name, scheduler))
    queues, nodes = asked.queues(), asked.nodes()
    chosen = queue or _default(queues)
    if queue and queue not in {known.name for known in queues}:
        raise SiteError(f"there is no queue {queue}", hint=f"there are {', '.join(known.name for known in queues)}")
    scratch = next((f"${variable}" for variable in _SCRATCH if variables.get(variable)), "")
    return Site(
        name,
        scheduler,
        queue=chosen,
        scratch=scratch,
        node=_shape(nodes, chosen),
        queues={known.name: known.limits for known in queues if known.open},
    )


def _default(queues: Sequence[Queue]) -> str:
    """The default queue; or the only one."""
    named = [queue.name for queue in queues if queue.default] or [queue.name for queue in queues if queue.open]
    return named[0] if named and (len(named) == 1 or queues[0].default) else ""


def _shape(nodes: Sequence[Nodes], queue: str) -> NodeShape:
    """The shape that most nodes of the queue have."""
    here = [kind for kind in nodes if not kind.queues or queue in kind.queues] or nodes
    return max(here, key=lambda kind: kind.count).shape if here else NodeShape()

"""Writes down what a scheduler tells of its machine, as a first version of a Site that users then make their own."""

from __future__ import annotations

from collections.abc import Sequence

from heald.core.errors import SiteError
from heald.site import command
from heald.site.adapter import connect
from heald.site.command import Ask
from heald.site.profile import NodeShape, Site
from heald.site.scheduler import Nodes, Queue

# The program by which a scheduler is known. Grid Engine's and PBS's other programs have the same names.
_PROGRAMS = {"slurm": "sbatch", "flux": "flux", "lsf": "bsub", "gridengine": "qconf", "pbs": "pbsnodes"}
_SCRATCH = ("SCRATCH", "MEMBERWORK", "WORK")


_WHICH = 'for name; do command -v "$name" >/dev/null && echo "$name"; done; true'
_VALUES = 'for name; do eval "[ -n \\"\\$$name\\" ]" && echo "$name"; done; true'


def schedulers(ask: Ask = command.ask) -> list[str]:
    """The schedulers whose programs are on PATH, where `ask` runs programs."""
    found = ask(["/bin/sh", "-c", _WHICH, "sh", *_PROGRAMS.values()]).out.split()
    return [name for name, program in _PROGRAMS.items() if program in found]


def detect(name: str, scheduler: str, queue: str = "", *, login: str = "", ask: Ask = command.ask) -> Site:
    """A Site of this name, from what the scheduler tells; of its queues, the one named, or its default.

    `ask` runs its programs, on the host `login` if it is not here. Raises SiteError when there is no such queue.
    """
    asked = connect(Site(name, scheduler, login=login), ask=ask)
    queues, nodes = asked.queues(), asked.nodes()
    chosen = queue or _default(queues)
    if queue and queue not in {known.name for known in queues}:
        raise SiteError(f"there is no queue {queue}", hint=f"there are {', '.join(known.name for known in queues)}")
    scratch = ask(["/bin/sh", "-c", _VALUES, "sh", *_SCRATCH]).out.split()
    return Site(
        name,
        scheduler,
        login=login,
        queue=chosen,
        scratch=f"${scratch[0]}" if scratch else "",
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

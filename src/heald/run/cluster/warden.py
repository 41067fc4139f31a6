"""The parent of an agent: when the agent dies, it starts another, so that one crash is not the loss of a node.

`python -m heald.run.cluster.warden SETTINGS` is what runs on each node. The head learns of a dead agent by the hello of
the next, well within a second.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import MutableMapping
from pathlib import Path

import msgspec

from heald.core.errors import HealdError
from heald.run import kernel
from heald.run.affinity import ALLOCATION
from heald.run.cluster.agent import Agent
from heald.run.cluster.settings import AgentSettings, read
from heald.run.function import look_in
from heald.site import node
from heald.site.launcher import forget_rank
from heald.wire.address import Unreachable
from heald.wire.link import Refused

_DEATHS = 5  # agents that died within a minute: there is no use in more
_MINUTE = 60.0
_LAUNCH = 300.0  # seconds that it may take from the pilot to here; in Slurm, clocks can differ by as many
# The exit status of an agent that found no head. The line to one behind a login node may be cut for now: after so many
# seconds another agent looks for it.
_NOBODY, _PAUSE = 75, 2.0


def main(argv: list[str]) -> int:
    """Look after the agent of this node until its work is over; the exit status."""
    given = read(Path(argv[0]))
    forget_rank()
    look_in(given.path)
    kernel.take_argv(given.argv)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    ends = time.monotonic() + left()
    ended: list[float] = []
    begun = time.monotonic()
    child = 0

    def pass_on(number: int, frame: object) -> None:
        if child:
            kernel.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    while True:
        child = os.fork()
        if not child:
            _become_agent(given, ends - time.monotonic())
        status = kernel.exit_status(os.waitpid(child, 0)[1])
        if status == _NOBODY and given.site.login and time.monotonic() - begun < given.lease:
            time.sleep(_PAUSE)
            given = read(Path(argv[0]))  # it may be elsewhere by then
            continue
        if status >= 0:
            return status
        now = time.monotonic()
        ended = [*(one for one in ended if now - one < _MINUTE), now]
        print(f"the agent {kernel.exit_text(status)}", file=sys.stderr, flush=True)
        if len(ended) >= _DEATHS:
            print(f"{_DEATHS} agents died within a minute: no more are started", file=sys.stderr, flush=True)
            return 1


def _become_agent(given: AgentSettings, left: float) -> None:
    status = 1
    try:
        kernel.die_with_parent()
        try:
            os.chdir(given.directory)
        except OSError:
            os.chdir(Path.home())  # the nodes do not share that file system
        os.environ[ALLOCATION] = given.allocation
        print(Agent(given, _machine(given), left).serve(), file=sys.stderr, flush=True)
        status = 0
    except (Unreachable, Refused, HealdError) as raised:
        print(f"{type(raised).__name__}: {raised}", file=sys.stderr, flush=True)
        status = 0 if isinstance(raised, Refused) else _NOBODY if isinstance(raised, Unreachable) else 1
    except BaseException:
        traceback.print_exc()
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        os.abort()  # a fault of ours: the warden starts another
    finally:
        os._exit(status)


def _machine(given: AgentSettings) -> node.Machine:
    """This node, as far as the settings leave it to the agent."""
    found = node.machine()
    cores = found.cores[: given.workers] if given.workers else found.cores
    # Hyperthreads of one core make one worker: what is counted is its first.
    counted = tuple(core[0] for core in cores) or tuple(range(given.workers or 1))
    if given.workers > len(counted):
        counted = tuple(range(given.workers))
    return msgspec.structs.replace(
        found,
        cpus=counted,
        gpus=found.gpus if given.gpus is None else given.gpus,
        memory=given.memory or found.memory,
    )


def left(variables: MutableMapping[str, str] = os.environ) -> float:
    """Seconds until the scheduler takes this node away, as far as the batch job knows; to be asked once, at the start.

    The clock of this node counts what has passed since the pilot looked at its own, unless one of the two is wrong.

    >>> left({}), left({"HEALD_ENDS": "7200", "HEALD_LEFT": "3600.0"})
    (inf, 3600.0)
    """
    ends, told = node.grant(variables).ends, float(variables.pop(node.LEFT, "inf"))
    here = math.inf if ends is None else ends.timestamp() - time.time()
    return here if told == math.inf or told - _LAUNCH <= here <= told else told


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

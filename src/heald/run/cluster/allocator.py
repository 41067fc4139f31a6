"""Gets nodes and gives them back: how many blocks there are, from what is to be done and what is there.

What it decides, it decides in the engine's thread; a thread of its own speaks with the scheduler, which may take its
time. A block is an allocation of one batch job; the agents of one that ends are lost one by one, and it is they, not
the scheduler's word, that say whether nodes can be used.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from heald.core.allocation import Allocation, AllocationState
from heald.core.errors import HealdError, SchedulerUnreachable, SiteError
from heald.core.placement import Placement
from heald.core.scale import Facts, Limits, more
from heald.run.cluster import settings
from heald.run.cluster.ledger import Ledger
from heald.run.cluster.pilot import program
from heald.site.scheduler import JobState, JobStatus, Scheduler, job

if TYPE_CHECKING:
    from heald.run.cluster.depot import Depot
    from heald.run.cluster.executor import ClusterExecutor
    from heald.run.cluster.lane import Remote

_FAILURES = 2  # blocks in a row that ended before an agent came: there is no use in more
_FORGOTTEN = 60.0  # seconds after which a job that is missing is over
_LOOK = 1.0  # seconds between looks at what is needed, and at what the scheduler said last
_STATES = {
    JobState.queued: AllocationState.pending,
    JobState.held: AllocationState.pending,
    JobState.running: AllocationState.running,
    JobState.ending: AllocationState.running,
}
_ENDS = {
    JobState.done: AllocationState.ended,
    JobState.timeout: AllocationState.ended,
    JobState.cancelled: AllocationState.cancelled,
}


class Owner(Protocol):
    """The pool for which nodes are got."""

    label: str

    @property
    def placement(self) -> Placement:
        """What waits, and where there is room."""

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` in the engine's thread when that time has passed."""

    def post(self, act: Callable[[], None]) -> None:
        """Have `act` called in the engine's thread; from any."""

    def broken(self, reason: str) -> None:
        """No nodes can be had."""

    def remotes(self, allocation: str) -> list[Remote]:
        """The agents of an allocation."""

    def retire(self, allocation: str, reason: str) -> None:
        """Tell the agents of an allocation to end."""


class Block(msgspec.Struct):
    """One allocation. `served`: an agent of it has come. `ending`: why it is being given back, if it is. `missing`: the
    monotonic time since which the scheduler does not know its job. `examined`: its output is looked at for its failure.
    `advice`: why it waits and what to do about that, as the user was told.
    """

    allocation: Allocation
    served: bool = False
    ending: str = ""
    missing: float = math.inf
    examined: bool = False
    advice: str = ""

    def over(self, state: JobState) -> bool:
        """Whether the job has ended. One that a scheduler has not known for long has, though nobody knows how."""
        self.missing = min(self.missing, time.monotonic()) if state is JobState.missing else math.inf
        return state.final or time.monotonic() - self.missing > _FORGOTTEN


class Allocator:
    """The blocks of one executor. `given` is what their agents are told, but for the name of the allocation."""

    def __init__(
        self,
        executor: ClusterExecutor,
        given: settings.AgentSettings,
        folder: Path,
        owner: Owner,
        scheduler: Scheduler,
        depot: Depot,
    ) -> None:
        self.blocks: dict[str, Block] = {}
        self._executor = executor
        self._site = executor.site
        self._given = given
        self._folder = folder
        self._owner = owner
        self._scheduler = scheduler
        self._depot = depot
        self._job = job(  # checked now, at the call, and not when the first block is needed
            self._site, "heald", (), nodes=executor.nodes, walltime=executor.walltime, directory=given.directory
        )
        self._limits = Limits(executor.init, executor.fewest, executor.most, executor.parallelism, executor.block_cores)
        self._failures: list[str] = []
        self._broken = ""  # why there are no nodes any more
        self._closed = False
        self._count = 0  # blocks asked for so far
        self._asking = False  # what became of the blocks, before this turn ends
        self._asked = False  # the same, and there was no answer yet
        self._complaint = ""  # why there was none the last time
        self._ledger = Ledger(folder)
        self._jobs: dict[str, str] = {}  # by allocation; changed by the scheduler's thread
        self._requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"heald-{owner.label}-scheduler", daemon=True)

    def start(self) -> bool:
        """Take up the blocks of a head that was killed, and ask for the first ones; whether there were any."""
        for allocation in self._ledger.former():
            self.blocks[allocation.id] = Block(allocation)
            self._do(partial(self._write, allocation.id))
        self._count = len(self.blocks)
        self._thread.start()
        self._look()
        return bool(self.blocks)

    @property
    def allocations(self) -> list[Allocation]:
        """All that there were, those that are over first."""
        return [*self._ledger.over, *(block.allocation for block in self.blocks.values())]

    # -- decisions, in the engine's thread ---------------------------------------------------------------------------

    def _look(self) -> None:
        if self._closed:
            return
        self._owner.after(_LOOK, self._look)
        self._scale_out()
        self._scale_in()
        self._ask()

    def consider(self) -> None:
        """Something became ready: ask for nodes at once when there are none."""
        if not self.blocks and not self._broken and not self._closed and len(self._owner.placement):
            self._scale_out()

    def _scale_out(self) -> None:
        if self._broken:
            return
        live = self._live()
        facts = Facts(
            wanted=self._owner.placement.wanted(),
            coming=sum(not block.served for block in live) * self._limits.cores,
            blocks=len(live),
            asked=self._count,
        )
        for _ in range(more(facts, self._limits)):
            self._request()

    def _live(self) -> list[Block]:
        return [block for block in self.blocks.values() if not block.ending]

    def _scale_in(self) -> None:
        """Give back blocks where nothing can begin any more, and those that have had nothing to do for long.

        Nobody's work is ended by it, and the next one may be asked for meanwhile.
        """
        idle, now = self._executor.idle_seconds, time.time()
        for block in self._live():
            remotes = self._owner.remotes(block.allocation.id)
            if remotes and all(one.node.until <= now for one in remotes):
                self.release(block.allocation.id, "its time ends")
        if not idle or len(self._owner.placement):
            return
        for block in self._live()[self._limits.fewest :]:
            remotes = self._owner.remotes(block.allocation.id)
            if remotes and all(one.idle_for(now) > idle for one in remotes):
                self.release(block.allocation.id, "it had nothing to do")

    def acquire(self, count: int) -> list[Block]:
        """Ask for so many more blocks now, and from now on allow as many more. Raises SiteError when there are none."""
        if self._broken:
            raise SiteError(self._broken, hint="start the script again: it goes on where it was")
        self._limits = msgspec.structs.replace(self._limits, most=self._limits.most + count)
        return [self._request() for _ in range(count)]

    def give_up(self, allocation: str) -> None:
        """Give an allocation back, and from now on allow one fewer."""
        self._limits = msgspec.structs.replace(self._limits, most=self._limits.most - 1)
        self.release(allocation, "somebody gave it back")

    def release(self, allocation: str, reason: str) -> None:
        """Give an allocation back once what runs there has ended; another may be asked for."""
        block = self.blocks[allocation]
        block.ending = reason
        self._owner.retire(allocation, reason)
        self._cancel_if_empty(block)

    def _cancel_if_empty(self, block: Block) -> None:
        """The agents of a block that is given back have ended: end its job too."""
        id = block.allocation.job
        if id is not None and not self._owner.remotes(block.allocation.id):
            self._do(lambda: self._scheduler.cancel([id]))

    def _request(self) -> Block:
        executor = self._executor
        self._count += 1
        name = self._ledger.name(self.blocks)
        allocation = Allocation(
            id=name, site=self._site.name, nodes=executor.nodes, walltime=executor.walltime, requested=datetime.now(UTC)
        )
        block = self.blocks[name] = Block(allocation)
        self._keep()
        folder = Path(self._depot.folder)
        asked = msgspec.structs.replace(
            self._job,
            name=f"heald-{Path(self._given.run).stem}-{name}",
            command=tuple(program("pilot", self._given.site.python, folder / f"{name}.json", self._given.path)),
            stdout=str(folder / f"{name}.out"),
        )

        def submit() -> None:
            if self._closed:
                return
            try:
                self._write(name)
                id = self._jobs[name] = self._scheduler.submit(asked)
            except HealdError as raised:
                text = str(raised)
                again = isinstance(raised, SchedulerUnreachable)
                self._owner.post(lambda: self._refused(name, text, again=again))
            else:
                self._owner.post(lambda: self._accepted(name, id))

        self._do(submit)
        return block

    def _write(self, name: str) -> None:
        told = msgspec.structs.replace(self._given, allocation=name)
        self._depot.write(f"{name}.json", msgspec.json.encode(told))

    # -- what became of it -------------------------------------------------------------------------------------------

    def _accepted(self, name: str, id: str) -> None:
        self._change(name, job=id)
        if self.blocks[name].ending:
            self._do(lambda: self._scheduler.cancel([id]))

    def _refused(self, name: str, text: str, *, again: bool) -> None:
        if again:
            del self.blocks[name]
            self._count -= 1
            logging.getLogger("heald").warning("%s: %s; it is asked again", self._site.name, text)
            return
        self._end(self.blocks[name], AllocationState.failed, text)
        if live := self._live():  # mostly there is a limit on a user's jobs
            self._limits = msgspec.structs.replace(self._limits, most=len(live))
            logging.getLogger("heald").warning("%s gives no more than %d blocks: %s", self._site.name, len(live), text)
        else:
            self._failed(f"the scheduler refuses the job: {text}", at_once=True)

    def refused(self, allocation: str, reason: str) -> None:
        """An agent came that cannot be used."""
        if allocation in self.blocks and not self.blocks[allocation].ending:
            self.release(allocation, reason)
            self._failed(reason, at_once=True)

    def met(self, allocation: str) -> None:
        """An agent came."""
        self._failures.clear()
        block = self.blocks.get(allocation)
        if block is None:  # of a head before
            self._ledger.revive(allocation)
            block = self.blocks[allocation] = Block(
                Allocation(
                    id=allocation, site=self._site.name, nodes=self._executor.nodes, walltime=self._executor.walltime
                )
            )
        block.served = True
        self._change(allocation, state=AllocationState.running, reason="")

    def lost(self, allocation: str, reason: str) -> None:
        """An agent went away."""
        block = self.blocks.get(allocation)
        if block is not None and block.ending:
            self._cancel_if_empty(block)
        if not self._asking:  # agents are mostly lost together: one question is for all of a turn
            self._asking = True
            self._owner.after(0.0, self._ask)

    def _ask(self) -> None:
        self._asking = False
        jobs = {block.allocation.job: name for name, block in self.blocks.items() if block.allocation.job is not None}

        def ask() -> None:
            try:
                said = self._scheduler.status([id for id in jobs if id is not None])
            except HealdError as raised:
                if raised.message != self._complaint:  # once, and not at each look
                    self._complaint = raised.message
                    logging.getLogger("heald").warning("%s: %s", self._site.name, raised)
            else:
                self._complaint = ""
                self._owner.post(lambda: self._heard({jobs[id]: status for id, status in said.items()}))
            finally:
                self._asked = False

        if jobs and not self._asked:
            self._asked = True
            self._do(ask)

    def _heard(self, said: dict[str, JobStatus]) -> None:
        for name, status in said.items():
            block = self.blocks.get(name)
            if block is None:
                continue
            if block.over(status.state) and not self._owner.remotes(name):
                self._ended(block, status)
            else:
                self._told(name, status)

    def _told(self, name: str, status: JobStatus) -> None:
        told: dict[str, object] = {"hosts": status.hosts, "started": status.started, "ends": status.ends}
        if not self._owner.remotes(name):  # else they know better: the scheduler's answer may be some seconds old
            told |= {"state": _STATES.get(status.state, self.blocks[name].allocation.state), "reason": status.reason}
            self._advise(self.blocks[name], status)
        self._change(name, **told)

    def _advise(self, block: Block, status: JobStatus) -> None:
        """Say why a job waits when somebody may have to do something about it: it could wait for ever."""
        advice = f"{status.reason}; {status.hint}" if status.hint else ""
        if advice and advice != block.advice:
            block.advice = advice
            logging.getLogger("heald").warning("job %s of %s waits: %s", block.allocation.job, self._site.name, advice)

    def _ended(self, block: Block, status: JobStatus) -> None:
        if block.served or block.ending:
            self._end(block, _ENDS.get(status.state, AllocationState.failed), status.reason)
        elif not block.examined:  # what it printed says more
            block.examined = True
            self._do(lambda: self._examine(block, status))

    def _examine(self, block: Block, status: JobStatus) -> None:
        words = self._depot.tail(f"{block.allocation.id}.out")
        self._owner.post(lambda: self._ended_unserved(block, status, words))

    def _ended_unserved(self, block: Block, status: JobStatus, words: str) -> None:
        if block.allocation.id in self.blocks:
            self._end(block, _ENDS.get(status.state, AllocationState.failed), status.reason)
            ended = f"job {block.allocation.job} ended ({status.state}) before an agent of it came"
            parts = [ended, status.reason, status.hint]
            self._failed("; ".join(filter(None, parts)) + (f"\n{words}" if words else ""))

    def _end(self, block: Block, state: AllocationState, reason: str) -> None:
        del self.blocks[block.allocation.id]
        self._ledger.end(block.allocation, state, block.ending or reason)
        self._keep()

    def _failed(self, reason: str, *, at_once: bool = False) -> None:
        self._failures.append(reason)
        if self.blocks and not at_once:
            return
        if at_once or len(self._failures) >= _FAILURES:
            if any(self._owner.remotes(name) for name in self.blocks):
                logging.getLogger("heald").error("%s gives no more nodes: %s", self._site.name, reason)
            else:
                self._broken = f"{self._site.name} gives no nodes: {reason}"
                self._owner.broken(self._broken)

    def _change(self, name: str, **changes: object) -> None:
        block = self.blocks.get(name)
        if block is not None:
            now = msgspec.structs.replace(block.allocation, **changes)
            if now != block.allocation:
                block.allocation = now
                self._keep()

    def _keep(self) -> None:
        self._ledger.keep(block.allocation for block in self.blocks.values())

    # -- the scheduler's thread --------------------------------------------------------------------------------------

    def _do(self, act: Callable[[], None]) -> None:
        self._requests.put(act)

    def _serve(self) -> None:
        while (act := self._requests.get()) is not None:
            try:
                act()
            except HealdError as raised:
                logging.getLogger("heald").warning("%s: %s", self._site.name, raised)
            except Exception as raised:
                self._give_up(f"heald cannot speak with its scheduler: {type(raised).__name__}: {raised}")

    def _give_up(self, text: str) -> None:
        self._owner.post(lambda: self._failed(text, at_once=True))

    def close(self, timeout: timedelta = timedelta(seconds=20)) -> None:
        """Give everything back, and wait until the scheduler knows."""
        self._closed = True
        blocks = list(self.blocks.values())

        def jobs() -> list[str]:
            return [id for one in blocks if (id := one.allocation.job or self._jobs.get(one.allocation.id))]

        if blocks:
            self._do(lambda: self._scheduler.cancel(jobs()))  # asked there: all submissions are over then
        self._requests.put(None)
        self._thread.join(timeout.total_seconds())
        if self._thread.is_alive():
            logging.getLogger("heald").warning(
                "%s does not answer: jobs %s end by themselves, %s after their last word of this run",
                self._site.name, ", ".join(jobs()), self._given.lease,
            )  # fmt: skip
        else:
            for block in blocks:
                self._end(block, AllocationState.cancelled, "the run was over")

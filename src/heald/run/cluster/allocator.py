"""Gets nodes and gives them back: how many blocks there are, from what is to be done and what is there.

What it decides, it decides in the engine's thread; a thread of its own speaks with the scheduler, which may take its
time. A block is an allocation of one batch job; the agents of one that ends are lost one by one, and it is they, not
the scheduler's word, that say whether nodes can be used.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from heald.core.allocation import Allocation, AllocationState
from heald.core.errors import HealdError, SchedulerUnreachable
from heald.core.placement import Placement
from heald.core.scale import Facts, Limits, more
from heald.run.cluster import settings
from heald.run.cluster.pilot import program
from heald.run.log import tail
from heald.site.adapter import connect
from heald.site.scheduler import JobState, JobStatus, job
from heald.wire import key

if TYPE_CHECKING:
    from heald.run.cluster.executor import ClusterExecutor
    from heald.run.cluster.lane import Remote

_FAILURES = 3  # blocks in a row that ended before an agent came: there is no use in more
_LOOK = 1.0  # seconds between looks at what is needed
_ASK = 5.0  # seconds between questions to the scheduler, which shares its answers for longer
_STATES = {
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
    """One allocation. `served`: an agent of it has come. `ending`: it is being given back."""

    allocation: Allocation
    served: bool = False
    ending: bool = False


class Allocator:
    """The blocks of one executor. `given` is what their agents are told, but for the name of the allocation."""

    def __init__(self, executor: ClusterExecutor, given: settings.AgentSettings, folder: Path, owner: Owner) -> None:
        self.blocks: dict[str, Block] = {}
        self._executor = executor
        self._site = executor.site
        self._given = given
        self._folder = folder
        self._owner = owner
        self._scheduler = connect(self._site)
        self._job = job(  # checked now, at the call, and not when the first block is needed
            self._site, "heald", (), nodes=executor.nodes, walltime=executor.walltime, directory=given.directory
        )
        self._failures: list[str] = []
        self._broken = False
        self._closed = False
        self._asked = 0.0
        self._count = 0
        self._requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"heald-{owner.label}-scheduler", daemon=True)

    def start(self) -> bool:
        """Take up the blocks of a head that was killed, and ask for the first ones; whether there were any."""
        former = self._former()
        for allocation in former:
            self.blocks[allocation.id] = Block(allocation)
            self._count = max(self._count, int(allocation.id.lstrip("a")))
            self._write(allocation.id)
        self._thread.start()
        self._look()
        return bool(former)

    # -- decisions, in the engine's thread ---------------------------------------------------------------------------

    def _look(self) -> None:
        if self._closed:
            return
        self._owner.after(_LOOK, self._look)
        self._scale_out()
        self._scale_in()
        if self.blocks and time.monotonic() - self._asked > _ASK:
            self._ask()

    def consider(self) -> None:
        """Something became ready: ask for nodes at once when there are none."""
        if not self.blocks and not self._broken and not self._closed and len(self._owner.placement):
            self._scale_out()

    def _scale_out(self) -> None:
        if self._broken:
            return
        executor, owner = self._executor, self._owner
        live = [block for block in self.blocks.values() if not block.ending]
        facts = Facts(
            wanted=owner.placement.wanted(),
            coming=sum(not block.served for block in live) * executor.block_cores,
            blocks=len(live),
            asked=self._count,
        )
        limits = Limits(executor.init, executor.fewest, executor.most, executor.parallelism, executor.block_cores)
        for _ in range(more(facts, limits)):
            self._request()

    def _scale_in(self) -> None:
        """Give back blocks that have had nothing to do for long; nobody's work is ended by it."""
        idle, now = self._executor.idle_seconds, time.time()
        if not idle or len(self._owner.placement):
            return
        live = [block for block in self.blocks.values() if not block.ending]
        for block in live[self._executor.fewest :]:
            remotes = self._owner.remotes(block.allocation.id)
            if remotes and all(one.idle_for(now) > idle for one in remotes):
                self.release(block.allocation.id, "it had nothing to do")

    def release(self, allocation: str, reason: str) -> None:
        """Give an allocation back."""
        block = self.blocks[allocation]
        block.ending = True
        self._owner.retire(allocation, reason)
        self._cancel_if_empty(block)

    def _cancel_if_empty(self, block: Block) -> None:
        """The agents of a block that is given back have ended: end its job too."""
        id = block.allocation.job
        if id is not None and not self._owner.remotes(block.allocation.id):
            self._do(lambda: self._scheduler.cancel([id]))

    def _request(self) -> None:
        executor = self._executor
        self._count += 1
        name = f"a{self._count}"
        allocation = Allocation(
            id=name, site=self._site.name, nodes=executor.nodes, walltime=executor.walltime, requested=datetime.now(UTC)
        )
        self.blocks[name] = Block(allocation)
        file = self._write(name)
        asked = msgspec.structs.replace(
            self._job,
            name=f"heald-{Path(self._given.run).stem}-{name}",
            command=tuple(program("pilot", self._site.python, file, self._given.path)),
            stdout=str(self._folder / f"{name}.out"),
        )

        def submit() -> None:
            try:
                id = self._scheduler.submit(asked)
            except HealdError as raised:
                text = str(raised)
                again = isinstance(raised, SchedulerUnreachable)
                self._owner.post(lambda: self._refused(name, text, again=again))
            else:
                self._owner.post(lambda: self._accepted(name, id))

        self._do(submit)

    def _write(self, name: str) -> Path:
        file = self._folder / f"{name}.json"
        settings.write(file, msgspec.structs.replace(self._given, allocation=name, folder=str(self._folder)))
        return file

    # -- what became of it -------------------------------------------------------------------------------------------

    def _accepted(self, name: str, id: str) -> None:
        self._change(name, job=id)
        if self._closed:
            self._do(lambda: self._scheduler.cancel([id]))

    def _refused(self, name: str, text: str, *, again: bool) -> None:
        del self.blocks[name]
        if again:
            logging.getLogger("heald").warning("%s: %s; it is asked again", self._site.name, text)
            self._count -= 1
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
            block = self.blocks[allocation] = Block(
                Allocation(
                    id=allocation, site=self._site.name, nodes=self._executor.nodes, walltime=self._executor.walltime
                )
            )
        block.served = True
        self._change(allocation, state=AllocationState.running)

    def lost(self, allocation: str, reason: str) -> None:
        """An agent went away."""
        block = self.blocks.get(allocation)
        if block is not None and block.ending:
            self._cancel_if_empty(block)
        self._ask()

    def _ask(self) -> None:
        self._asked = time.monotonic()
        jobs = {block.allocation.job: name for name, block in self.blocks.items() if block.allocation.job is not None}

        def ask() -> None:
            try:
                said = self._scheduler.status([id for id in jobs if id is not None])
            except HealdError as raised:
                logging.getLogger("heald").warning("%s: %s", self._site.name, raised)
            else:
                self._owner.post(lambda: self._heard({jobs[id]: status for id, status in said.items()}))

        if jobs:
            self._do(ask)

    def _heard(self, said: dict[str, JobStatus]) -> None:
        for name, status in said.items():
            block = self.blocks.get(name)
            if block is None:
                continue
            if status.state.final and not self._owner.remotes(name):
                self._ended(block, status)
            else:
                self._change(name, reason=status.reason, hosts=status.hosts, started=status.started, ends=status.ends)

    def _ended(self, block: Block, status: JobStatus) -> None:
        name = block.allocation.id
        self._change(name, state=_STATES.get(status.state, AllocationState.failed), reason=status.reason)
        del self.blocks[name]
        if not block.served and not block.ending:
            words = tail(self._folder / f"{name}.out")
            parts = [f"job {block.allocation.job} ended ({status.state}) before an agent of it came", status.reason]
            self._failed("; ".join(filter(None, parts)) + (f"\n{words}" if words else ""))

    def _failed(self, reason: str, *, at_once: bool = False) -> None:
        self._failures.append(reason)
        if self.blocks and not at_once:
            return
        if at_once or len(self._failures) >= _FAILURES:
            if any(self._owner.remotes(name) for name in self.blocks):
                logging.getLogger("heald").error("%s gives no more nodes: %s", self._site.name, reason)
            else:
                self._broken = True
                self._owner.broken(f"{self._site.name} gives no nodes: {reason}")

    def _change(self, name: str, **changes: object) -> None:
        block = self.blocks.get(name)
        if block is not None:
            now = msgspec.structs.replace(block.allocation, **changes)
            if now != block.allocation:
                block.allocation = now
                self._keep()

    def _keep(self) -> None:
        allocations = [block.allocation for block in self.blocks.values()]
        key.write(self._folder / "allocations.json", msgspec.json.encode(allocations))

    def _former(self) -> Sequence[Allocation]:
        try:
            return msgspec.json.decode((self._folder / "allocations.json").read_bytes(), type=list[Allocation])
        except (OSError, msgspec.MsgspecError):
            return ()

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
        jobs = [block.allocation.job for block in self.blocks.values() if block.allocation.job is not None]
        if jobs:
            self._do(lambda: self._scheduler.cancel(jobs))
        self._requests.put(None)
        self._thread.join(timeout.total_seconds())
        if self._thread.is_alive():
            logging.getLogger("heald").warning(
                "%s does not answer: jobs %s end by themselves, %s after their last word of this run",
                self._site.name, ", ".join(jobs), self._given.lease,
            )  # fmt: skip
        else:
            (self._folder / "allocations.json").unlink(missing_ok=True)

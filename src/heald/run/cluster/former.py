"""What a head that was killed had under way, and its successor takes over: attempts that run on, or have ended since.

Two sides tell of each: the script, when it submits the task again and the journal knows where it ran; and the agent,
when it meets the new head. Whoever comes second completes it. A task whose agent does not come is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from heald.core.event import Failure, Usage
from heald.core.task import Payload
from heald.run.cluster.bulk import is_large
from heald.run.cluster.dialogue import Standing, Stands
from heald.run.cluster.lane import FarLane, Remote
from heald.run.dispatch import Dispatch
from heald.run.pool import unwanted
from heald.run.protocol import Order

Attempt = tuple[int, int]  # task and number


class Host(Protocol):
    """Whoever knows the tasks: the engine."""

    def resume(self, task: int, attempt: int, lane: str, label: str) -> bytes | None:
        """An attempt of a former process goes on there: the digest of its work; None when it is not wanted any more."""

    def place_again(self, tasks: Iterable[int]) -> None:
        """These wait in vain for an attempt of a former process."""

    def ended(self, order: Order, outcome: Payload | Failure, usage: Usage) -> None:
        """The attempt is over."""

    def now(self) -> float:
        """Seconds since the epoch."""


class Former:
    """Attempts of a former head of the executor `label`. `stop` ends one that nobody wants any more."""

    def __init__(
        self, label: str, dispatch: Dispatch, host: Host, stop: Callable[[FarLane, Order, Failure], None]
    ) -> None:
        self._label = label
        self._dispatch = dispatch
        self._host = host
        self._stop = stop
        self._expected = False  # agents of it may still come
        self._running: dict[Attempt, FarLane] = {}  # of tasks that were not submitted again yet
        self._ended: dict[Attempt, tuple[Any, Usage]] = {}  # of such tasks
        self._waiting: dict[int, int] = {}  # the attempts of tasks submitted again that no agent has told of
        self._awaited: dict[str, list[int]] = {}  # such tasks by node, and some that have been told of
        self._heard: set[str] = set()  # nodes whose agents have told what they have

    def expect(self) -> None:
        """There was a former head, and its agents may come."""
        self._expected = True

    def give_up(self) -> None:
        """No agent will come any more that has not: what waits for one is run again."""
        self._expected = False
        lost = list(self._waiting)
        self._waiting.clear()
        self._awaited.clear()
        self._host.place_again(lost)

    # -- from the side of the script ---------------------------------------------------------------------------------

    def resume(self, task: int, attempt: int, worker: str) -> bool:
        """The task was submitted again; its attempt ran on `worker`: whether it runs on, has ended well, or may."""
        key = (task, attempt)
        if key in self._ended:
            self._finish(key, worker, *self._ended.pop(key))
        elif key in self._running:
            self._go_on(self._running.pop(key), key)
        elif self._expected and _node(worker) not in self._heard:
            self._waiting[task] = attempt
            self._awaited.setdefault(_node(worker), []).append(task)
        else:
            return False
        return True

    # -- from the side of an agent -----------------------------------------------------------------------------------

    def take_over(self, remote: Remote, said: Stands) -> None:
        """What an agent has of a former head."""
        name = remote.node.name
        self._heard.add(name)
        there = {(end.task, end.attempt) for end in said.ends}
        there.update(attempt for standing in said.lanes for attempt in standing.orders)
        for standing in said.lanes:
            self._adopt(remote, standing)
        remote.late.extend(said.ends)
        awaited = [task for task in self._awaited.pop(name, ()) if task in self._waiting]
        lost = [task for task in awaited if (task, self._waiting[task]) not in there]
        for task in lost:
            del self._waiting[task]
        self._host.place_again(lost)
        self.late(remote)

    def _adopt(self, remote: Remote, standing: Standing) -> None:
        remote.taken(standing.lane)
        lane = remote.lanes[standing.lane] = FarLane(standing.lane, standing.name, remote)
        own, *others = standing.lease.shares
        shares = (msgspec.structs.replace(own, node=remote.node.name), *others)
        lane.fifo.extend(Order(task, attempt, b"", Payload(b"")) for task, attempt in standing.orders)
        lane.long = True  # nobody knows how long they are
        placement = self._dispatch.placement
        self._dispatch.adopt(lane, placement.adopt(shares, standing.lease.needs, self._host.now()))
        for attempt in standing.orders:
            if self._claim(attempt):
                self._go_on(lane, attempt)
            else:
                self._running[attempt] = lane

    def late(self, remote: Remote) -> None:
        """Take in the ends that an agent has told, as far as their values are here."""
        waiting = []
        for end in remote.late:
            if is_large(end.outcome):
                remote.inlet.want(end.outcome)
                if not remote.inlet.complete(end.outcome):
                    waiting.append(end)
                    continue
            outcome, usage = remote.outcome(end.outcome), remote.usage(end.usage)
            attempt = (end.task, end.attempt)
            if self._claim(attempt):
                self._finish(attempt, remote.node.name, outcome, usage)
            else:
                self._ended[attempt] = outcome, usage
        remote.late = waiting

    def keeps(self, attempt: Attempt, outcome: Payload | Failure, usage: Usage) -> bool:
        """An attempt has ended: whether it is of a task that was not submitted again yet, and is kept for it."""
        if self._running.pop(attempt, None) is None:
            return False
        self._ended[attempt] = outcome, usage
        return True

    def _claim(self, attempt: Attempt) -> bool:
        task, number = attempt
        if self._waiting.get(task) != number:
            return False
        del self._waiting[task]
        return True

    # -- when both have told -----------------------------------------------------------------------------------------

    def _go_on(self, lane: FarLane, attempt: Attempt) -> None:
        work = self._host.resume(*attempt, lane.name, self._label)
        if work is not None:
            lane.knows(Order(*attempt, work, Payload(b"")))
        elif (found := self._dispatch.find(attempt[0])) is not None:
            self._stop(*found, unwanted())

    def _finish(self, attempt: Attempt, worker: str, outcome: Payload | Failure, usage: Usage) -> None:
        work = self._host.resume(*attempt, worker, self._label)
        if work is not None:
            self._host.ended(Order(*attempt, work, Payload(b"")), outcome, usage)


def _node(worker: str) -> str:
    return worker.rpartition("-")[0]

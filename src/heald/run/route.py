"""Which executor a task goes to: the one it names, else the first that could ever run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heald.core.event import Failure
from heald.core.graph import Node
from heald.core.resources import Resources
from heald.core.retry import REFUSED, WORKER_LOST
from heald.core.task import JOIN


class Routes:
    """Where tasks go, by what they ask for. `pools` are what carries attempts out, by label, the default first."""

    def __init__(self, pools: Mapping[str, Any]) -> None:
        self._pools = pools
        self._known: dict[tuple[str, Resources], Any] = {}
        self._closed: dict[str, Failure] = {}  # pools that can run nothing any more, and why

    def find(self, node: Node) -> Any:
        """The pool for a task, or the Failure that says why there is none."""
        work = node.work
        key = (JOIN if work.kind == JOIN else work.executor, node.needs)
        return self._known.get(key) or self._choose(key)

    def _choose(self, key: tuple[str, Resources]) -> Any:
        label, needs = key
        reasons = []
        for pool in [self._pools[label]] if label else [one for one in self._pools.values() if one.label != JOIN]:
            if pool.label in self._closed:
                return self._known.setdefault(key, self._closed[pool.label])
            reason = pool.unfit(needs)
            if reason is None:
                self._known[key] = pool
                return pool
            reasons.append(f"{pool.label}: {reason}")
        hint = "lower what it asks for, or add an executor that has it"
        return self._known.setdefault(key, Failure(REFUSED, "; ".join(reasons), hint=hint))

    def withdraw(self, node: Node) -> None:
        """A task that was ready wants no place any more."""
        pool = self.find(node)
        if not isinstance(pool, Failure):
            pool.dispatch.placement.discard(node.record.id, node.needs, node.work.priority, node.depth)

    def why_not(self, node: Node, now: float) -> str:
        """Why a ready task is not placed."""
        pool = self.find(node)
        return pool.message if isinstance(pool, Failure) else str(pool.dispatch.placement.explain(node.needs, now))

    def worker(self, task: int) -> str | None:
        """The name of the worker that has a task, or None."""
        found = (pool.dispatch.find(task) for pool in self._pools.values())
        return next((place[0].name for place in found if place is not None), None)

    def ahead(self, node: Node) -> list[int]:
        """The tasks that come before a placed one on the worker that has it."""
        task, pool = node.record.id, self.find(node)
        found = None if isinstance(pool, Failure) else pool.dispatch.find(task)
        if found is None:
            return []
        tasks = [order.task for order in found[0].fifo]
        return tasks[: tasks.index(task)]

    def close(self, label: str, reason: str) -> Failure:
        """A pool can run nothing any more: what every task that would go there fails of."""
        failure = self._closed[label] = Failure(WORKER_LOST, f"executor {label!r}: {reason}", final=True)
        for key, pool in self._known.items():
            if getattr(pool, "label", None) == label:
                self._known[key] = failure
        return failure

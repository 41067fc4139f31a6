"""Tasks whose node was lost under them: which are run again, and which has lost so many that it is held to be why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from heald.core.event import Failure
from heald.core.retry import STAGING, USER, WORKER_LOST
from heald.run.cluster import dialogue
from heald.run.protocol import Define, Order

_MOST = 3  # nodes that may be lost under one task after the other before it is the task's fault
_BY_DISK = (USER, STAGING)
_HINTS = {
    dialogue.OVER: "does it take longer than a block lasts? ask for more walltime, or save its state (notice=)",
    dialogue.ENDED: "was its job preempted, or over a limit of time or memory? see `heald allocation ls`",
}
_HINT = "does it use more memory than a node has? ask for memory, so that fewer run at once"


class Losses:
    """How many nodes were lost under each task that has not ended since.

    `notice`: seconds for which tasks that say nothing else are told that their time ends; `definition` gives a work.
    """

    def __init__(self, notice: float, definition: Callable[[bytes], Define]) -> None:
        self._notice = notice
        self._definition = definition
        self._counts: Counter[int] = Counter()

    def forget(self, task: int) -> None:
        """An attempt of it has ended."""
        self._counts.pop(task, None)

    def by_node(self, order: Order, node: str, reason: str) -> Failure | None:
        """A node was lost under an attempt, for that reason: None when it may be run again, else why not."""
        if (reason == dialogue.OVER and self._is_told(order)) or self._another(order.task):
            return None
        text = f"{_MOST} nodes were lost while it ran; the last, {node}: {reason}"
        return Failure(WORKER_LOST, text, hint=_HINTS.get(reason, _HINT), final=True)

    def by_disk(self, task: int, failure: Failure) -> bool:
        """An attempt failed where a disk is full: whether that may be why, and it may be run again elsewhere."""
        return failure.kind in _BY_DISK and self._another(task)

    def _another(self, task: int) -> bool:
        """One more is lost: whether it may be run again."""
        self._counts[task] += 1
        return self._counts[task] < _MOST

    def _is_told(self, order: Order) -> bool:
        """Whether it was told that its time ends, and may go on a little further each time."""
        work = order.work and self._definition(order.work).work  # of one of a former head nobody may know it
        return bool(self._notice or (work and work.resources.notice))

"""Ready tasks in the order in which they have a claim: higher priority, then greater depth, then lower id.

Tasks that need the same resources stand in one line: when the first does not fit, none behind it does, so that
millions of equal tasks cost no more to look at than one. Knows nothing of nodes.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush

from heald.core.resources import Resources
from heald.core.room import shapes

Claim = tuple[int, int, int]
"""(-priority, -depth, id): the smaller goes first."""


class _Bucket:
    """Tasks of one priority and depth, by id."""

    __slots__ = ("_late", "_queue", "present")

    def __init__(self) -> None:
        self.present: set[int] = set()  # the truth; the queues may also hold tasks that were discarded
        self._queue: deque[int] = deque()  # ascending: most tasks become ready in the order of their ids
        self._late: list[int] = []  # a heap of those that did not: retries, ends of branches

    def push(self, task: int) -> None:
        self.present.add(task)
        if not self._queue or task > self._queue[-1]:
            self._queue.append(task)
        else:
            heappush(self._late, task)

    def head(self) -> int:
        queue, late, present = self._queue, self._late, self.present
        while queue and queue[0] not in present:
            queue.popleft()
        while late and late[0] not in present:
            heappop(late)
        return late[0] if late and (not queue or late[0] < queue[0]) else queue[0]

    def discard(self, task: int) -> bool:
        if task not in self.present:
            return False
        self.present.remove(task)
        if len(self._queue) + len(self._late) > 2 * len(self.present) + 64:
            self._queue, self._late = deque(sorted(self.present)), []
        return True


class Line:
    """The ready tasks that need the same `needs`. Pushing and popping cost O(1) for tasks that come in order.

    >>> line = Line(Resources())
    >>> line.push(1, priority=0); line.push(2, priority=9); line.push(3, priority=0)
    >>> line.discard(1, priority=0), line.head, line.pop(), line.pop(), len(line)
    (True, (-9, 0, 2), 2, 3, 0)
    """

    __slots__ = ("_buckets", "_keys", "needs", "refused", "shapes")

    def __init__(self, needs: Resources) -> None:
        self.needs = needs
        self.shapes = shapes(needs)
        self.refused = -1  # for placement: when there was no room for the first
        self._buckets: dict[tuple[int, int], _Bucket] = {}  # none of them empty
        self._keys: list[tuple[int, int]] = []  # a heap of theirs

    def push(self, task: int, priority: int = 0, depth: int = 0) -> None:
        """Let a task wait. Pushing one that waits already changes nothing."""
        key = (-priority, -depth)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket()
            heappush(self._keys, key)
        bucket.push(task)

    def pop(self) -> int:
        """Take the task with the best claim. Raises IndexError when none waits."""
        key = self._keys[0]
        bucket = self._buckets[key]
        task = bucket.head()
        bucket.present.remove(task)
        if not bucket.present:
            del self._buckets[key]
            heappop(self._keys)
        return task

    def discard(self, task: int, priority: int = 0, depth: int = 0) -> bool:
        """Take one task out, as it was pushed; False when it does not wait here."""
        key = (-priority, -depth)
        bucket = self._buckets.get(key)
        if bucket is None or not bucket.discard(task):
            return False
        if not bucket.present:
            del self._buckets[key]
            self._keys.remove(key)
            heapify(self._keys)
        return True

    @property
    def head(self) -> Claim:
        """The best claim in the line. Raises IndexError when none waits."""
        key = self._keys[0]
        return (*key, self._buckets[key].head())

    def __len__(self) -> int:
        return sum(len(bucket.present) for bucket in self._buckets.values())

    def __bool__(self) -> bool:
        return bool(self._keys)

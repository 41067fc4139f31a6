"""Lanes whose turn is to come, sorted by what they hold, so that nobody goes through all of them to find a few.

Knows nothing of why they wait for it: `dispatch` looks at a lane when its turn is there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from heald.core.placement import Lease
from heald.core.resources import Resources


class Named(Protocol):
    """A lane, as far as a rota sees it."""

    name: str
    lease: Lease | None


L = TypeVar("L", bound=Named)


class Rota(Generic[L]):
    """Lanes with a lease, each once; of those that hold the same, the first that was added is the next."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._sorts: dict[Resources, OrderedDict[str, L]] = {}  # none of them empty

    def add(self, lane: L) -> None:
        """Give the lane a turn, if it has none."""
        if lane.name not in self._names:
            assert lane.lease is not None
            self._names.add(lane.name)
            sort = self._sorts.get(lane.lease.needs)
            if sort is None:
                sort = self._sorts[lane.lease.needs] = OrderedDict()
            sort[lane.name] = lane

    def discard(self, lane: L) -> None:
        """Take the turn away; to be done before the lane's lease changes."""
        if lane.name in self._names:
            assert lane.lease is not None
            self._names.remove(lane.name)
            sort = self._sorts[lane.lease.needs]
            del sort[lane.name]
            if not sort:
                del self._sorts[lane.lease.needs]

    def next(self, needs: Resources) -> L | None:
        """The next lane of those with a lease for such needs, whose turn is over with this; None when there is none."""
        sort = self._sorts.get(needs)
        if sort is None:
            return None
        name, lane = sort.popitem(last=False)
        self._names.remove(name)
        if not sort:
            del self._sorts[needs]
        return lane

    def count(self, needs: Resources) -> int:
        """How many lanes with a lease for such needs have a turn."""
        return len(self._sorts.get(needs, ()))

    def needs(self) -> Iterable[Resources]:
        """What lanes hold that have a turn."""
        return list(self._sorts)

    def __bool__(self) -> bool:
        return bool(self._names)

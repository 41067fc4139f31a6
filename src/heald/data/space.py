"""Which parts of a range are free: the bookkeeping of an arena's stride, without the memory.

Units are whatever the caller counts in (pages, for the arena).
"""

from __future__ import annotations


class Space:
    """Free and used parts of `size` units. Free neighbours are merged; what was freed last is taken first.

    >>> space = Space(100)
    >>> space.take(40), space.take(40), space.take(40)
    (0, 40, None)
    >>> space.give(0, 40)
    >>> space.take(30)
    0
    """

    def __init__(self, size: int) -> None:
        self._sizes: dict[int, int] = {}  # start -> size
        self._starts: dict[int, int] = {}  # end -> start
        # start -> size again, by the magnitude of the size; within one magnitude oldest first.
        self._bins: list[dict[int, int]] = [{} for _ in range(size.bit_length() + 1)]
        if size:
            self._add(0, size)

    def take(self, size: int) -> int | None:
        """Start of `size` units that are now in use, or None when no free range is as large."""
        for ranges in self._bins[size.bit_length() :]:
            for start in reversed(ranges):
                if ranges[start] >= size:
                    rest = self._remove(start) - size
                    if rest:
                        self._add(start + size, rest)
                    return start
        return None

    def give(self, start: int, size: int) -> None:
        """Makes a range that was taken free again."""
        if start + size in self._sizes:
            size += self._remove(start + size)
        before = self._starts.get(start)
        if before is not None:
            size += self._remove(before)
            start = before
        self._add(start, size)

    def surplus(self, keep: int) -> list[tuple[int, int]]:
        """(start, size) of what is free, without the `keep` units that will be taken first."""
        found = []
        for ranges in self._bins:
            for start in reversed(ranges):
                kept = min(keep, ranges[start])
                keep -= kept
                if kept < ranges[start]:
                    found.append((start + kept, ranges[start] - kept))
        return found

    def _add(self, start: int, size: int) -> None:
        self._sizes[start] = self._bins[size.bit_length()][start] = size
        self._starts[start + size] = start

    def _remove(self, start: int) -> int:
        size = self._sizes.pop(start)
        del self._bins[size.bit_length()][start], self._starts[start + size]
        return size

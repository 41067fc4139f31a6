"""What running processes use, read from /proc."""

from __future__ import annotations

import os

from heald.run.kernel import descendants

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """Bytes of memory of a process and all below it; shared pages (the arena's) are not counted."""
    total = 0
    for one in (pid, *descendants(pid)):
        try:
            with open(f"/proc/{one}/statm") as statm:
                _, all_pages, shared, *_ = map(int, statm.read().split())
        except (OSError, ValueError):
            continue
        total += (all_pages - shared) * _PAGE
    return total


class Kills:
    """What the kernel kills for want of memory, on the whole machine."""

    def __init__(self) -> None:
        self._seen = _starved()

    def new(self) -> bool:
        """Whether it has killed any process since this was last asked."""
        before, self._seen = self._seen, _starved()
        return self._seen > before


def _starved() -> int:
    """How many processes it has killed so since the machine was started."""
    try:
        with open("/proc/vmstat", "rb") as counters:
            _, _, rest = counters.read().partition(b"\noom_kill ")
    except OSError:
        return 0
    return int(rest.split(maxsplit=1)[0]) if rest else 0

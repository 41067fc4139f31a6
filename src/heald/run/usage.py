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


def starved() -> int:
    """How many processes the kernel has killed for want of memory since the machine started."""
    try:
        with open("/proc/vmstat") as counters:
            for line in counters:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0

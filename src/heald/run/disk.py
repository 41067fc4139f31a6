"""Whether a full disk is why something failed: an attempt sees no more of it than an error while writing."""

from __future__ import annotations

import os
from collections.abc import Iterable

from heald.core.quantity import amount

_FULL = 1 << 16  # bytes: who writes a page at a time fails before the last one is used


def full(folders: Iterable[str | os.PathLike[str]]) -> str:
    """Which of the folders has no room left, in words; empty when all have.

    >>> full(["/"])
    ''
    """
    for folder in folders:
        try:
            system, path = os.statvfs(folder), os.path.abspath(folder)
        except OSError:
            continue
        left = (system.f_bfree if os.geteuid() == 0 else system.f_bavail) * system.f_frsize
        if left < _FULL and system.f_blocks:  # /proc and the like have no blocks at all
            return f"the disk of {path} is full ({amount(left)} left)"
        if system.f_files and not system.f_favail:
            return f"the disk of {path} can hold no more files"
    return ""

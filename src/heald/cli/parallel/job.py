"""The task of some jobs, as workers load it: it only names what is to be run. Imports nothing that a worker has not."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence

from heald.run.command import Batch, CommandLine

_slot: list[int] = []  # this process's number among the workers, and the descriptor that holds it


def jobs(lines: Sequence[CommandLine], variables: Mapping[str, str], within: float, slots: str = "") -> Batch:
    """The command lines of some jobs. `slots`: a folder in which workers take numbers, when the caller gave none."""
    if slots:
        variables = {**variables, "PARALLEL_JOBSLOT": str(_slot[0] if _slot else slot_in(slots))}
    return Batch(lines, variables, within)


def slot_in(folder: str) -> int:
    """The lowest number that no living process holds: this process's own, as long as it lives."""
    number = 0
    while True:
        number += 1
        descriptor = os.open(f"{folder}/slot-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        _slot[:] = [number, descriptor]
        return number

"""The allocations that an executor has had, in a file of its folder in the run.

By it the next process of a killed run finds the batch jobs that still run, and people what became of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from heald.core.allocation import Allocation, AllocationState
from heald.wire import key

_UNANSWERED = "the process of the run was killed before the scheduler had answered"


def read(folder: Path) -> Sequence[Allocation]:
    """The allocations of the executor that has this folder, as its process knew them last."""
    try:
        return msgspec.json.decode(_file(folder).read_bytes(), type=list[Allocation])
    except (OSError, msgspec.MsgspecError):
        return ()


def _file(folder: Path) -> Path:
    return folder / "allocations.json"


class Ledger:
    """`over` are those of which nothing more is expected; the others are told each time it is `kept`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.over: list[Allocation] = []

    def former(self) -> list[Allocation]:
        """Those that a process before left under way."""
        going = []
        for allocation in read(self._folder):
            if allocation.state.final:
                self.over.append(allocation)
            elif allocation.job is not None:
                going.append(allocation)
            else:  # it may have been asked for all the same, and come
                self.end(allocation, AllocationState.failed, _UNANSWERED)
        return going

    def end(self, allocation: Allocation, state: AllocationState, reason: str) -> None:
        """It is over, for this reason."""
        self.over.append(msgspec.structs.replace(allocation, state=state, reason=reason, ends=datetime.now(UTC)))

    def revive(self, name: str) -> None:
        """It was thought to be over, and is not."""
        self.over = [one for one in self.over if one.id != name]

    def name(self, going: Iterable[str]) -> str:
        """The name of the next one, unlike that of any before."""
        return f"a{1 + max((int(name[1:]) for name in (*going, *(one.id for one in self.over))), default=0)}"

    def keep(self, going: Iterable[Allocation]) -> None:
        """Write down how they are."""
        key.write(_file(self._folder), msgspec.json.encode([*self.over, *going]))

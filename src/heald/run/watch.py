"""What a worker looks after while it waits for ranks: it sits in a system call until what started them ends.

Open MPI's launcher (5.0) does not always end when its ranks have: when one ends badly while another joins, it can lock
itself up. And ranks that are each alone compute the same thing many times over: the sooner they are ended the better.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import TracebackType

from heald.run import kernel

_EVERY = 5.0  # seconds between two looks
_LAUNCHERS = frozenset(("prterun", "mpiexec", "mpirun", "orterun"))


class Watch:
    """Looks, while it is entered, at what this process has started. `unwanted` says whether to end that.

    `hung`: a launcher had to be killed, for it did not end after its ranks.
    """

    def __init__(self, unwanted: Callable[[], bool] = lambda: False) -> None:
        self.hung = False
        self._unwanted = unwanted
        self._over = threading.Event()
        self._dead: set[int] = set()  # those that were found so at the last look

    def __enter__(self) -> Watch:
        threading.Thread(target=self._look, name="heald-ranks", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            if self._unwanted():
                for pid in kernel.children(os.getpid()):
                    kernel.kill(pid, signal.SIGTERM)
            dead = {pid for pid in kernel.descendants(os.getpid()) if _is_dead_inside(pid)}
            for pid in dead & self._dead:
                self.hung = kernel.kill(pid, signal.SIGKILL) or self.hung
            self._dead = dead


def _is_dead_inside(pid: int) -> bool:
    """All that a launcher has started has ended, and it takes no note of it."""
    below = kernel.children(pid)
    return bool(below) and kernel.name(pid) in _LAUNCHERS and all(map(kernel.has_ended, below))

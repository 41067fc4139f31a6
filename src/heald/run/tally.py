"""How many tasks a run has of each sort: written by the engine, read by anybody in passing."""

from __future__ import annotations

from heald.core.state import State


class Tally:
    """Counts of tasks.

    >>> tally = Tally()
    >>> tally.submitted += 1
    >>> tally.open
    1
    >>> tally
    Tally(submitted=1, done=0, failed=0, cancelled=0, recalled=0)
    """

    def __init__(self) -> None:
        self.submitted = 0
        self.done = 0
        self.failed = 0
        self.cancelled = 0
        self.recalled = 0  # of those done: not run, since the value was known

    def __repr__(self) -> str:
        return f"Tally({', '.join(f'{name}={count}' for name, count in vars(self).items())})"

    @property
    def open(self) -> int:
        """Tasks that are not over."""
        return self.submitted - self.done - self.failed - self.cancelled

    def count(self, state: State) -> None:
        """One more task is over."""
        if state is State.done:
            self.done += 1
        elif state is State.failed:
            self.failed += 1
        else:
            self.cancelled += 1

"""A run of another process, watched until it ends: what its script prints, how far it is, how it ended."""

from __future__ import annotations

import codecs
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heald.cli.log import content
from heald.cli.screen import say
from heald.core.state import State
from heald.flow.progress import Progress
from heald.flow.run import ENDED, KILLED, UNKNOWN, Run
from heald.run.tally import Tally

_LOOK = 0.1  # seconds between looks at files of another process, which cannot wake us


def follow(run: Run) -> None:
    """Print what the script of a run prints, on the same streams, until the run ends."""
    files = run.output
    if files is None:
        say(f"{run.path} was not started by heald run --detach: what it prints is in its own terminal", error=True)
    copies = [_Copy(path, name) for path, name in zip(files or (), ("stdout", "stderr"), strict=False)]
    over = False
    while not over:
        over = _over(run)  # asked first: what is read then is all that there will be
        for copy in copies:
            copy.go_on()
        if not over:
            time.sleep(_LOOK)


def _over(run: Run) -> bool:
    if run.supervised:
        return False  # also while its script is starting, or has closed the run and is ending
    state = run.state
    return state in (ENDED, KILLED) or (state == UNKNOWN and run.detached.status is not None)


class _Copy:
    """What comes into a file goes to the stream of that name."""

    def __init__(self, path: Path, stream: str) -> None:
        self._path = path
        self._stream = stream
        self._position = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def go_on(self) -> None:
        stream = getattr(sys, self._stream)  # asked each time: a progress bar puts another in its place
        for piece in content(self._path, self._position):
            self._position += len(piece)
            if stream.isatty():
                stream.write(self._decode(piece))
            else:
                stream.buffer.write(piece)
        stream.flush()


@contextmanager
def progress(run: Run, quiet: bool) -> Iterator[None]:
    """A bar on standard error while the run goes on, when that is a terminal and not `quiet`."""
    if quiet or _over(run) or not run.recorded:
        yield
        return
    bar = Progress(_Folded(run.path), always=False)
    try:
        yield
    finally:
        bar.close()


class _Folded:
    """What a progress bar asks an engine, from the journal that the engine writes."""

    def __init__(self, path: Path) -> None:
        self._run = Run(path)  # of its own, since the bar looks from a thread of its own
        self._running = 0

    @property
    def tally(self) -> Tally:
        """How many tasks there are of each sort."""
        counts: Counter[State] = Counter()
        for states in self._run.history().tally().values():
            counts.update(states)
        tally = Tally()
        tally.submitted = counts.total()
        tally.done, tally.failed, tally.cancelled = (counts[one] for one in (State.done, State.failed, State.cancelled))
        self._running = counts[State.running] + counts[State.placed]
        return tally

    def running(self) -> int:
        """How many attempts were under way at the last tally."""
        return self._running


def status(run: Run) -> int:
    """The exit status of the script of a run that is over; where nobody saw it, whether all tasks are done."""
    seen = run.detached.status if run.output is not None else None
    if run.state == KILLED:
        say(f"{run.path} was killed: start its script again, and it goes on where it was", error=True)
    elif run.output is not None and seen is None:
        say(f"{run.path} ended; its exit status is not known, since its supervisor was killed", error=True)
    if seen is not None:
        return seen if seen >= 0 else 128 - seen
    done = run.recorded and all(record.state is State.done for record in run.history().records.values())
    return int(run.state == KILLED or not done)

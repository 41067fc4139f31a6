"""The progress bar of a session, for people who watch."""

from __future__ import annotations

import sys
import threading
from typing import Any, Protocol

from heald.run.tally import Tally

_PATIENCE = 1.0  # seconds that a session may last before anything is shown
_PERIOD = 0.2


class Watched(Protocol):
    """What a bar asks: an engine, or what stands for one."""

    @property
    def tally(self) -> Tally:
        """How many tasks there are of each sort."""

    def running(self) -> int:
        """How many attempts run."""


class Progress:
    """Shows how many tasks are done, on standard error, when it is a terminal (or `always`)."""

    def __init__(self, watched: Watched, *, always: bool) -> None:
        self._watched = watched
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if always or sys.stderr.isatty():
            self._thread = threading.Thread(target=self._show, name="heald-progress", daemon=True)
            self._thread.start()

    def _show(self) -> None:
        if self._over.wait(_PATIENCE):
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("heald"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        # What is printed meanwhile goes above the bar, but not what goes to a file or a pipe.
        with Bar(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as bar:
            line = bar.add_task("", total=None)
            while not self._over.wait(_PERIOD):
                self._update(bar, line)
            self._update(bar, line)

    def _update(self, bar: Any, line: Any) -> None:
        tally = self._watched.tally
        words = [
            f"{count} {word}"
            for count, word in (
                (self._watched.running(), "running"),
                (tally.recalled, "known already"),
                (tally.failed, "[red]failed[/red]"),
                (tally.cancelled, "cancelled"),
            )
            if count
        ]
        bar.update(line, total=tally.submitted, completed=tally.submitted - tally.open, description=", ".join(words))

    def close(self) -> None:
        """Show the last state, and leave it there."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(5)

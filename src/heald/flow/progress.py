"""The progress bar of a session, for people who watch."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heald.run.engine import Engine

_PATIENCE = 1.0  # seconds that a session may last before anything is shown
_PERIOD = 0.2


class Progress:
    """Shows how many tasks are done, on standard error, when it is a terminal (or `always`)."""

    def __init__(self, engine: Engine, *, always: bool) -> None:
        self._engine = engine
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
        with Bar(*columns, console=Console(stderr=True)) as bar:
            line = bar.add_task("", total=None)
            while not self._over.wait(_PERIOD):
                self._update(bar, line)
            self._update(bar, line)

    def _update(self, bar: Any, line: Any) -> None:
        tally = self._engine.tally
        words = [
            f"{count} {word}"
            for count, word in (
                (self._engine.running(), "running"),
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

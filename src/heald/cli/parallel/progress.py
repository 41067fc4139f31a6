"""Shows how far the jobs are, on standard error (--bar, --eta, --progress). Only this module loads rich."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Display:
    """A line on the terminal while jobs run; one line at the end where there is no terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._console = Console(file=sys.stderr)
        columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
        self._progress = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
        self._task = self._progress.add_task("jobs", total=total)
        self._done = self._failed = 0
        if self._console.is_terminal:
            self._progress.start()

    def update(self, done: int, failed: int) -> None:
        """So many jobs are over, so many of them failed."""
        self._done, self._failed = done, failed
        self._progress.update(self._task, completed=done, description=f"jobs, {failed} failed" if failed else "jobs")

    def close(self) -> None:
        """Take the line away, and say how it went."""
        if self._console.is_terminal:
            self._progress.stop()
        failed = f", {self._failed} failed" if self._failed else ""
        print(f"heald: {self._done} of {self._total} jobs are done{failed}", file=sys.stderr)

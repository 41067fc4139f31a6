"""How one try of a job ended, as its future tells it."""

from __future__ import annotations

import signal
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import msgspec

from heald.core.errors import TaskError, WalltimeExceeded


class End(msgspec.Struct):
    """How one try of a job ended; `status` as in `subprocess`, -1 with `signal` for one that was stopped."""

    started: float
    seconds: float
    status: int = 0
    signal: int = 0
    stdout: Path | None = None
    stderr: Path | None = None
    message: str = ""
    dropped: bool = False  # it was never run, or is of no interest any more

    @property
    def code(self) -> int:
        """The exit status that a shell would tell."""
        return 128 + self.signal if self.signal else self.status


def ends_of(future: Any, begun: float, count: int) -> list[End]:
    """How tries of `count` jobs ended that were given out together: of as many as were run, and at least the first."""
    try:
        return [
            End(one.started, one.seconds, max(0, one.returncode), max(0, -one.returncode), one.stdout, one.stderr)
            for one in future.result()
        ]
    except CancelledError:
        return [End(begun, time.time() - begun, -1, signal.SIGTERM, dropped=True) for _ in range(count)]
    except TaskError as raised:
        status, number = getattr(raised, "returncode", 0) or 1, 0
        if isinstance(raised, WalltimeExceeded):
            status, number = -1, signal.SIGTERM
        return [End(begun, time.time() - begun, status, number, *_logs(raised), message=raised.message)]


def _logs(raised: TaskError) -> tuple[Path | None, Path | None]:
    return (Path(raised.stdout) if raised.stdout else None, Path(raised.stderr) if raised.stderr else None)

"""How one try of a job ended, as its future tells it."""

from __future__ import annotations

import signal
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heald.core.errors import TaskError, WalltimeExceeded


@dataclass(slots=True)
class End:
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


def end_of(future: Any, begun: float) -> End:
    """How a try ended."""
    try:
        done = future.result()
    except CancelledError:
        return End(begun, time.time() - begun, -1, signal.SIGTERM, dropped=True)
    except WalltimeExceeded as raised:
        return _stopped(raised, begun)
    except TaskError as raised:
        status = getattr(raised, "returncode", 0)
        return End(begun, time.time() - begun, status or 1, 0, *_logs(raised), message=raised.message)
    number = max(0, -done.returncode)
    return End(done.started, done.seconds, max(0, done.returncode), number, done.stdout, done.stderr)


def _stopped(raised: TaskError, begun: float) -> End:
    return End(begun, time.time() - begun, -1, signal.SIGTERM, *_logs(raised), message=raised.message)


def _logs(raised: TaskError) -> tuple[Path | None, Path | None]:
    return (Path(raised.stdout) if raised.stdout else None, Path(raised.stderr) if raised.stderr else None)

"""How one try of a job ended, as its future tells it."""

from __future__ import annotations

import signal
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import msgspec

from heald.core.errors import TaskError, WalltimeExceeded
from heald.run.kernel import exit_text


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
            End(one.started, one.seconds, max(0, code), max(0, -code), one.stdout, one.stderr, _killed(code))
            for one in future.result()
            for code in (one.returncode,)
        ]
    except CancelledError:
        return [End(begun, time.time() - begun, -1, signal.SIGTERM, dropped=True) for _ in range(count)]
    except TaskError as raised:
        status, number = getattr(raised, "returncode", 0) or 1, 0
        if isinstance(raised, WalltimeExceeded):
            status, number = -1, signal.SIGTERM
        _, _, reason = raised.message.partition(": ")  # after the name of a task, of which jobs know nothing
        return [End(begun, time.time() - begun, status, number, *_logs(raised), reason or raised.message)]


def _killed(code: int) -> str:
    """What a shell would say when a program ends with `code`, as in `subprocess`; empty where it says nothing."""
    return f"it {exit_text(code)}" if code < 0 and -code not in (signal.SIGINT, signal.SIGPIPE) else ""


def _logs(raised: TaskError) -> tuple[Path | None, Path | None]:
    return (Path(raised.stdout) if raised.stdout else None, Path(raised.stderr) if raised.stderr else None)

"""Parsl's states of tasks and blocks, and the record of a task."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class _Named(IntEnum):
    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class States(_Named):
    """Where a task is."""

    pending = 0
    running = 2
    exec_done = 3
    failed = 4
    dep_fail = 5
    launched = 7
    fail_retryable = 8
    memo_done = 9
    joining = 10
    running_ended = 11


FINAL_STATES = [States.exec_done, States.memo_done, States.failed, States.dep_fail]
FINAL_FAILURE_STATES = [States.failed, States.dep_fail]

# What is known of a task, by the names that retry handlers and memoizers read.
TaskRecord = dict[str, Any]


class JobState(_Named):
    """Where a block is."""

    UNKNOWN = 0
    PENDING = 1
    RUNNING = 2
    CANCELLED = 3
    COMPLETED = 4
    FAILED = 5
    TIMEOUT = 6
    HELD = 7
    MISSING = 8
    SCALED_IN = 9


_OPEN = (JobState.UNKNOWN, JobState.PENDING, JobState.RUNNING, JobState.HELD)
TERMINAL_STATES = [state for state in JobState if state not in _OPEN]


@dataclass
class JobStatus:
    """Where a block is, and what is known of it."""

    state: JobState
    message: str | None = None
    exit_code: int | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None

    @property
    def terminal(self) -> bool:
        """It is over."""
        return self.state in TERMINAL_STATES

    @property
    def status_name(self) -> str:
        """The name of the state."""
        return self.state.name

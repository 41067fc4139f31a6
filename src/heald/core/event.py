"""What happened: the only truth about a run.

One writer appends events; futures, tables and explanations are folds over them. `time` is seconds since the epoch,
UTC. `attempt` counts from 1; an event of an attempt that is not the task's current one is late, and changes nothing.
"""

from __future__ import annotations

import msgspec

from heald.core.retry import CANCELLED
from heald.core.task import Payload, Task, Work
from heald.core.text import legible


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an attempt used: `started` (seconds since the epoch), `seconds` of wall and `cpu` time, peak `memory` in
    bytes (of the process that ran it), `exit` status as in `subprocess`.
    """

    started: float = 0.0
    seconds: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    exit: int = 0


_TEXTS = ("message", "traceback", "hint", "stdout", "stderr")  # of a Failure


class Failure(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Why an attempt failed.

    `kind` is a class of failure of `core.retry`. `message` is one line, `traceback` the text of the task's own.
    `exception` is the pickled exception with its traceback, when there is one that can travel. `chain` names the tasks
    from this one to the one that failed (itself alone, when it failed by its own doing); the middle of a long one is
    left out. `hint` says what to do. `exit`: exit status. `stdout`, `stderr`: files of what was printed. `final`: there
    is no other try, whatever the policy; of a cancellation: nor by a later process. `attempt`: which one failed, 0 when
    none was made. `printed`: the ends of these two files, when they are on a host that this machine shares none with.
    """

    kind: str
    message: str
    exception: Payload | None = None
    traceback: str = ""
    chain: tuple[str, ...] = ()
    hint: str = ""
    exit: int = 0
    code: str = ""
    stdout: str = ""
    stderr: str = ""
    final: bool = False
    attempt: int = 0
    printed: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        # Its text is the user's, and often has names of files in it.
        for name in _TEXTS:
            text: str = getattr(self, name)
            if not text.isascii():
                msgspec.structs.force_setattr(self, name, legible(text))

    def with_logs(self, stdout: str, stderr: str) -> Failure:
        """The same, naming the files of what was printed."""
        return msgspec.structs.replace(self, stdout=stdout, stderr=stderr)


class _Event(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=str.lower):
    task: int
    time: float


class Submitted(_Event, frozen=True):
    """The task exists."""

    record: Task


class Placed(_Event, frozen=True):
    """It has a place: `executor`, and `worker` there."""

    attempt: int
    executor: str
    worker: str


class Started(_Event, frozen=True):
    """It runs, in process `pid`. Attempts too short to tell come without: see `Usage.started`."""

    attempt: int
    pid: int


class Returned(_Event, frozen=True):
    """It was placed but not run (taken back for an idle worker, or its place went away), and is ready again."""

    attempt: int


class Expanded(_Event, frozen=True):
    """The body of a join ended and returned futures of these tasks.

    `shape` is the pickled frame that their values fill; None when it returned one future and nothing around it.
    """

    attempt: int
    children: tuple[int, ...]
    shape: Payload | None


class Finished(_Event, frozen=True):
    """The attempt is over: with a value, or with a failure.

    `recalled`: nothing was run, since the end was known before: the value from a memo or from an earlier process, or
    that no place can ever run it.
    """

    attempt: int
    outcome: Payload | Failure
    usage: Usage = Usage()
    recalled: bool = False


class Due(_Event, frozen=True):
    """The pause before a retry is over."""

    attempt: int


class Cancelled(_Event, frozen=True):
    """Somebody cancelled it, for a `reason`.

    `final`: also for the processes that go on with the run, until somebody asks for it again. What the script itself
    cancels, it may submit the next time.
    """

    reason: str
    final: bool = False

    @property
    def failure(self) -> Failure:
        """What the task failed of."""
        hint = f"heald task retry {self.task} lets it run after all" if self.final else ""
        return Failure(CANCELLED, self.reason, hint=hint, final=self.final)


class Retried(_Event, frozen=True):
    """Somebody wants it run again, however it ended: its end counts no more, nor does what a memo has of it."""


class Removed(_Event, frozen=True):
    """Somebody wants no record of it: it counts as one that never was."""


class Defined(msgspec.Struct, frozen=True, array_like=True, tag="defined"):
    """A Work that tasks refer to by its digest, with the name of the pickled function in the run folder."""

    digest: bytes
    work: Work


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """A process began to write this journal. `command` is its command line, `directory` where it was started."""

    time: float
    pid: int
    host: str
    user: str
    python: str
    heald: str
    command: tuple[str, ...]
    directory: str = ""


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="closed"):
    """The process ended in good order."""

    time: float


TaskEvent = Submitted | Placed | Started | Returned | Expanded | Finished | Due | Cancelled
Event = TaskEvent | Retried | Removed | Defined | Opened | Closed

"""Which session tasks are submitted to: the one opened last that is open, else the default one."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING

from heald.core.errors import UsageError

if TYPE_CHECKING:
    from heald.flow.session import Session
    from heald.run.executor import Executor

# The open sessions, the current one last. Only sessions change it.
sessions: list[Session] = []
# What a session runs on that names no executors: set by `heald run`, for the scripts that it runs.
standard: list[Executor] = []
_opening = threading.Lock()


def current_session() -> Session:
    """The session that was opened last and is open; the default one, opened now, when there is none.

    Raises UsageError inside a task that runs in a worker.
    """
    if sessions and sessions[-1].pid == os.getpid():
        return sessions[-1]
    return _default()


def _default() -> Session:
    worker = sys.modules.get("heald.run.worker")
    if worker is not None and worker.running:
        raise UsageError(
            "a task cannot submit tasks: its process has no session",
            hint="submit in a function decorated with @heald.join, which returns the futures",
        )
    from heald.flow.session import Session  # sessions take functions, which submit to sessions

    with _opening:
        if not sessions or sessions[-1].pid != os.getpid():
            sessions.clear()  # a forked child has its parent's list, and none of its sessions
            Session().start()
        return sessions[-1]


@atexit.register
def _farewell() -> None:
    """At the interpreter's end: wait for what was submitted, as the standard library does.

    A script that ended with an exception, Ctrl-C included, has its tasks cancelled, as one inside of `with` has.
    """
    failed = hasattr(sys, "last_type") and not hasattr(sys, "ps1")  # a prompt keeps every exception that it showed
    for session in reversed([one for one in sessions if one.pid == os.getpid()]):
        session.close(cancel=failed)

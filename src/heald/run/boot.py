"""Starts the process of a spawner: tens of milliseconds, which pass while the driver goes on.

Loads nothing of heald, so that the command line can do it before all else.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

Boot = tuple["subprocess.Popen[bytes]", socket.socket]

# It finds this package where the driver does; where else workers find modules, it is told later.
_CODE = "import sys; sys.path[:] = sys.argv[2:]; from heald.run.spawner import main; main(int(sys.argv[1]))"
_early: list[Boot] = []


def boot_early() -> None:
    """Start a spawner for the session that will be opened: it loads its modules while this process loads its own."""
    _early.append(_boot())


def boot() -> Boot:
    """The process of a spawner, and the socket to it: it ends when that is closed.

    What it prints before it is told otherwise goes to this process's standard error.
    """
    while _early:
        process, control = _early.pop()
        if process.poll() is None:
            return process, control
        control.close()
        process.wait()
    return _boot()


def _boot() -> Boot:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(theirs.fileno()), *map(os.path.abspath, sys.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the driver
        )
    return process, ours

"""Which shell reads command lines that need one."""

from __future__ import annotations

import os

_BOURNE = ("ash", "bash", "dash", "ksh", "mksh", "sh", "zsh")


def shell() -> str:
    """`$PARALLEL_SHELL`, else the shell that started this process, else `$SHELL`, else /bin/sh.

    Only shells that quote as sh does are taken from the surroundings.
    """
    told = os.environ.get("PARALLEL_SHELL")
    if told:
        return told
    try:
        parent = os.readlink(f"/proc/{os.getppid()}/exe")
    except OSError:
        parent = ""
    for one in (parent, os.environ.get("SHELL", "")):
        if os.path.basename(one) in _BOURNE and os.access(one, os.X_OK):
            return one
    return "/bin/sh"

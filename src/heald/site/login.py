"""Runs programs on a login node, by ssh: so a scheduler is asked from a machine that has none of its programs.

ssh is the user's own, with their settings; what it has to ask, it asks when a connection is made, and never later.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from heald.core.errors import SchedulerUnreachable, SiteError
from heald.site import command
from heald.site.command import Answer, Ask
from heald.site.launcher import ssh

_NO_CONNECTION, _NO_COMMAND = 255, 127  # what ssh and shells say
# Some sites say only to login shells where their programs are. What such a shell prints itself is no answer of theirs.
_AS_AT_LOGIN = """exec bash -lc 'exec "$@" >&3 3>&-' bash "$@" 3>&1 >/dev/null"""


def over(host: str, control: str = "") -> Ask:
    """Runs programs on a host as its login shell would, in the user's home there, each by an ssh command.

    `control`: the path of a connection to share (`ssh -S`); by default as the user's settings have it. Raises
    SchedulerUnreachable with the words of ssh when it cannot connect, and SiteError when there is no such program.
    """
    share = ["-S", control] if control else []

    def ask(argv: Sequence[str], text: str = "", variables: Mapping[str, str] = {}) -> Answer:
        given = ["env", *(f"{name}={value}" for name, value in variables.items())] if variables else []
        line = shlex.join(["sh", "-c", _AS_AT_LOGIN, "sh", *given, *argv])
        try:
            answer = command.ask([*ssh(), *share, host, "--", line], text)
        except SchedulerUnreachable as raised:
            raise SchedulerUnreachable(f"{argv[0]} on {host} did not end within {command.DEADLINE:g} s") from raised
        if answer.status == _NO_CONNECTION:
            raise SchedulerUnreachable(f"ssh {host}: {answer.words}", hint=f"this must work: ssh {host} true")
        if answer.status == _NO_COMMAND and re.search(rf"{re.escape(argv[0])}\W+(not found|No such file)", answer.err):
            hint = f"""it must be on the PATH of a login shell there: ssh {host} "bash -lc 'type {argv[0]}'\""""
            raise SiteError(f"{host} has no {argv[0]}: {answer.words}", hint=hint)
        return answer

    return ask


@contextmanager
def connected(host: str) -> Iterator[Ask]:
    """Runs programs on a host over one connection: that of the user, if there is one, else one that is made now.

    For that one, ssh asks on the terminal what it has to ask. Raises SiteError with the words of ssh.
    """
    words = shlex.split(os.environ.get("HEALD_SSH") or "ssh")
    try:
        own = subprocess.run([*words, "-O", "check", host], capture_output=True).returncode == 0
        control = "" if own else f"/tmp/heald-{secrets.token_hex(8)}"
        said = "" if own else _connect([*words, "-M", "-S", control, "-oControlPersist=yes", "-fN", host])
    except OSError as raised:
        raise SiteError(f"no connection to {host}: {raised}", hint="is ssh installed here?") from raised
    if said:
        raise SiteError(f"no connection to {host}: {said}", hint=f"this must work: ssh {host} true")
    try:
        yield over(host, control)
    finally:
        if control:
            subprocess.run([*words, "-S", control, "-O", "exit", host], capture_output=True)


def _connect(argv: Sequence[str]) -> str:
    """Why there is no connection; empty when there is one."""
    with tempfile.TemporaryFile() as errors:  # no pipe: the connection goes on, and keeps it open
        made = subprocess.run(argv, stderr=errors)
        errors.seek(0)
        words = " ".join(errors.read().decode(errors="replace").split())
    return (words or f"ssh ended with status {made.returncode}") if made.returncode else ""

"""Runs the command line of a command task, inside a worker, and tells how it went.

A list of words is started as it is, without a shell. A text is started the same way when it is plain words; a text
with signs that mean something to a shell is given to /bin/sh. MPI programs (`ranks` above 1) are started by the
machine's `mpiexec`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heald.core.errors import UsageError
from heald.core.event import Failure
from heald.core.resources import Resources
from heald.core.retry import USER
from heald.run.kernel import exit_status, exit_text, raw_environment

# Without any of these, and without an assignment at its head, a text means the same to a shell and to shlex.
_SHELL = re.compile(r"[|&;<>()$`*?\[\]#~{}!\n]|^\s*\w+=")
_NOTHING: Mapping[str, str] = {}
_DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGCHLD, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended: its exit status (always 0: another is an error), output files, and wall time in seconds."""

    returncode: int
    stdout: Path | None
    stderr: Path | None
    seconds: float

    @property
    def text(self) -> str:
        """What it wrote to standard output."""
        return self.stdout.read_text(errors="replace") if self.stdout else ""


def words(line: Any, prefix: str = "", quoted: Mapping[str, str] = _NOTHING) -> list[str]:
    """The words to start for what a command function returned; `prefix` starts MPI programs.

    In a list, names of files that were quoted for a shell (`quoted`, by the quoted form) get back their own form.

    >>> words("echo hello")
    ['echo', 'hello']
    >>> words("echo hello | wc -c")
    ['/bin/sh', '-c', 'echo hello | wc -c']

    Raises UsageError when it is neither text nor words, or empty.
    """
    if isinstance(line, str):
        if "HEALD_MPI_PREFIX" in line:
            return ["/bin/sh", "-c", line]
        found = ["/bin/sh", "-c", line] if _SHELL.search(line) else shlex.split(line)
    elif isinstance(line, Sequence) and not isinstance(line, bytes | bytearray):
        found = [os.fspath(word) if isinstance(word, os.PathLike) else str(word) for word in line]
        for form, name in quoted.items():
            if form != name:
                found = [word.replace(form, name) for word in found]
    else:
        raise UsageError(
            f"a command function must return the command line, not {type(line).__name__}",
            hint='return a list of words, ["lmp", "-in", deck], or a text, f"lmp -in {deck}"',
        )
    if not found or not found[0].strip():
        raise UsageError("the command line is empty", hint='return a list of words, ["lmp", "-in", deck]')
    if any("\0" in word for word in found):
        raise UsageError("the command line has a NUL byte in it", hint="no program can be given one")
    return [*shlex.split(prefix), *found] if prefix else found


def mpi_prefix(needs: Resources) -> str:
    """The words that start an MPI program with the ranks asked for, or empty for one rank."""
    return f"mpiexec -n {needs.ranks}" if needs.ranks > 1 else ""


def execute(argv: list[str], variables: Mapping[bytes, bytes]) -> tuple[int, float, int]:
    """Start `argv`, wait for its end: exit status (as `subprocess` gives it), CPU seconds, peak memory in bytes.

    The child stays in this process group, and has this process's directory, streams and variables, and `variables`.
    Raises OSError when it cannot be started.
    """
    around = {**raw_environment(), **variables}
    pid = os.posix_spawnp(argv[0], argv, around, setsigdef=_DEFAULT_SIGNALS, setsigmask=())
    _, status, usage = os.wait4(pid, 0)
    return exit_status(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def failed(argv: list[str], status: int) -> Failure:
    """The record of a command that ended badly."""
    shown = shlex.join(argv) if len(argv) < 40 else shlex.join(argv[:40]) + " …"
    hint = {
        126: "is it executable?",
        127: "a program in the line was not found: check its name and PATH",
        -signal.SIGKILL: "something killed it: often the system was out of memory",
    }.get(status, "read what it printed")
    return Failure(
        USER, f"the command {exit_text(status)}: {shown[:400]}", hint=hint, exit=status, code="command-failed"
    )


def not_started(argv: list[str], raised: OSError) -> Failure:
    """The record of a command that could not be started."""
    where = shutil.which(argv[0])
    if isinstance(raised, FileNotFoundError) and where is None:
        message, hint, status = f"there is no command {argv[0]!r}", "check its name and PATH", 127
        if argv[0] == "mpiexec":
            hint = "ranks above 1 need an MPI on PATH, for example: pip install mpich"
    else:
        message, hint, status = f"{argv[0]!r} could not be started: {raised.strerror}", "is it executable?", 126
    return Failure(USER, message, hint=hint, exit=status, code="command-failed")

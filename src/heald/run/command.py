"""Runs the command line of a command task, inside a worker, and tells how it went.

A list of words is started as it is, without a shell. A text is started the same way when it is plain words; a text
with signs that mean something to a shell is given to /bin/sh. MPI programs (`ranks` above 1) are started by the
machine's `mpiexec`.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from heald.core.errors import UsageError
from heald.core.event import Failure
from heald.core.resources import Resources
from heald.core.retry import OUT_OF_MEMORY, USER
from heald.run.affinity import MPI_PREFIX
from heald.run.kernel import exit_status, exit_text, raw_environment
from heald.run.usage import Kills

# Without any of these, and without an assignment at its head, a text means the same to a shell and to shlex.
_SHELL = re.compile(r"[|&;<>()$`*?\[\]#~{}!\n]|^\s*\w+=")
# Plain words that are no programs: the shell does them itself.
_BUILTIN = frozenset(("exit", ":", ".", "source", "cd", "exec", "eval", "export", "set", "ulimit", "umask", "command"))
_NOTHING: Mapping[str, str] = {}
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # as it is, and as a shell tells it of what it had started
_DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGCHLD, signal.SIGXFSZ)


class CommandLine(msgspec.Struct, frozen=True):
    """What to run, and how this one time: a command function may return it in place of a text or a list of words.

    `line`: the text or the words. `variables`: set for the command alone. `stdin`: a file to read from. `stdout`,
    `stderr`: files to append to; empty for files in the run folder. `check`: whether a status other than 0 is an error;
    if not, `Completed.returncode` tells, negative for a signal.

    >>> CommandLine(["grep", "-c", "x"], stdin="notes.txt", check=False).line
    ['grep', '-c', 'x']
    """

    line: str | Sequence[Any]
    variables: Mapping[str, str] = {}
    stdin: str | os.PathLike[str] = ""
    stdout: str | os.PathLike[str] = ""
    stderr: str | os.PathLike[str] = ""
    check: bool = True

    def streams(self) -> Iterator[tuple[int, int]]:
        """Descriptors of the command, each with the file opened for it. Raises OSError when one cannot be opened."""
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        for descriptor, name in enumerate((self.stdin, self.stdout, self.stderr)):
            if name:
                yield descriptor, os.open(name, append if descriptor else os.O_RDONLY | os.O_CLOEXEC, 0o666)


class Batch(msgspec.Struct, frozen=True):
    """Command lines for one task to run one after another: its value is a list, with how each of them ended.

    `variables`: set for all of them. `within`: none is begun so many seconds after the first, nor after one that could
    not be started; those are not in the list.
    """

    lines: Sequence[CommandLine]
    variables: Mapping[str, str] = {}
    within: float = inf


class Completed(msgspec.Struct, frozen=True):
    """How a command ended: exit status (another than 0 only when the CommandLine said `check=False`), output files,
    wall time in seconds, and when it began, in seconds since the epoch.
    """

    returncode: int
    stdout: Path | None
    stderr: Path | None
    seconds: float
    started: float = 0.0

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
        found = ["/bin/sh", "-c", line] if _SHELL.search(line) else _split(line)
        if found and found[0] in _BUILTIN:
            found = ["/bin/sh", "-c", line]
    elif isinstance(line, Sequence) and not isinstance(line, bytes | bytearray):
        found = [
            word if type(word) is str else os.fspath(word) if isinstance(word, os.PathLike) else str(word)
            for word in line
        ]
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
    if "\0" in "".join(found):
        raise UsageError("the command line has a NUL byte in it", hint="no program can be given one")
    return [*shlex.split(prefix), *found] if prefix else found


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as raised:
        raise UsageError(f"{raised} in the command line: {line}", hint="return a list of words instead") from None


def mpi_prefix(needs: Resources) -> str:
    """The words that start an MPI program with the ranks asked for, or empty for one rank.

    On the nodes of a cluster, an agent has put into the environment how that is done there.
    """
    return os.environ.get(MPI_PREFIX) or f"mpiexec -n {needs.ranks}" if needs.ranks > 1 else ""


def execute(
    argv: list[str], variables: Mapping[bytes, bytes], streams: Iterable[tuple[int, int]] = ()
) -> tuple[int, float, int]:
    """Start `argv`, wait for its end: exit status (as `subprocess` gives it), CPU seconds, peak memory in bytes.

    The child stays in this process group, and has this process's directory, streams and variables, and `variables`;
    `streams` gives descriptors of the child other files, which are closed here. Raises OSError when it cannot be
    started.
    """
    around = {**raw_environment(), **variables}
    opened: list[tuple[int, int]] = []
    try:
        opened.extend(streams)
        actions = [(os.POSIX_SPAWN_DUP2, file, descriptor) for descriptor, file in opened]
        pid = os.posix_spawnp(argv[0], argv, around, file_actions=actions, setsigdef=_DEFAULT_SIGNALS, setsigmask=())
    finally:
        for _, file in opened:
            os.close(file)
    _, status, usage = os.wait4(pid, 0)
    return exit_status(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def failed(argv: list[str], status: int, kills: Kills) -> Failure:
    """The record of a command that ended badly."""
    if argv[:2] == ["/bin/sh", "-c"]:
        shown = argv[2][:400]  # as the function gave it
    else:
        shown = (shlex.join(argv) if len(argv) < 40 else shlex.join(argv[:40]) + " …")[:400]
    if status in _KILLED and kills.new():
        text = f"the system ran out of memory and killed the command: {shown}"
        return Failure(OUT_OF_MEMORY, text, hint="ask for memory, so that fewer run at once", exit=status)
    hint = {
        126: "is it executable?",
        127: "a program in the line was not found: check its name and PATH",
        -signal.SIGKILL: "something killed it: often the system was out of memory",
    }.get(status, "read what it printed")
    return Failure(USER, f"the command {exit_text(status)}: {shown}", hint=hint, exit=status, code="command-failed")


def not_started(argv: list[str], raised: OSError) -> Failure:
    """The record of a command that could not be started."""
    import shutil

    where = shutil.which(argv[0])
    if raised.filename not in (None, argv[0]):  # a file that it should have for a stream
        file = os.fsdecode(raised.filename)
        message = f"{argv[0]!r} could not be started: {file}: {raised.strerror}"
        return Failure(USER, message, hint="look at the streams of its CommandLine", exit=126, code="command-failed")
    if isinstance(raised, FileNotFoundError) and where is None:
        message, hint, status = f"there is no command {argv[0]!r}", "check its name and PATH", 127
        if argv[0] == "mpiexec":
            hint = "ranks above 1 need an MPI on PATH, for example: pip install mpich"
    else:
        message = f"{argv[0]!r} could not be started: {raised.strerror}"
        hint, status = "is it executable?", 126
        if raised.errno == errno.E2BIG:
            hint = "write the arguments to a file, and give it that"
        elif raised.errno == errno.ENOEXEC:
            hint = "no program of this machine: if it is a script, begin it with a line such as #!/bin/sh"
        elif raised.errno == errno.ENOENT:
            hint = "it is there: what is missing is the interpreter that its first line (#!) or its loader names"
    return Failure(USER, message, hint=hint, exit=status, code="command-failed")

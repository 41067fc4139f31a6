"""One call of a Python function on many ranks, as the worker sees it that has them started.

Ranks may be on several nodes. What they are told and what they answer are files in a folder that all nodes see: so
large values cost no messages, and a rank that has left none is one that died. `rank` is the other side. Values are
handed on as the ranks pickled them: a worker need not load what they are made of, which may load MPI.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from heald.core.event import Failure
from heald.core.retry import OUT_OF_MEMORY, USER, WORKER_LOST
from heald.core.task import Work
from heald.data import parcel
from heald.data.payload import Sealed
from heald.run.kernel import exit_text, raw_argv
from heald.run.usage import Kills

_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
_SHOWN = 8  # numbers of ranks in a message


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What each rank is told. The arguments stand in a file of their own.

    `paths`: where Files among them are here, by URL. `initializer`: what each worker calls first, pickled, or nothing.
    `path`: the user's own PYTHONPATH. `argv`: what the driver was called with.
    """

    name: str
    ranks: int
    function: bytes
    paths: Mapping[str, str]
    initializer: bytes
    path: str | None
    argv: tuple[bytes, ...]


class Gang:
    """The ranks of one attempt, in a folder of theirs."""

    def __init__(self, folder: Path, work: Work) -> None:
        self.folder = folder
        self.name = work.name
        self.ranks = work.resources.ranks

    def tell(
        self, function: bytes, arguments: object, paths: Mapping[str, str], initializer: bytes
    ) -> tuple[list[str], dict[str, str]]:
        """Write down what they are to do: the command for each of them, and the variables that it needs."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)  # what an attempt left whose worker was killed
        self.folder.mkdir(mode=0o700, parents=True)
        told = Told(self.name, self.ranks, function, paths, initializer, os.environ.get("PYTHONPATH"), raw_argv())
        (self.folder / "told").write_bytes(msgspec.msgpack.encode(told))
        parcel.write(self.folder / "arguments", arguments, subject=f"the arguments of {self.name}")
        # Modules are found there as they are here (-P: and not in the directory where the task runs).
        command = [sys.executable, "-P", "-m", "heald.run.rank", str(self.folder)]
        return command, {"PYTHONPATH": os.pathsep.join(sys.path)}

    def answers(self, status: int, kills: Kills) -> list[Sealed] | Failure:
        """The value of every rank, or why there is none; `status` is that of whatever started them."""
        values, silent = [], []
        for rank in range(self.ranks):
            try:
                values.append(parcel.opened(value_file(self.folder, rank)))
            except FileNotFoundError:
                silent.append(rank)
        if not silent and not status:
            return values
        failure = next(filter(None, (self._told_by(rank) for rank in (None, *silent))), None)
        if failure is not None:
            return failure
        if status in _KILLED and kills.new():
            text = f"the system ran out of memory and killed {self._words(silent)}"
            return Failure(OUT_OF_MEMORY, text, hint="ask for memory, so that fewer run at once", exit=status)
        return self._lost(status, silent)

    def _told_by(self, rank: int | None) -> Failure | None:
        try:
            return msgspec.msgpack.decode(failure_file(self.folder, rank).read_bytes(), type=Failure)
        except FileNotFoundError:
            return None

    def _lost(self, status: int, silent: list[int]) -> Failure:
        begun = False
        for rank in silent:
            try:
                crash = crash_file(self.folder, rank).read_text(errors="replace")
            except FileNotFoundError:
                continue
            begun = True
            if crash:
                text = f"{self._words([rank])} crashed: {crash.splitlines()[0].removeprefix('Fatal Python error: ')}"
                return Failure(WORKER_LOST, text, traceback=crash, exit=status)
        started = f"what started them {exit_text(status)}"
        if silent and not begun:
            hint = "read what it printed: is it the launcher of the MPI that mpi4py uses?"
            return Failure(USER, f"no rank came as far as to know its number: {started}", hint=hint, exit=status)
        what = f"{self._words(silent)} left no value" if silent else "the ranks left their values and then failed"
        hint = "read what it printed: mostly which rank died first, and of what"
        return Failure(WORKER_LOST, f"{what}: {started}", hint=hint, exit=status)

    def _words(self, ranks: list[int]) -> str:
        shown = ", ".join(map(str, ranks[:_SHOWN])) + (", …" if len(ranks) > _SHOWN else "")
        return f"rank{'s' * (len(ranks) > 1)} {shown} of {self.ranks}"

    def disband(self) -> None:
        """Remove what is left of them; not of another attempt, which may have begun on a node that was cut off."""
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.folder.parent.rmdir()
        except OSError:
            pass


def value_file(folder: Path, rank: int) -> Path:
    """Where the value of a rank is: a parcel."""
    return folder / f"{rank}.value"


def failure_file(folder: Path, rank: int | None) -> Path:
    """Where stands why a rank failed; None is for one that never knew its number."""
    return folder / ("start.failure" if rank is None else f"{rank}.failure")


def crash_file(folder: Path, rank: int) -> Path:
    """Where the interpreter of a rank writes its last words when compiled code crashes."""
    return folder / f"{rank}.crash"

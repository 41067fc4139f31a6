"""Another Python than heald's own, as a worker sees it: started in a prepared environment, kept warm, asked to call.

`runner` is what runs there. Arguments and values are handed on as they were pickled: the worker loads nothing of them.
"""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from heald.core.errors import StagingError
from heald.core.event import Failure
from heald.core.retry import OUT_OF_MEMORY, REFUSED, RESULT, WORKER_LOST
from heald.core.task import Payload
from heald.data.payload import Sealed
from heald.run import runner
from heald.run.kernel import exit_status, exit_text, kill
from heald.run.usage import Kills

_OLDEST = (3, 8)
_GRACE = 1.0  # seconds to end, for one whose pipes are closed
_HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
_BY_VALUE = b"_make_function"  # stands in the pickle of every function that travels as code
_DEFAULT = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)


class Interpreter:
    """One process. `words` are put before its command; `folders` are where it finds the user's own modules."""

    def __init__(self, python: str, words: list[str], program: Path, folders: list[str]) -> None:
        argv = [*words, python, str(program), *folders]
        theirs, ours = os.pipe()
        back, there = os.pipe()
        try:
            ends = [(os.POSIX_SPAWN_DUP2, theirs, 0), (os.POSIX_SPAWN_DUP2, there, 1)]
            self.pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=ends, setsigdef=_DEFAULT, setsigmask=())
        except OSError as raised:
            os.close(ours)
            os.close(back)
            raise StagingError(f"{argv[0]} could not be started: {raised.strerror}") from None
        finally:
            os.close(theirs)
            os.close(there)
        self._requests, self._replies = os.fdopen(ours, "wb"), os.fdopen(back, "rb")
        self._known: set[bytes] = set()
        self.path = sys.path[:]  # that this process had when it was started
        self.status: int | None = None  # once it has ended
        self.measured = [0.0, 0]  # CPU seconds of the last call, and peak bytes
        told = self._read()
        if told is None:
            raise StagingError(
                f"{python} {exit_text(self.close())} before it said anything",
                hint="is it Python 3.8 or later, and does it start? what it printed is in the task's stderr",
            )
        self.version: tuple[int, ...] = told["version"]
        self.name: str = told["name"]

    def refusal(self, function: bytes, arguments: Sealed) -> Failure | None:
        """Why a call cannot travel to it: code is for one minor version."""
        if self.version < _OLDEST:
            return Failure(REFUSED, f"{self.name} is too old", hint="Python 3.8 is the oldest that will do", final=True)
        if self._differs and any(_BY_VALUE in data for data in (function, *_pickles(arguments))):
            text = f"a function cannot travel as code from Python {_HERE} to {self.name}"
            hint = f"put it into a module that both can import, or use a Python {_HERE} there"
            return Failure(REFUSED, text, hint=hint, final=True)
        return None

    @property
    def _differs(self) -> bool:
        return self.version[:2] != sys.version_info[:2]

    def call(
        self,
        function: tuple[bytes, bytes],
        arguments: Sealed,
        paths: Mapping[str, str],
        around: Mapping[str, Any],
        kills: Kills,
    ) -> Sealed | Failure:
        """Call a function (its digest, and it pickled). `paths`: of Files, by URL. `around`: see `runner._call`."""
        digest, pickled = function
        buffers: list[Any] = []
        tree = _tree(arguments, buffers)
        told = {"digest": digest, "function": b"" if digest in self._known else pickled, "arguments": tree}
        try:
            self._write({**told, "paths": dict(paths), **around}, buffers)
            self._known.add(digest)
            answer = self._read()
        except BrokenPipeError:
            answer = None
        if answer is None:
            return self._lost(kills)
        self.measured = [answer["cpu"], answer["memory"]]
        if "failure" not in answer:
            if self._differs and _BY_VALUE in answer["data"]:
                text = f"a function in the value cannot travel as code from {self.name} to Python {_HERE}"
                return Failure(RESULT, text, hint="return what it computes")
            return Sealed(answer["data"], answer["views"], ())
        exception = Payload(answer["exception"]) if answer["exception"] else None
        return Failure(**answer["failure"], exception=exception)

    def _lost(self, kills: Kills) -> Failure:
        status = self.close()
        if status == -signal.SIGKILL and kills.new():
            text, hint = "the system ran out of memory and killed it", "ask for memory, so that fewer run at once"
            return Failure(OUT_OF_MEMORY, text, hint=hint, exit=status)
        hint = "the process that ran it ended under it: a crash in compiled code, os._exit, or a kill from outside"
        return Failure(WORKER_LOST, f"{self.name} {exit_text(status)}", hint=hint, exit=status)

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self.status is None and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def close(self) -> int:
        """End it; its exit status, as `subprocess` gives it."""
        for stream in (self._requests, self._replies):
            with suppress(OSError):
                stream.close()
        if self.status is None:
            with suppress(OSError):  # Linux before 5.3
                process = os.pidfd_open(self.pid)
                select.select([process], [], [], _GRACE)
                os.close(process)
            kill(self.pid, signal.SIGKILL)  # no more than its pipes may have been closed
            self.status = exit_status(os.waitpid(self.pid, 0)[1])
        return self.status

    def _write(self, told: dict[str, Any], buffers: list[Any]) -> None:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        runner.write(self._requests, told, views)

    def _read(self) -> dict[str, Any] | None:
        read = runner.read(self._replies)
        return None if read is None else {**read[0], "views": read[1]}


def program(folder: Path) -> Path:
    """The runner with cloudpickle beside it, in a folder that containers and nodes see; made when missing."""
    import cloudpickle

    text = Path(runner.__file__).read_bytes()
    made_of = hashlib.blake2b(text + cloudpickle.__version__.encode(), digest_size=8).hexdigest()
    place = folder / f"runner-{made_of}"
    if not place.exists():
        draft = folder / f".runner-{os.uname().nodename}-{os.getpid()}"
        source = Path(cloudpickle.__file__).parent
        shutil.copytree(source, draft / "cloudpickle", ignore=shutil.ignore_patterns("__pycache__"))
        (draft / "runner.py").write_bytes(text)
        with suppress(OSError):  # another was quicker
            draft.rename(place)
        shutil.rmtree(draft, ignore_errors=True)
    return place / "runner.py"


def own_folders() -> list[str]:
    """Where this process finds modules that are neither Python's nor installed packages: those of the user."""
    inside = (sys.prefix, sys.base_prefix, sys.exec_prefix)
    return [
        folder
        for folder in map(os.path.abspath, sys.path)
        if os.path.isdir(folder) and not folder.startswith(inside) and not folder.endswith("-packages")
    ]


def _tree(sealed: Sealed, buffers: list[Any]) -> tuple[bytes, int, list[Any]]:
    buffers.extend(sealed.buffers)
    return sealed.data, len(sealed.buffers), [_tree(one, buffers) for one in sealed.inputs]


def _pickles(sealed: Sealed) -> Iterator[bytes]:
    yield sealed.data
    for one in sealed.inputs:
        yield from _pickles(one)

"""The folder of a run, and where runs of scripts without a journal of their own go.

    run.heald/
        journal.log     what happened: frames, see `journal`
        owner           who writes it, see `owner`; `lock` is a second guard
        objects/        pickled functions and large values, each named by its content
        logs/           what tasks printed

Files can be read by their user only.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
from _blake2 import blake2b  # that of hashlib loads OpenSSL too
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from pathlib import Path
from pickle import PickleBuffer

from heald.core.errors import JournalCorrupt, JournalLocked, UsageError
from heald.core.ref import Ref
from heald.store.frame import refused
from heald.store.owner import Owner, give, lock, owner_in, refuse_living, take, this_process

Buffer = bytes | bytearray | memoryview | PickleBuffer

_OBJECT = "object:"
_DIGEST = re.compile(r"[0-9a-f]{32}")
_SCRATCH = re.compile(r"\d{8}-\d{6}-\d+(-\d+)?")  # the names that `scratch_run` gives, and `prune` may remove


class Folder:
    """The folder of one run. Naming it touches nothing; `claim` makes it.

    >>> folder = Folder(Path(tempfile.mkdtemp()) / "run.heald")
    >>> folder.claim()
    >>> folder.owner.pid == os.getpid()
    True
    >>> folder.get(folder.put(b"some bytes"))
    b'some bytes'
    >>> folder.release()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.journal = self.path / "journal.log"
        self.objects = self.path / "objects"
        self.logs = self.path / "logs"
        self._owner: Owner | None = None
        self._lock = -1

    @property
    def owner(self) -> Owner | None:
        """Who writes the run, or wrote it last without releasing it."""
        return owner_in(self.path / "owner")

    def claim(self) -> None:
        """Takes the run for writing, and makes the folder; once is enough, and more does nothing.

        A run whose owner died on this host is taken over. Raises JournalLocked when its owner lives, or is on
        another host; JournalError when the folder cannot be made.
        """
        if self._mine():
            return
        try:
            for folder in (self.path, self.objects, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Before the lock: this process may hold it in another Folder, and would lose it by looking.
            refuse_living(self.path / "owner")
            descriptor = lock(self.path / "lock")
            try:
                owner = this_process()
                take(self.path / "owner", owner)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise refused("claim", self.path, error) from error
        self._owner, self._lock = owner, descriptor

    def release(self, to: Owner | None = None) -> None:
        """Gives the run back. Only the process that claimed it can; in a forked child this does nothing.

        `to`: the dead owner whom it was taken from, when that one's end is still what there is to say of the run.
        """
        if not self._mine():
            return
        if self.owner == self._owner:
            if to is not None:
                give(self.path / "owner", to)
            else:
                (self.path / "owner").unlink(missing_ok=True)
        os.close(self._lock)
        self._owner = None

    def put(self, data: Buffer | Iterable[Buffer]) -> Ref:
        """Keeps some bytes, or some buffers one after the other, under the name of their content.

        Any process may; what is there already is not written again. It outlives the process when this returns, not
        a power failure. Raises JournalError when the system refuses.
        """
        buffers = [data] if isinstance(data, Buffer) else data
        views = [buffer.raw() if isinstance(buffer, PickleBuffer) else memoryview(buffer) for buffer in buffers]
        hashed = blake2b(digest_size=16)
        for view in views:
            hashed.update(view)
        ref = Ref(_OBJECT + hashed.hexdigest(), sum(view.nbytes for view in views), hashed.hexdigest())
        path = self._path_of(ref)
        try:
            if not (path.exists() and path.stat().st_size == ref.size):
                _write(path, views)
        except OSError as error:
            raise refused("write", path, error) from error
        return ref

    def get(self, ref: Ref) -> bytes:
        """The bytes that `put` kept. Raises JournalCorrupt when they are gone or not the same."""
        path = self._path_of(ref)
        hint = "start the script again: the task that made it is run again"
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise JournalCorrupt(f"{path} is gone", hint=hint) from error
        except OSError as error:
            raise refused("read", path, error) from error
        if blake2b(data, digest_size=16).hexdigest() != path.name:
            text = f"{path} is damaged: its content is not what its name says"
            raise JournalCorrupt(text, hint=f"remove it and {hint}")
        return data

    def has(self, ref: Ref) -> bool:
        """Whether what `put` kept is there in its whole length; `get` looks at its content."""
        try:
            return self._path_of(ref).stat().st_size == ref.size
        except OSError:
            return False

    def sweep(self, used: Container[str]) -> None:
        """Removes what `put` kept, except what has one of these names (digests). Only for the owner of the run."""
        for path in self.objects.glob("??/*"):
            if path.name not in used:
                path.unlink(missing_ok=True)

    def _mine(self) -> bool:
        return self._owner is not None and self._owner.pid == os.getpid()

    def _path_of(self, ref: Ref) -> Path:
        name = ref.uri.removeprefix(_OBJECT)
        if not _DIGEST.fullmatch(name):  # nor may a name lead out of the folder
            raise UsageError(f"{ref.uri!r} names no object of a run", hint="ask `data` for what is elsewhere")
        return self.objects / name[:2] / name


def runs_directory() -> Path:
    """Where runs go that were given no folder: `$XDG_STATE_HOME/heald/runs`, by default under `~/.local/state`."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG Base Directory Specification asks to ignore a relative path.
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "heald" / "runs"


def scratch_run() -> Folder:
    """A new folder under `runs_directory`, named by the time (UTC) and this process, and claimed by it."""
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    for number in itertools.count(1):
        folder = Folder(runs_directory() / (stem if number == 1 else f"{stem}-{number}"))
        try:
            folder.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.path.mkdir(mode=0o700)
            folder.claim()
        except (FileExistsError, JournalLocked):  # a second one in this second, or `prune` was quicker than us
            continue
        except OSError as error:
            raised = refused("make", folder.path, error)
            where = "XDG_STATE_HOME names the folder for what sessions without a journal print"
            raised.hint = f"{raised.hint}; {where}" if raised.hint else where
            raise raised from error
        return folder
    raise AssertionError("itertools.count ended")


def prune(keep: int = 20, *, pretend: bool = False) -> list[Path]:
    """Removes the oldest folders of `scratch_run` that nobody writes any more, beyond `keep`; says which.

    `pretend`: only says which it would remove.
    """
    try:
        names = sorted((name for name in os.listdir(runs_directory()) if _SCRATCH.fullmatch(name)), reverse=True)
    except FileNotFoundError:
        return []
    ended = [folder for folder in (Folder(runs_directory() / name) for name in names) if _ended(folder)]
    if pretend:
        return [folder.path for folder in ended[keep:]]
    removed = []
    for folder in ended[keep:]:
        try:
            folder.claim()
        except JournalLocked:  # somebody took it up again just now
            continue
        shutil.rmtree(folder.path, ignore_errors=True)  # what stays is tried again next time
        folder.release()
        if not folder.path.exists():
            removed.append(folder.path)
    return removed


def _ended(folder: Folder) -> bool:
    try:
        refuse_living(folder.path / "owner")
    except JournalLocked:
        return False
    return True


def _write(path: Path, views: Iterable[memoryview]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with open(descriptor, "wb") as file:
            for view in views:
                file.write(view)
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)  # it has gone when all went well

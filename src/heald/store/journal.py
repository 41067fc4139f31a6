"""The journal: a file of frames that one process appends to and any number read.

It asks of a file system no more than append, rename and truncate, so that it is safe on NFS, Lustre and GPFS as
long as one process writes; `Folder.claim` sees to that. The bytes of the file are described in `frame`.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal

from heald.core.errors import JournalError, UsageError
from heald.store.frame import CHUNK, HEADER, head_of, identity_of, new_header, refused, scan, size_of, whole_length

__all__ = ["Follower", "Journal", "Sync", "read", "rewrite"]

Sync = Literal["none", "batch", "each"]

_PAUSE = 0.05  # seconds that the background waits for more to write before an fdatasync
_MOST = 16 * CHUNK  # bytes that a `poll` reads; those of the last frame count on top


class Journal:
    """Opens a journal for appending, or makes it; the caller owns it alone (see `Folder.claim`).

    A tail that a killed writer left unfinished is cut away; `torn` says how many bytes that were. `sync` says when
    frames reach the disk itself, and so outlive the machine and not only this process: "none" leaves it to the
    system, "batch" does it in the background within about 50 ms, "each" before `flush` returns.

    `append`, `flush` and `close` belong to one thread.

    >>> import tempfile
    >>> with Journal(os.path.join(tempfile.mkdtemp(), "journal.log"), sync="each") as journal:
    ...     journal.append(b"acknowledged when flush returns")
    ...     journal.flush()

    Raises JournalError when the file cannot be made or is no journal, JournalCorrupt when it is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, sync: Sync = "batch") -> None:
        if sync not in ("none", "batch", "each"):
            raise UsageError(f"sync={sync!r}", hint='choose "none", "batch" or "each"')
        self.path = os.fspath(path)
        self._file, self._end, self.torn = _open_for_writing(self.path, sync != "none")
        self._sync = sync
        self._pending = bytearray()
        self._ragged = False  # the file ends in a part of a frame that could not be cut away
        self._unsynced = False
        self._unsure: OSError | None = None  # a failed fdatasync: what was written before may not be on the disk
        self._owner = os.getpid()
        self._syncer = _Syncer(self._file.fileno()) if sync == "batch" else None

    def append(self, frame: bytes) -> None:
        """Adds a frame to what the next `flush` writes; costs a microsecond."""
        self._pending += head_of(frame)
        self._pending += frame

    def flush(self) -> None:
        """Writes all that was appended; from then on it survives the death of this process.

        Raises JournalError when the system refuses: what was not written is kept, and the next flush tries again.
        Raises it also when an earlier fdatasync in the background failed.
        """
        self._write()
        if self._sync == "each" and self._unsynced:
            self._to_disk()
        elif self._syncer is not None and self._unsynced:
            self._unsynced = False
            self._syncer.wake()
        if self._syncer is not None and (failure := self._syncer.failure) is not None:
            self._syncer.failure, self._unsure = None, failure
            raise refused("bring to the disk", self.path, failure) from failure

    def close(self) -> None:
        """Flushes, syncs and closes. In a forked child it does nothing.

        Raises JournalError when frames cannot be written (the journal stays open, and closing can be tried again),
        and when any sync, now or before, failed (it is closed then).
        """
        if self._file.closed or os.getpid() != self._owner:
            return
        self._write()
        if self._syncer is not None:
            self._syncer.stop()
            self._unsure = self._unsure or self._syncer.failure
        try:
            if self._sync != "none":
                self._to_disk()
        finally:
            self._file.close()
        # A later fdatasync that succeeds says nothing about pages that an earlier one failed to write.
        if self._unsure is not None:
            raise refused("bring to the disk", self.path, self._unsure) from self._unsure

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self) -> None:
        if os.getpid() != self._owner:
            raise JournalError(f"{self.path} is written by process {self._owner}, not by this child of it")
        if self._file.closed:
            raise JournalError(f"{self.path} is closed", hint="open the journal again")
        if not self._pending and not self._ragged:
            return
        data, done = bytes(self._pending), 0
        try:
            if self._ragged:
                self._cut()
            while done < len(data):
                done += os.write(self._file.fileno(), data[done:])
        except OSError as error:
            raise refused("write", self.path, error) from error
        finally:
            # What a call that was interrupted has written, only the file knows.
            self._account(done if done == len(data) else size_of(self._file) - self._end)

    def _account(self, done: int) -> None:
        """Forgets the whole frames among the first `done` pending bytes, and cuts a part of one off the file."""
        whole = done if done == len(self._pending) else whole_length(self._pending, min(done, len(self._pending)))
        self._end += whole
        del self._pending[:whole]
        self._unsynced = self._unsynced or whole > 0
        if done > whole:
            self._ragged = True
            try:
                self._cut()
            except OSError:
                pass  # the next flush tries again, and readers stop before it

    def _cut(self) -> None:
        os.ftruncate(self._file.fileno(), self._end)
        self._ragged = False

    def _to_disk(self) -> None:
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            self._unsure = error
            raise refused("bring to the disk", self.path, error) from error
        self._unsynced = False


class _Syncer:
    """Brings what was written to the disk in a thread: one fdatasync at a time, none while nothing is new."""

    def __init__(self, descriptor: int) -> None:
        self.failure: OSError | None = None
        self._descriptor = descriptor
        self._new = self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="heald-journal-sync", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        with self._changed:
            if not self._new:
                self._new = True
                self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._awaited():
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                self.failure = error  # the writer hears of it at its next flush

    def _awaited(self) -> bool:
        """Waits for something to sync; false at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._new or self._stopping)
            # The pause gathers what comes meanwhile; it is cut short by the end only.
            self._changed.wait_for(lambda: self._stopping, _PAUSE)
            self._new = False
            return not self._stopping


def rewrite(path: str | os.PathLike[str], frames: Iterable[bytes]) -> None:
    """Puts a journal of these frames in the place of the one at `path`, which no `Journal` may hold open.

    Killed at any moment it leaves the old file or the new, whole. `frames` may come from `read(path)`. Raises
    JournalError when the system refuses; the old journal then stands as it was.
    """
    path = os.fspath(path)
    new = path + ".new"  # one writer, so one name will do; a killed writer's is written over
    try:
        with open(new, "wb", buffering=CHUNK, opener=_private) as file:
            file.write(new_header())
            for frame in frames:
                file.write(head_of(frame))
                file.write(frame)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        _sync_folder(path)
    except OSError as error:
        raise refused("rewrite", path, error) from error
    finally:
        Path(new).unlink(missing_ok=True)  # it has gone when all went well


def read(path: str | os.PathLike[str], offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The frames of a journal from `offset` on, each with the offset after it, where a later read may go on.

    Ends at the end of the file or at a frame that is not finished yet, so it can be used while a writer runs.
    A reader that must survive compaction uses `Follower`.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "journal.log")
    >>> with Journal(path) as journal:
    ...     journal.append(b"one")
    ...     journal.append(b"two")
    >>> [(end, frame), (_, later)] = read(path)
    >>> frame, later, next(read(path, end))[1]
    (b'one', b'two', b'two')

    Raises JournalError when there is no journal of this version, JournalCorrupt when it is damaged before its end.
    """
    with _opened(path) as file:
        if identity_of(file):
            yield from scan(file, offset or HEADER.size)


class Follower:
    """Reads a journal while another process writes it, also when that process compacts it.

    Poll until nothing comes: a poll gives some 16 MB at most, so that a long journal is never in memory as a whole.
    `restarted` is true after a `poll` whose frames are the first of a new file: what was folded from earlier polls
    must be forgotten.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "journal.log")
    >>> journal, follower = Journal(path), Follower(path)
    >>> journal.append(b"one"); journal.flush(); follower.poll()
    [b'one']
    >>> follower.poll(), follower.restarted
    ([], False)
    >>> journal.close(); rewrite(path, [b"all of it"]); follower.poll(), follower.restarted
    ([b'all of it'], True)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.restarted = False
        self._identity = b""
        self._offset = HEADER.size

    def poll(self) -> list[bytes]:
        """The next frames since the last poll; none when there is nothing new. Raises as `read` does."""
        # Opened anew each time: that is what makes a network file system show what other machines wrote.
        with _opened(self.path) as file:
            identity = identity_of(file)
            # A file shorter than what was read from it lost its end in a power failure.
            replaced = identity != self._identity or size_of(file) < self._offset
            self.restarted = replaced and self._identity != b""
            if replaced:
                self._identity, self._offset = identity, HEADER.size
            frames: list[tuple[int, bytes]] = []
            for end, frame in scan(file, self._offset) if identity else ():
                frames.append((end, frame))
                if end - self._offset >= _MOST:
                    break
            if frames:  # only now: a poll that met damage has given nothing, and meets it again
                self._offset = frames[-1][0]
            return [frame for _, frame in frames]


def _opened(path: str | os.PathLike[str]) -> io.FileIO:
    try:
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise refused("read", path, error) from error


def _open_for_writing(path: str, durable: bool) -> tuple[io.FileIO, int, int]:
    """The file, open for appending, cut to its sound frames; its length; and how many bytes were cut."""
    try:
        with ExitStack() as stack:
            file = stack.enter_context(io.FileIO(path, "ab+", opener=_private))
            size, end = size_of(file), HEADER.size
            if identity_of(file):
                for sound, _ in scan(file, end):
                    end = sound
                if end < size:
                    os.ftruncate(file.fileno(), end)
            else:
                _begin(file, durable)
            stack.pop_all()
            return file, end, max(0, size - end)
    except OSError as error:
        raise refused("open", path, error) from error


def _begin(file: io.FileIO, durable: bool) -> None:
    """Writes the header of a new file."""
    os.ftruncate(file.fileno(), 0)
    if os.write(file.fileno(), new_header()) < HEADER.size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if durable:
        os.fsync(file.fileno())
        _sync_folder(str(file.name))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(path: str) -> None:
    """Makes the name `path` itself outlive the machine."""
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)

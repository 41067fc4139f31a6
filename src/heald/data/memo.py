"""Results kept on disk from run to run, found by the key of the call that gave them.

One file an entry, in folders by the first byte of the key. A file appears whole or not at all, so any number of
processes use one memo without knowing of each other. A memo only saves time: whatever is wrong with it costs a
result at most, and never a run.

Whoever recalls an entry unpickles it, so only what the user wrote is taken: the folders are closed to others, and
files of other owners are refused. Knows nothing of tasks, nor of what the bytes mean.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from pickle import PickleBuffer
from typing import Any, NamedTuple

import msgspec

from heald.core.errors import UsageError
from heald.core.resources import seconds as to_seconds
from heald.core.resources import size as to_bytes

_MAGIC = b"heald\0m1"
_HEAD = struct.Struct("<8s16sI")  # magic, checksum, length of the description
_ALIGNED = 64
# Up to here an entry is read and checked whole. Above it is mapped, and its buffers are trusted: reading them is what
# is to be saved. A mapping may cost a file descriptor, so it must not happen for every small array.
_MAPPED = 16 * 1024 * 1024
_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_HOUR = 3600.0

Bytes = bytes | bytearray | memoryview | PickleBuffer


class Recalled(NamedTuple):
    """What `put` was given. The buffers are writable, and nobody else's."""

    data: bytes
    buffers: list[memoryview]


class Entry(msgspec.Struct, frozen=True):
    """One result: `key` in hex, the task's `name`, `size` of the file in bytes, when it was `created` and last `used`
    (to the hour; seconds since the epoch), and the `seconds` that it took to compute, which each recall saves.
    """

    key: str
    name: str
    size: int
    created: float
    used: float
    seconds: float


class Info(msgspec.Struct, frozen=True):
    """A memo at a glance: `count` and `size` in bytes of its entries, `seconds` that they took to compute; and what
    this process met: `hits`, `misses` (the corrupt included) and `corrupt` entries.
    """

    path: str
    count: int
    size: int
    seconds: float
    hits: int
    misses: int
    corrupt: int


class Pruned(msgspec.Struct, frozen=True):
    """How many entries were removed, and their size in bytes."""

    count: int
    bytes: int


class _Description(msgspec.Struct, frozen=True, array_like=True):
    key: bytes
    name: str
    seconds: float
    created: float
    data: int
    buffers: tuple[int, ...]
    whole: bool  # the checksum covers the buffers too


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Description).decode


class _Corrupt(ValueError):
    """The bytes are not what `put` wrote."""


def default_memo_path() -> Path:
    """Where a memo is when nobody says otherwise: `heald/memo` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "heald" / "memo"


class Memo:
    """Results on disk, by key.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> memo = Memo(folder.name)
    >>> memo.put(b"0123456789abcdef", b"result", [b"large"], name="simulate", seconds=12.5)
    >>> data, buffers = memo.get(b"0123456789abcdef")
    >>> data, bytes(buffers[0])
    (b'result', b'large')
    >>> [(entry.name, entry.seconds) for entry in memo.ls()], memo.prune(everything=True).count
    ([('simulate', 12.5)], 1)
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = os.path.abspath(path or default_memo_path())
        self.hits = self.misses = self.corrupt = 0
        self._complained = False

    def get(self, key: bytes) -> Recalled | None:
        """The result for a key, or None. A large one is mapped, not read; a corrupt one is removed."""
        path = self._file(key)
        recalled = None
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                recalled = _read(file, path, key)
            finally:
                os.close(file)
        except FileNotFoundError:
            pass
        except _Corrupt as reason:
            self.corrupt += 1
            _warn("removed a corrupt result from the memo: %s: %s", path, reason)
            _remove(path)
        except OSError as error:
            _warn("cannot read a result from the memo: %s", error)
        if recalled is None:
            self.misses += 1
        else:
            self.hits += 1
        return recalled

    def put(self, key: bytes, data: bytes, buffers: Sequence[Bytes] = (), *, name: str, seconds: float) -> None:
        """Keep a result. `name` is the task's, `seconds` is what computing it took.

        A full disk or a closed folder is logged, once, and otherwise has no consequence.
        """
        raw = [PickleBuffer(buffer).raw() for buffer in buffers]
        sizes = tuple(buffer.nbytes for buffer in raw)
        whole = len(data) + sum(sizes) <= _MAPPED
        path = self._file(key)
        folder, _, last = path.rpartition("/")
        temporary = f"{folder}/.{last}.{os.urandom(8).hex()}"
        try:
            file = _create(temporary, folder)
            try:
                with open(file, "wb") as stream:
                    _write(stream, _Description(key, name, seconds, time.time(), len(data), sizes, whole), data, raw)
                os.replace(temporary, path)
            except BaseException:
                _remove(temporary)
                raise
        except OSError as error:
            if not self._complained:
                self._complained = True
                _warn("results are not kept in the memo %s: %s", self.path, error)

    def ls(self) -> Iterator[Entry]:
        """The entries, by key."""
        for _, entry in self._entries():
            if entry is not None:
                yield entry

    def info(self) -> Info:
        """Counts and sums over the entries."""
        entries = list(self.ls())
        return Info(
            path=self.path,
            count=len(entries),
            size=sum(entry.size for entry in entries),
            seconds=sum(entry.seconds for entry in entries),
            hits=self.hits,
            misses=self.misses,
            corrupt=self.corrupt,
        )

    def prune(
        self,
        *,
        older_than: timedelta | float | str | None = None,
        larger_than: int | str | None = None,
        name: str | None = None,
        everything: bool = False,
        pretend: bool = False,
    ) -> Pruned:
        """Remove entries, and what writers that were killed have left.

        `older_than`: those not used for so long ("30d"). `larger_than`: the least recently used, until the rest takes
        no more than this ("10GB"). `name`: a pattern such as "fit_*"; the other conditions then concern only
        entries of these tasks, and without one all of them go. `pretend`: only say what would go. Raises UsageError
        when nothing is asked for.
        """
        if older_than is None and larger_than is None and name is None and not everything:
            raise UsageError("nothing to prune", hint="give older_than, larger_than or name, or everything=True")
        before, most = float("-inf"), float("inf")
        if older_than is not None:
            before = time.time() - to_seconds(older_than)
        if larger_than is not None:
            most = to_bytes(larger_than)
        if everything or (older_than is None and larger_than is None):
            most = -1
        pattern = "*" if everything or name is None else name
        found = list(self._entries(abandoned=0 if everything else _HOUR))
        scope = [(path, entry) for path, entry in found if entry and fnmatchcase(entry.name, pattern)]
        chosen = _choose(scope, before, most)
        if not pretend:
            for path in (*(path for path, entry in found if entry is None), *(path for path, _ in chosen)):
                _remove(path)
        return Pruned(len(chosen), sum(entry.size for _, entry in chosen))

    def _file(self, key: bytes) -> str:
        name = key.hex()
        return f"{self.path}/{name[:2]}/{name}"

    def _entries(self, abandoned: float = _HOUR) -> Iterator[tuple[str, Entry | None]]:
        """Paths and entries, in order; None for what nobody can read, or was abandoned so many seconds ago."""
        for folder in _listing(self.path):
            for file in _listing(folder.path):
                try:
                    if not file.name.startswith("."):
                        yield file.path, _entry(file)
                    elif file.stat().st_mtime <= time.time() - abandoned:
                        yield file.path, None
                except OSError:  # it went away meanwhile
                    continue


def _choose(scope: list[tuple[str, Entry]], before: float, most: float) -> list[tuple[str, Entry]]:
    """Those last used before a time, and then the least recently used while the rest is more than `most` bytes."""
    chosen = []
    total = sum(entry.size for _, entry in scope)
    for path, entry in sorted(scope, key=lambda item: item[1].used):
        if entry.used < before or total > most:
            chosen.append((path, entry))
            total -= entry.size
    return chosen


def _write(stream: Any, description: _Description, data: bytes, buffers: list[memoryview]) -> None:
    text = _encode(description)
    position = _HEAD.size + len(text) + len(data)
    checked: list[bytes | memoryview] = [text, data]
    rest: list[bytes | memoryview] = []
    for buffer in buffers:
        gap = bytes(-position % _ALIGNED)
        rest += gap, buffer
        position += len(gap) + buffer.nbytes
    if description.whole:
        checked, rest = checked + rest, []
    stream.write(_HEAD.pack(_MAGIC, _checksum(checked), len(text)))
    for part in (*checked, *rest):
        stream.write(part)
    if not description.whole:
        # Nobody checks these buffers, so they are on the disk before the file has its name, whatever the power does.
        stream.flush()
        os.fsync(stream.fileno())


def _read(file: int, path: str, key: bytes) -> Recalled | None:
    status = os.fstat(file)
    if status.st_uid != os.getuid():
        _warn("refused a result in the memo: %s belongs to user %s", path, status.st_uid)
        return None
    mapped = status.st_size > _MAPPED
    whole = memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_COPY, **_UNTRACKED)) if mapped else _load(file, status)
    description, start = _describe(whole)
    position = start + description.data
    data = bytes(whole[start:position])
    buffers = []
    checked = len(whole) if description.whole else position
    for length in description.buffers:
        position += -position % _ALIGNED
        buffers.append(whole[position : position + length])
        position += length
    if position != len(whole):
        raise _Corrupt(f"it has {len(whole)} bytes in place of {position}")
    _, checksum, _ = _HEAD.unpack_from(whole)
    if checksum != _checksum([whole[_HEAD.size : checked]]) or description.key != key:
        raise _Corrupt("the checksum is wrong" if description.key == key else "it belongs to another key")
    if time.time() - status.st_mtime > _HOUR:
        try:
            os.utime(file)
        except OSError:  # where nothing can be written, nothing is pruned either
            pass
    return Recalled(data, buffers)


def _load(file: int, status: os.stat_result) -> memoryview:
    whole = memoryview(bytearray(status.st_size))
    position = 0
    while position < len(whole) and (count := os.readv(file, [whole[position:]])):
        position += count
    return whole


def _describe(head: memoryview) -> tuple[_Description, int]:
    """What the beginning of an entry says, and where the data begin."""
    if len(head) < _HEAD.size:
        raise _Corrupt("it was cut short")
    magic, _, length = _HEAD.unpack_from(head)
    if magic != _MAGIC:
        raise _Corrupt("it does not begin as a result does")
    start = _HEAD.size + length
    try:
        return _decode(head[_HEAD.size : start]), start
    except msgspec.DecodeError as error:
        raise _Corrupt(str(error)) from error


def _entry(file: os.DirEntry[str]) -> Entry | None:
    status = file.stat(follow_symlinks=False)
    with open(file.path, "rb") as stream:
        head = stream.read(_HEAD.size)
        if len(head) == _HEAD.size:
            head += stream.read(min(_HEAD.unpack(head)[2], status.st_size))
    try:
        said, _ = _describe(memoryview(head))
    except _Corrupt:
        return None
    return Entry(file.name, said.name, status.st_size, said.created, status.st_mtime, said.seconds)


def _checksum(parts: Sequence[bytes | memoryview]) -> bytes:
    whole = blake2b(digest_size=16)
    for part in parts:
        whole.update(part)
    return whole.digest()


def _create(path: str, folder: str) -> int:
    """A new file that only the user can open, in a folder of the same kind, made when missing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        for missing in (os.path.dirname(folder), folder):
            os.makedirs(missing, 0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _listing(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as files:
            return sorted(files, key=lambda file: file.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _warn(message: str, *arguments: object) -> None:
    import logging  # late: most runs have nothing to say

    logging.getLogger("heald.memo").warning(message, *arguments)

"""`heald.File`: the name of a file anywhere, as functions and commands take it.

It says which file; it brings nothing. `staging` does, and tells the very object where its local copy is.
"""

from __future__ import annotations

import builtins
import hashlib
import os
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from heald.core.errors import StagingError, UsageError
from heald.data import checksum, transfer
from heald.data import url as urls

# What may change when a far file does, under the names that the protocols give it.
_VALIDATORS = {
    "checksum", "content-md5", "crc32c", "created", "etag", "generation", "last-modified", "lastmodified", "md5",
    "md5hash", "modified", "mtime", "size", "updated",
}  # fmt: skip


class File:
    """A file anywhere: a local path or any URL that fsspec reads (`https://`, `ftp://`, `s3://`, `zip://x::y.zip`, …).

    Give it to a task and the function gets a local path; give it in `outputs` and the function writes to its local
    path and the file goes where the URL says. A relative path means the folder where it was named, in every process.
    `digest` ("sha256:…", "md5:…", "blake2b:…") is checked before the function sees the file.

    Files are equal when URL and digest are, never change, and are `os.PathLike` once they have a local path.

    >>> deck = File("/data/in.lj", digest="md5:d41d8cd98f00b204e9800998ecf8427e")
    >>> deck.name, deck.suffix, deck.url, f"lmp -in {deck}"
    ('in.lj', '.lj', 'file:///data/in.lj', 'lmp -in /data/in.lj')
    >>> File("https://example.org/a.txt").path
    Traceback (most recent call last):
    heald.core.errors.UsageError: https://example.org/a.txt has no local path yet
      hint: a task that gets it as an argument has one; here, read it with .open()

    Raises UsageError for a name or a digest that cannot be one.
    """

    __slots__ = ("_path", "digest", "url")

    url: str
    digest: str
    _path: str | None

    def __init__(self, url_or_path: str | bytes | os.PathLike[str] | os.PathLike[bytes], *, digest: str = "") -> None:
        text = url_or_path.url if isinstance(url_or_path, File) else os.fsdecode(url_or_path)
        _fill(self, urls.absolute(text), checksum.check(digest) if digest else "")

    @property
    def scheme(self) -> str:
        """The protocol that reads it: "file", "https", "s3", …"""
        return urls.scheme(self.url)

    @property
    def local(self) -> bool:
        """It names a path of this machine, rather than something to bring here."""
        return self.url.startswith("file://")

    @property
    def name(self) -> str:
        """The file's name without the folders."""
        return urls.name(self.url)

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot, or nothing."""
        return os.path.splitext(self.name)[1]

    @property
    def path(self) -> Path:
        """The local path: the file itself or, in a task, the copy of a far one. Raises UsageError before that."""
        return Path(os.fspath(self))

    def exists(self) -> bool:
        """It is there now. Raises StagingError when the far side cannot tell."""
        if self._path is not None:
            return os.path.exists(self._path)
        return transfer.info(self.url) is not None

    def open(self, mode: str = "r", *, encoding: str | None = None) -> IO[Any]:
        """The file opened as `open` does; far ones are read as they come, and written where their protocol can."""
        if self._path is not None:
            return builtins.open(self._path, mode, encoding=encoding)
        return transfer.stream(self.url, mode, encoding=encoding)

    def read_bytes(self) -> bytes:
        """All that is in it."""
        with self.open("rb") as file:
            data: bytes = file.read()
        return data

    def read_text(self, encoding: str = "utf-8") -> str:
        """All that is in it, as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """Make that its content, as a task does with one of its `outputs`."""
        with self.open("wb") as file:
            file.write(data)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Make that its content, as a task does with one of its `outputs`."""
        self.write_bytes(text.encode(encoding))

    def __fspath__(self) -> str:
        if self._path is None:
            raise UsageError(
                f"{urls.redacted(self.url)} has no local path yet",
                hint="a task that gets it as an argument has one; here, read it with .open()",
            )
        return self._path

    def __str__(self) -> str:
        return self.url if self._path is None else self._path

    def __format__(self, specification: str) -> str:
        text = str(self)
        return format(shlex.quote(text) if getattr(_quoting, "on", False) else text, specification)

    def __repr__(self) -> str:
        shown = repr(urls.local_path(self.url) or urls.redacted(self.url))
        return f"File({shown}, digest={self.digest!r})" if self.digest else f"File({shown})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        return self.url == other.url and self.digest == other.digest

    def __hash__(self) -> int:
        return hash((self.url, self.digest))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a File never changes: make another one instead of setting {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Without its local copy: that is this machine's, and this task's.
        _list(self, "pickled")
        return restore, (self.url, self.digest)

    def __heald_digest__(self) -> bytes:
        """16 bytes that change when the content does: what memo keys take for it.

        Of local files the content itself; of far ones the digest given, else what the far side says of it (etag, size,
        time of change; asked once a process), else the URL. A file that cannot be read has the digest of its URL.
        """
        if self.digest:
            return _named(self.digest)
        try:
            return _far_digest(self.url) if self._path is None else checksum.content(self._path)
        except OSError:
            return _named(self.url)


def _fill(file: File, url: str, digest: str) -> None:
    object.__setattr__(file, "url", url)
    object.__setattr__(file, "digest", digest)
    object.__setattr__(file, "_path", urls.local_path(url))


def staged(file: File, path: str | os.PathLike[str]) -> None:
    """Tells a File, this very object, where its local copy is."""
    object.__setattr__(file, "_path", os.fspath(path))


def restore(url: str, digest: str) -> File:
    """Unpickles a File, and lists it where this thread is collecting."""
    file: File = File.__new__(File)
    _fill(file, url, digest)
    _list(file, "unpickled")
    return file


def _list(file: File, how: str) -> None:
    found = getattr(_collecting, how, None)
    if found is not None:
        found.append(file)


@contextmanager
def collecting(how: str = "unpickled") -> Iterator[list[File]]:
    """Lists the Files that are unpickled inside (or "pickled"), in this thread: those in arguments, however deep.

    >>> import pickle
    >>> with collecting() as files:
    ...     arguments = pickle.loads(pickle.dumps({"deck": [File("/data/in.lj")]}))
    >>> files
    [File('/data/in.lj')]
    """
    before = getattr(_collecting, how, None)
    files: list[File] = []
    setattr(_collecting, how, files)
    try:
        yield files
    finally:
        setattr(_collecting, how, before)


_collecting = threading.local()


@contextmanager
def quoting() -> Iterator[None]:
    """Inside, a File in an f-string is quoted for a shell when its name needs it: command lines are text.

    >>> with quoting():
    ...     f"cat {File('/data/a b')}"
    "cat '/data/a b'"
    """
    before = getattr(_quoting, "on", False)
    _quoting.on = True
    try:
        yield
    finally:
        _quoting.on = before


_quoting = threading.local()


@lru_cache(maxsize=65536)
def _far_digest(url: str) -> bytes:
    # Briefly, as somebody who submits waits for it. Whatever comes of it holds for this process: keys must not flicker.
    try:
        found = transfer.info(url, timeout=10, attempts=1) or {}
    except StagingError:
        found = {}
    return _named(url, *sorted(f"{key}={found[key]}" for key in found if key.lower() in _VALIDATORS))


def _named(*texts: str) -> bytes:
    return hashlib.blake2b("\n".join(texts).encode(errors="surrogatepass"), digest_size=16).digest()

"""What is in a file, in a few bytes: digests that users give are checked, and content is named for memo keys.

A file that did not change since is not read again.
"""

from __future__ import annotations

import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from heald.core.errors import StagingError, UsageError

_ALGORITHMS = sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake"))
# A file changed less than this ago could change again with no difference in its times (coarse clocks of filesystems).
_SETTLED = 2_000_000_000  # nanoseconds


def check(digest: str) -> str:
    """The digest in lower case, when it can be one: `algorithm:hexadecimal`. Raises UsageError otherwise.

    >>> check("MD5:D41D8CD98F00B204E9800998ECF8427E")
    'md5:d41d8cd98f00b204e9800998ecf8427e'
    """
    algorithm, _, value = digest.lower().partition(":")
    try:
        fits = len(bytes.fromhex(value)) == _hash(algorithm, len(value) // 2).digest_size
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(f"digest {digest!r} is none", hint=f"write algorithm:hexadecimal, with one of {_ALGORITHMS}")
    return f"{algorithm}:{value}"


def verify(path: str | os.PathLike[str], digest: str, what: str) -> None:
    """Raises StagingError, naming `what`, unless the file's content has the digest; an empty one fits everything."""
    if not digest:
        return
    algorithm, _, value = check(digest).partition(":")
    found = _of_file(path, algorithm, len(value) // 2).hex()
    if found != value:
        raise StagingError(
            f"{what} is not what it should be: its {algorithm} is {found}, not {value}",
            hint="the file has changed since its digest was taken, or the digest is another file's",
        )


def content(path: str | os.PathLike[str]) -> bytes:
    """The 16 bytes (BLAKE2b) that name what is in a file, or in a folder with all its files. Raises OSError."""
    if not os.path.isdir(path):
        return _of_file(path, "blake2b", 16)
    whole = _hash("blake2b", 16)
    for file in sorted(file for file in Path(path).rglob("*") if not file.is_dir()):
        whole.update(os.fsencode(file.relative_to(path)) + b"\0" + _of_file(file, "blake2b", 16))
    return bytes(whole.digest())


def _of_file(path: str | os.PathLike[str], algorithm: str, size: int) -> bytes:
    found = os.stat(path)
    read = _read if time.time_ns() - found.st_ctime_ns > _SETTLED else _read.__wrapped__
    return read(os.fspath(path), algorithm, size, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=65536)
def _read(path: str, algorithm: str, size: int, *_identity: int) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: _hash(algorithm, size)).digest()


def _hash(algorithm: str, size: int) -> Any:
    if algorithm not in _ALGORITHMS:
        raise ValueError(f"no hash is called {algorithm!r}")
    sized: dict[str, Any] = {"digest_size": size} if algorithm.startswith("blake2") else {}
    return hashlib.new(algorithm, usedforsecurity=False, **sized)

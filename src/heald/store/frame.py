"""The bytes of a journal, and reading them.

    file    magic (8 bytes), format version (u32), identity (12 random bytes, new with every rewrite), frames
    frame   length (u32), seal (u32, CRC-32 of magic and length), checksum (u32, CRC-32 of magic, length and body), body

All numbers are little-endian. The seal tells two kinds of bad frame apart. When the length can be believed and the
file ends before the frame does, the writer was killed in the middle of it: nothing that was acknowledged is lost.
Anything else is damage, and is an error as soon as a sound frame follows it.

What is in a frame is `core.codec`'s business.
"""

from __future__ import annotations

import errno
import io
import os
import struct
from collections.abc import Iterator
from shlex import quote
from zlib import crc32

from heald.core.errors import JournalCorrupt, JournalError, UsageError

VERSION = 1
CHUNK = 1 << 20
HEADER = struct.Struct("<8sI12s")
_MAGIC = b"\x93heald\r\n"  # no text begins so, and a transfer as text breaks the line end
_SEED = crc32(_MAGIC)  # without it, eight bytes 0xff would be a length and its seal
_HEAD = struct.Struct("<III")
_LENGTH = _SEAL = struct.Struct("<I")
_CHECKS = struct.Struct("<II")
_LONGEST = 2**32 - 1
_HINTS = {
    errno.ENOSPC: "make room on that file system",
    errno.EDQUOT: "make room in your quota there",
    errno.EIO: "the disk or the file server has failed: move the run to another file system",
    errno.ESTALE: "the file server was restarted or the folder replaced: start the run again",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EACCES: "name a folder of your own, or ask its owner",
    errno.EROFS: "that file system is read-only: name another folder",
    errno.ENOENT: "check the path",
    errno.EEXIST: "that is a file: name a folder",
    errno.ENOTDIR: "a part of it is a file: name another folder",
}


def refused(action: str, path: str | os.PathLike[str], error: OSError) -> JournalError:
    """The JournalError that says what the operating system refused, in its words, and what to do.

    >>> print(refused("write", "/scratch/journal.log", OSError(errno.ENOSPC, "No space left on device")).message)
    cannot write /scratch/journal.log: No space left on device
    """
    words = error.strerror or str(error)
    return JournalError(f"cannot {action} {os.fspath(path)}: {words}", hint=_HINTS.get(error.errno or 0, ""))


def size_of(file: io.FileIO) -> int:
    """Bytes in the file now."""
    return os.fstat(file.fileno()).st_size


def identity_of(file: io.FileIO) -> bytes:
    """The identity in the header; empty when the writer has not finished the header. The file must be a journal."""
    try:
        header = os.pread(file.fileno(), HEADER.size, 0)
    except OSError as error:
        raise refused("read", str(file.name), error) from error
    if not _MAGIC.startswith(header[: len(_MAGIC)]):
        raise JournalError(
            f"{file.name} is no journal of heald", hint="nothing was changed: name another path for the run"
        )
    if len(header) < HEADER.size:
        return b""
    _, version, identity = HEADER.unpack(header)
    if version != VERSION:
        raise JournalError(
            f"{file.name} is a journal of format {version}; this heald knows format {VERSION}",
            hint="use the version of heald that wrote it, or start a new run",
        )
    return bytes(identity)


def scan(file: io.FileIO, base: int) -> Iterator[tuple[int, bytes]]:
    """Sound frames from offset `base` on, each with the offset after it; raises JournalCorrupt at damage."""
    data, at = b"", 0  # `data` begins at offset `base`, the next frame at `at` in it
    unpack, head_size, seed = _HEAD.unpack_from, _HEAD.size, _SEED
    try:
        file.seek(base)
        while True:
            size, missing = len(data), head_size
            while size - at >= head_size:
                length, seal, checksum = unpack(data, at)
                if crc32(data[at : at + 4], seed) != seal:
                    return (yield from _resume(file, base + at, base + at + 1))
                end = at + head_size + length
                if end > size:
                    missing = end - size
                    break
                body = data[at + head_size : end]
                if crc32(body, seal) != checksum:
                    return (yield from _resume(file, base + at, base + end))
                yield base + end, body
                at = end
            more = file.read(max(missing, CHUNK))
            if not more:
                return None
            data, base, at = data[at:] + more, base + at, 0
    except OSError as error:
        raise refused("read", str(file.name), error) from error


def _resume(file: io.FileIO, offset: int, beyond: int) -> Iterator[tuple[int, bytes]]:
    """What follows after a bad frame was seen at `offset`; the next one cannot begin before `beyond`."""
    size = size_of(file)
    if _sound(file, offset, size):
        # A second look is better: a writer cut off the end that a killed one left, and wrote there meanwhile.
        yield from scan(file, offset)
    elif (sound := _next_sound(file, beyond, size)) is not None:
        raise JournalCorrupt(
            f"{file.name} is damaged at byte {offset}: frames from byte {sound} on are sound, those between are lost",
            hint=f"keep a copy; `truncate -s {offset} {quote(str(file.name))}` goes back to the time before the damage",
        )


def _next_sound(file: io.FileIO, start: int, size: int) -> int | None:
    for base in range(start, size, CHUNK):
        window = os.pread(file.fileno(), CHUNK + _HEAD.size - 1, base)
        for at in range(len(window) - _HEAD.size + 1):
            # The seal comes first: it is cheap, and rules out nearly every byte that begins no frame.
            if crc32(window[at : at + 4], _SEED) == _SEAL.unpack_from(window, at + 4)[0] and _sound(
                file, base + at, size
            ):
                return base + at
    return None


def _sound(file: io.FileIO, offset: int, size: int) -> bool:
    head = os.pread(file.fileno(), _HEAD.size, offset)
    if len(head) < _HEAD.size:
        return False
    length, seal, checksum = _HEAD.unpack(head)
    if crc32(head[:4], _SEED) != seal or offset + _HEAD.size + length > size:
        return False
    return bool(crc32(os.pread(file.fileno(), length, offset + _HEAD.size), seal) == checksum)


def new_header() -> bytes:
    """The header of a new file."""
    return HEADER.pack(_MAGIC, VERSION, os.urandom(12))


def head_of(body: bytes) -> bytes:
    """What stands before a body in its frame. Raises UsageError when the body is 4 GiB or more."""
    if len(body) > _LONGEST:
        raise UsageError(f"a frame of {len(body)} bytes; at most {_LONGEST}", hint="put large data in an object")
    length = _LENGTH.pack(len(body))
    seal = crc32(length, _SEED)
    return length + _CHECKS.pack(seal, crc32(body, seal))


def whole_length(data: bytes | bytearray, limit: int) -> int:
    """Length of the whole frames among the first `limit` bytes of `data`.

    >>> two = 2 * (head_of(b"body") + b"body")
    >>> whole_length(two, 31), whole_length(two, 32)
    (16, 32)
    """
    end = 0
    while end + _HEAD.size <= limit:
        after = end + _HEAD.size + _LENGTH.unpack_from(data, end)[0]
        if after > limit:
            break
        end = after
    return end

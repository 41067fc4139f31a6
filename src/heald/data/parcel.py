"""A value as a file: the pickle, and behind it the large buffers, which whoever reads it maps rather than copies.

Many processes of one machine may read one such file, and have its bytes in memory once; what one of them writes into
its value, the others do not see.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import msgspec

from heald.core.ref import Ref
from heald.core.task import Payload
from heald.data.payload import Sealed, pack, seal

_SCHEME = "parcel:"  # followed by where in the file the buffer begins, counted from the first
_LENGTH = 8  # bytes of the number with which a file begins: the length of what follows, up to the buffers
_ALIGNED = 64  # bytes: what arrays like their memory to begin at

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Payload).decode


def write(file: Path, value: object, *, subject: str) -> None:
    """Write a value into a file, which is there when it is whole.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "value"), {"x": [1, 2]}, subject="the settings")
    ...     read(Path(folder, "value"))
    {'x': [1, 2]}

    Raises NotPicklable, which says what inside `subject` is to blame, and OSError.
    """
    buffers = _Buffers()
    payload, _ = pack(value, buffers, subject=subject)
    head = _encode(payload)
    first = _aligned(_LENGTH + len(head))
    draft = file.with_name(f".{file.name}.{os.uname().nodename}.{os.getpid()}")
    with draft.open("wb") as stream:
        stream.write(len(head).to_bytes(_LENGTH, "little") + head)
        for offset, view in buffers.placed:
            stream.seek(first + offset)
            stream.write(view)
    draft.rename(file)


def read(file: Path) -> Any:
    """The value. Raises OSError, and whatever the code of the pickled objects raises."""
    return opened(file).open()


def opened(file: Path) -> Sealed:
    """The value, still pickled. Raises OSError."""
    with file.open("rb") as stream:
        view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))
    length = int.from_bytes(view[:_LENGTH], "little")
    first = _aligned(_LENGTH + length)

    def part(ref: Ref) -> memoryview:
        begin = first + int(ref.uri.removeprefix(_SCHEME))
        return view[begin : begin + ref.size]

    return seal(_decode(view[_LENGTH : _LENGTH + length]), resolve=part)


class _Buffers:
    """Buffers of one value, with the places that they will have."""

    def __init__(self) -> None:
        self.placed: list[tuple[int, memoryview]] = []
        self._end = 0

    def share(self, buffer: memoryview) -> Ref:
        begin, self._end = self._end, _aligned(self._end + buffer.nbytes)
        self.placed.append((begin, buffer))
        return Ref(f"{_SCHEME}{begin}", buffer.nbytes)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNED) * _ALIGNED

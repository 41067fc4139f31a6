"""One connection by which large values come and go, both ways: whoever lacks one asks for it, and gets it in parts.

Asked, so that nothing need be remembered of a connection that was cut: over the next one, each end asks for what it
still lacks, from where it stands. A value is a number and bytes; what it is for, others know (`run.cluster.bulk`).

Behind the openings of `seal`, everything is records, with their length before them. The first of each end is its name.
Then there are WANT (a value, from an offset on) and PART (of a value, at an offset), which is followed by a record of
bytes: these are deciphered to where they belong, and copied nowhere else.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from heald.core.errors import UsageError
from heald.wire.seal import OPENING, TAG, Agreement, Seal

PART: Final = 2**18  # bytes: small enough for the processor's cache, and for others to have their turn in between
_NAME, _WANT, _PART = range(3)
_HEADER = struct.Struct("!BQQ")  # kind, number of the value, offset
_LENGTH = struct.Struct("!I")
_ROOM = 4 * PART  # of the buffers
_MOST = PART + TAG  # bytes of a record
_TURN = 16 * PART  # bytes in a row before others have their turn
_LONGEST_NAME = 1024

Find = Callable[[int], "memoryview | None"]


class Want:
    """A value that this end lacks: `window` is where it goes, `filled` how much of it is there.

    `owner` is kept while somebody may still write there.
    """

    def __init__(self, window: memoryview, owner: object = None) -> None:
        self.window = window
        self.filled = 0
        self.owner = owner


class Stream:
    """One end of a connection. Everything happens in the thread that calls, and nothing waits.

    `named` is told the `name` of the other end, and may refuse it by raising UsageError. `find` gives the bytes of a
    value that the other end asks for. `came` is told of each value that is here. `spare` has buffers that nobody uses.
    """

    def __init__(
        self,
        connection: socket.socket,
        agreement: Agreement,
        *,
        find: Find,
        came: Callable[[int], object],
        named: Callable[[bytes], object],
        name: bytes = b"",
        spare: list[bytearray] | None = None,
    ) -> None:
        self.connection = connection
        self.find = find
        self.came = came
        self.wants: dict[int, Want] = {}
        self.proven = False  # the other end has shown that it has the keys, and was not refused
        self._named = named
        self._agreement = agreement
        self._seal: Seal | None = None
        self._spare = [] if spare is None else spare
        self._in: memoryview | None = None
        self._filled = 0
        self._out: memoryview | None = None
        self._left = memoryview(b"")  # of what is to be sent next
        self._words = deque([bytes([_NAME]) + name])
        self._giving = deque[tuple[int, memoryview, int]]()  # number, bytes, how far it was sent
        self._part: tuple[int, int] | None = None  # number and offset of what comes next
        connection.setblocking(False)
        self._send(memoryview(agreement.opening))

    def want(self, serial: int, want: Want) -> None:
        """Ask for a value, or for the rest of it."""
        self.wants[serial] = want
        self._words.append(_HEADER.pack(_WANT, serial, want.filled))

    @property
    def waiting(self) -> bool:
        """Whether there is something to `write`."""
        return bool(self._left) or (self._seal is not None and bool(self._words or self._giving))

    # -- out ---------------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Send what there is room for. Raises OSError when the connection is cut."""
        sent = 0
        while sent < _TURN and self.waiting:
            if not self._left:
                self._compose()
            length = len(self._left)
            self._send(self._left)
            sent += length
            if self._left:
                return
        if not self.waiting:
            self._give_back(self._out)
            self._out = None

    def _send(self, data: memoryview) -> None:
        try:
            self._left = data[self.connection.send(data) :]
        except BlockingIOError:
            self._left = data

    def _compose(self) -> None:
        """Make records of what comes next: all words, or a part of a value."""
        if self._out is None:
            self._out = self._buffer()
        end = 0
        while self._words and end < PART:
            end = self._record(self._words.popleft(), end)
        if not end and self._giving:
            serial, content, offset = self._giving.popleft()
            part = content[offset : offset + PART]
            end = self._record(part, self._record(_HEADER.pack(_PART, serial, offset), 0))
            if offset + len(part) < len(content):
                self._giving.appendleft((serial, content, offset + len(part)))
        self._left = self._out[:end]

    def _record(self, content: bytes | memoryview, start: int) -> int:
        assert self._out is not None
        assert self._seal is not None
        begin, end = start + _LENGTH.size, start + _LENGTH.size + len(content) + TAG
        _LENGTH.pack_into(self._out, start, end - begin)
        self._seal.close_into(content, self._out[begin:end])
        return end

    # -- in ----------------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Take in what has come.

        Raises OSError when the connection is cut, UsageError for what cannot be.
        """
        if self._in is None:
            self._in = self._buffer()
        taken = 0
        while taken < _TURN:
            try:
                count = self.connection.recv_into(self._in[self._filled :])
            except BlockingIOError:
                break
            if not count:
                raise ConnectionResetError("the other end has closed it")
            taken += count
            self._filled += count
            self._take()
        if not self._filled:
            self._give_back(self._in)
            self._in = None

    def _take(self) -> None:
        """Deal with all that is here in one piece."""
        assert self._in is not None
        data, start = self._in, 0
        if self._seal is None:
            if self._filled < OPENING:
                return
            self._seal = self._agreement.seal(data[:OPENING])
            start = OPENING
        while self._filled - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, start)
            if not TAG <= length <= _MOST:
                raise UsageError(f"a record of {length} bytes: the other end of a data stream is none of heald's")
            begin, end = start + _LENGTH.size, start + _LENGTH.size + length
            if end > self._filled:
                break
            self._open(data[begin:end])
            start = end
        left = self._filled - start
        if start and left:
            data[:left] = data[start : self._filled]
        self._filled = left

    def _open(self, record: memoryview) -> None:
        assert self._seal is not None
        size = len(record) - TAG
        if self._part is not None:
            serial, offset = self._part
            self._part = None
            self._fill(serial, offset, record)
            return
        if size > _LONGEST_NAME:
            raise UsageError(f"a word of {size} bytes")
        word = bytearray(size)
        self._seal.open_into(record, word)
        if not self.proven:
            if not word or word[0] != _NAME:
                raise UsageError("the other end of a data stream does not say who it is")
            self._named(bytes(word[1:]))
            self.proven = True
        elif size != _HEADER.size:
            raise UsageError(f"a word of {size} bytes")
        else:
            self._hear(*_HEADER.unpack(word))

    def _hear(self, kind: int, serial: int, offset: int) -> None:
        if kind == _PART:
            self._part = serial, offset
            return
        content = self.find(serial) if kind == _WANT else None
        if content is None or offset >= len(content):
            raise UsageError(f"the other end asks for byte {offset} of value {serial}, which it was not given")
        self._giving.append((serial, content, offset))

    def _fill(self, serial: int, offset: int, record: memoryview) -> None:
        assert self._seal is not None
        size = len(record) - TAG
        want = self.wants.get(serial)
        if want is None or offset != want.filled or not 0 < size <= len(want.window) - offset:
            raise UsageError(f"{size} bytes at {offset} of value {serial} were not asked for")
        self._seal.open_into(record, want.window[offset : offset + size])
        want.filled += size
        if want.filled == len(want.window):
            del self.wants[serial]
            self.came(serial)

    # -- its buffers -------------------------------------------------------------------------------------------------

    def _buffer(self) -> memoryview:
        return memoryview(self._spare.pop() if self._spare else bytearray(_ROOM))

    def _give_back(self, buffer: memoryview | None) -> None:
        if buffer is not None:
            whole = buffer.obj
            assert isinstance(whole, bytearray)
            self._spare.append(whole)

    def close(self) -> None:
        """Close the connection; what it lacks can be asked for over another."""
        self.connection.close()
        if self._filled == 0:
            self._give_back(self._in)
        self._in = self._out = None
        self._left = memoryview(b"")
        self._giving.clear()

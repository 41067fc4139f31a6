"""One end of a conversation in which nothing is lost, repeated or out of order, whatever the network does.

What is sent is numbered and kept until the other end says that it is safe there; after a gap it is sent again. A
conversation is with one instance of the head: with the next one, both ends begin anew. Pure: how the bytes travel, and
when, is for `peer` to see to.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from heald.core.errors import UsageError

VERSION: Final = 1  # of this protocol; both ends must speak the same

# What a message is for. HELLO, WELCOME and REFUSED begin and end a conversation, WHO asks a stranger to say HELLO.
HELLO, WELCOME, REFUSED, WHO, DATA, BEAT, AGAIN, BYE = range(8)

Frames = Sequence["bytes | bytearray | memoryview"]


class Head(msgspec.Struct, frozen=True, gc=False):
    """How every message begins.

    `instance` of the head is meant, of all those that the run has had; 0: none yet. `number`: in DATA its own, in BEAT
    that of the last DATA sent, in AGAIN that of the last one heard. All up to `safe` of the other end's have been dealt
    with. `size`: bytes of the first frame behind this; what is left is the second.
    """

    version: int  # in every version of the protocol this is the first byte, so that ends of two can tell each other
    kind: int = 0
    instance: int = 0
    number: int = 0
    safe: int = 0
    size: int = 0


_LAYOUT = struct.Struct("!BBIQQQ")


def pack(head: Head, frames: Frames = ()) -> bytes:
    """A message, with two frames at most. In one piece: ZeroMQ aborts the process when a connection is cut between the
    pieces of one (https://github.com/zeromq/libzmq/issues/3485).

    >>> head, frames = unpack(pack(Head(VERSION, DATA, number=7), [b"warp", b"weft"]))
    >>> head.number, [bytes(frame) for frame in frames]
    (7, [b'warp', b'weft'])
    """
    size = len(frames[0]) if frames else 0
    front = _LAYOUT.pack(head.version, head.kind, head.instance, head.number, head.safe, size)
    return b"".join((front, *frames))


def unpack(message: bytes) -> tuple[Head, list[memoryview]]:
    """What `pack` packed; of another version only which it is. Raises UsageError for what is no message."""
    if message and message[0] != VERSION:
        return Head(message[0]), []
    if len(message) < _LAYOUT.size:
        raise UsageError(f"{len(message)} bytes are no message")
    head = Head(*_LAYOUT.unpack_from(message))
    body = memoryview(message)[_LAYOUT.size :]
    return head, [body[: head.size], body[head.size :]] if len(body) > head.size else [body]


class Channel:
    """The state of one end.

    >>> here, there = Channel(), Channel()
    >>> number = here.keep([b"one"])
    >>> there.take(number), there.take(number)
    (True, False)
    >>> there.commit()
    >>> here.acknowledged(there.safe), here.kept
    (None, 0)
    """

    def __init__(self, instance: int = 0) -> None:
        self._kept: deque[tuple[int, Frames]] = deque()
        self.renew(instance)

    def renew(self, instance: int) -> None:
        """The head is another instance than before: both ends begin to count anew."""
        self.instance = instance
        self.sent = 0  # number of the last message given out here
        self.heard = 0  # number of the last message taken in here
        self.safe = 0  # all up to this have been dealt with here: the other end need not keep them
        self._kept.clear()

    def message(self, kind: int, number: int = 0, frames: Frames = ()) -> bytes:
        """A message, as it travels."""
        return pack(Head(VERSION, kind, self.instance, number, self.safe), frames)

    def keep(self, frames: Frames) -> int:
        """The number of a new message."""
        self.sent += 1
        self._kept.append((self.sent, frames))
        return self.sent

    def take(self, number: int) -> bool:
        """Whether the message is the next one; if not it is to be dropped, and after a gap asked for again."""
        if number != self.heard + 1:
            return False
        self.heard = number
        return True

    def commit(self) -> None:
        """What was taken in has been dealt with."""
        self.safe = self.heard

    def acknowledged(self, number: int) -> None:
        """Messages up to `number` are safe at the other end."""
        kept = self._kept
        while kept and kept[0][0] <= number:
            kept.popleft()

    def after(self, number: int) -> list[tuple[int, Frames]]:
        """The messages after that of this number that are kept, in order."""
        return [one for one in self._kept if one[0] > number]

    @property
    def kept(self) -> int:
        """How many messages are not known to be safe at the other end."""
        return len(self._kept)

    @property
    def first(self) -> int:
        """The number before the first message that is kept here."""
        return self._kept[0][0] - 1 if self._kept else self.sent

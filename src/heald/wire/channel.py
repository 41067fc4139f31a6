"""One end of a conversation in which nothing is lost, repeated or out of order, whatever the network does.

What is sent is numbered and kept until the other end says that it is safe there; after a gap it is sent again. A
conversation is with one instance of the head: with the next one, both ends begin anew. Pure: how the bytes travel, and
when, is for `peer` to see to.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from heald.core.errors import UsageError

VERSION: Final = 1  # of this protocol; both ends must speak the same

# What a message is for. HELLO, WELCOME and REFUSED begin and end a conversation, WHO asks a stranger to say HELLO.
HELLO, WELCOME, REFUSED, WHO, DATA, BEAT, AGAIN, BYE = range(8)

Body = bytes | memoryview


class Head(msgspec.Struct, frozen=True, gc=False):
    """How every message begins.

    `instance` of the head is meant, of all those that the run has had; 0: none yet. `number`: in DATA its own, in BEAT
    that of the last DATA sent, in AGAIN that of the last one heard. All up to `safe` of the other end's have been dealt
    with.
    """

    version: int  # in every version of the protocol this is the first byte, so that ends of two can tell each other
    kind: int = 0
    instance: int = 0
    number: int = 0
    safe: int = 0


_LAYOUT = struct.Struct("!BBIQQ")
_WRAPPED = b"\0"
_ENTRY = struct.Struct("!BI")  # lengths of a name and of a message


def pack(head: Head, body: Body = b"") -> bytes:
    """A message. In one piece: ZeroMQ aborts the process when a connection is cut between the pieces of one
    (https://github.com/zeromq/libzmq/issues/3485).

    >>> head, body = unpack(pack(Head(VERSION, DATA, number=7), b"weft"))
    >>> head.number, bytes(body)
    (7, b'weft')
    """
    return b"".join((_LAYOUT.pack(head.version, head.kind, head.instance, head.number, head.safe), body))


def unpack(message: bytes) -> tuple[Head, memoryview]:
    """What `pack` packed; of another version only which it is. Raises UsageError for what is no message."""
    if message and message[0] != VERSION:
        return Head(message[0]), memoryview(b"")
    if len(message) < _LAYOUT.size:
        raise UsageError(f"{len(message)} bytes are no message")
    return Head(*_LAYOUT.unpack_from(message)), memoryview(message)[_LAYOUT.size :]


def says(message: bytes, kind: int) -> bool:
    """Whether a message, of whatever a stranger may send, is of this kind.

    >>> says(pack(Head(VERSION, BYE)), BYE), says(b"", BYE)
    (True, False)
    """
    return message[:2] == bytes((VERSION, kind))


def wrap(messages: Iterable[tuple[bytes, Body]]) -> bytes:
    """Messages of several agents, each with the agent's name, in one piece, as they pass a switch.

    >>> [(name, bytes(message)) for name, message in unwrap(wrap([(b"n1", b"warp"), (b"n2", b"weft")]))]
    [(b'n1', b'warp'), (b'n2', b'weft')]
    """
    pieces: list[Body] = [_WRAPPED]
    for name, message in messages:
        pieces += (_ENTRY.pack(len(name), len(message)), name, message)
    return b"".join(pieces)


def is_wrapped(message: bytes) -> bool:
    """Whether it is one that `wrap` made. No version of the protocol has this number."""
    return message[:1] == _WRAPPED


def unwrap(message: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The names and messages that were wrapped. Raises UsageError for what is none."""
    if not is_wrapped(message):
        raise UsageError(f"{len(message)} bytes are not of a switch")
    start = 1
    while start < len(message):
        if start + _ENTRY.size > len(message):
            raise UsageError("what came of a switch ends too soon")
        name, body = _ENTRY.unpack_from(message, start)
        begin = start + _ENTRY.size
        start = begin + name + body
        if start > len(message):
            raise UsageError("what came of a switch ends too soon")
        yield message[begin : begin + name], message[begin + name : start]


class Channel:
    """The state of one end.

    >>> here, there = Channel(), Channel()
    >>> number = here.keep(b"one")
    >>> there.take(number), there.take(number)
    (True, False)
    >>> there.commit()
    >>> here.acknowledged(there.safe), here.kept
    (None, 0)
    """

    __slots__ = ("_kept", "heard", "instance", "safe", "sent")

    def __init__(self, instance: int = 0) -> None:
        self._kept: list[tuple[int, Body]] = []  # hardly ever more than a few; a deque would take ten times the memory
        self.renew(instance)

    def renew(self, instance: int) -> None:
        """The head is another instance than before: both ends begin to count anew."""
        self.instance = instance
        self.sent = 0  # number of the last message given out here
        self.heard = 0  # number of the last message taken in here
        self.safe = 0  # all up to this have been dealt with here: the other end need not keep them
        self._kept.clear()

    def message(self, kind: int, number: int = 0, body: Body = b"") -> bytes:
        """A message, as it travels."""
        return pack(Head(VERSION, kind, self.instance, number, self.safe), body)

    def keep(self, body: Body) -> int:
        """The number of a new message."""
        self.sent += 1
        self._kept.append((self.sent, body))
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
        kept, over = self._kept, 0
        while over < len(kept) and kept[over][0] <= number:
            over += 1
        del kept[:over]

    def after(self, number: int) -> list[tuple[int, Body]]:
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

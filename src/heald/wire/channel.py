"""One end of a conversation in which nothing is lost, repeated or out of order, whatever the network does.

What is sent is numbered and kept until the other end says that it is safe there; after a gap it is sent again. A
conversation is with one instance of the head: with the next one, both ends begin anew. Pure: how the bytes travel, and
when, is for `peer` to see to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

VERSION: Final = 1  # of this protocol; both ends must speak the same

# What a message is for. HELLO, WELCOME and REFUSED begin and end a conversation, WHO asks a stranger to say HELLO.
HELLO, WELCOME, REFUSED, WHO, DATA, BEAT, AGAIN, BYE = range(8)

Frames = Sequence["bytes | bytearray | memoryview"]


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first frame of every message.

    `instance` of the head is meant, of all those that the run has had; 0: none yet. `number`: in DATA its own, in BEAT
    that of the last DATA sent, in WELCOME and AGAIN that of the last one heard. All up to `safe` of the other end's
    have been dealt with. In every version of the protocol these are whole numbers and the version is the first, so that
    ends of two versions can tell each other.
    """

    version: int
    kind: int = 0
    instance: int = 0
    number: int = 0
    safe: int = 0


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Head).decode


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

    def head(self, kind: int, number: int = 0) -> bytes:
        """The first frame of a message."""
        return encode(Head(VERSION, kind, self.instance, number, self.safe))

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

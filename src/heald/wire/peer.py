"""One end of a conversation at work: a channel, and the means to send.

Both ends are alike once the conversation has begun: data goes either way, a beat says "I am here, and have sent so
much", and who notices a gap asks for what is missing. How it begins is told in `hub` and `link`.
"""

from __future__ import annotations

from collections.abc import Callable

from heald.wire.channel import AGAIN, BEAT, DATA, Body, Channel, Head

Transmit = Callable[[bytes, bytes], None]
Deliver = Callable[[bytes, memoryview], None]


class Peer:
    """The other end, as one end sees it. `transmit` sends a message or drops it; `deliver` takes each one in once. Both
    are told the `name` of the other end.

    >>> from heald.wire.channel import unpack
    >>> sent, got = [], []
    >>> def transmit(name, message):
    ...     sent.append(message)
    >>> def deliver(name, body):
    ...     got.append(bytes(body))
    >>> here, there = Peer(b"there", transmit, deliver), Peer(b"here", transmit, deliver)
    >>> here.send(b"weft")
    >>> there.take(*unpack(sent.pop()))
    >>> got
    [b'weft']
    """

    __slots__ = ("_asked", "_before", "_deliver", "_spoke", "_transmit", "channel", "name", "time")

    def __init__(self, name: bytes, transmit: Transmit, deliver: Deliver, instance: int = 0) -> None:
        self.name = name
        self.channel = Channel(instance)
        self.time = 0.0  # when something was heard last, on the caller's clock
        self._transmit = transmit
        self._deliver = deliver
        self._asked = -1  # what had been heard when a gap was asked for
        self._spoke = False  # something was sent since the last beat
        self._before = 0  # what had been sent at the last beat

    def send(self, body: Body) -> None:
        """Send a message; it is kept until it is safe there."""
        self._spoke = True
        number = self.channel.keep(body)
        self._transmit(self.name, self.channel.message(DATA, number, body))

    def beat(self) -> None:
        """Say that this end is here, and how much it has sent: if the last of it was lost, nothing else would tell.

        Where something was sent since the last time, and all before that is known to be safe, it need not be said.
        """
        if not self._spoke or self.channel.first < self._before:
            self.say(BEAT, self.channel.sent)
        self._spoke, self._before = False, self.channel.sent

    def say(self, kind: int, number: int = 0, text: bytes = b"") -> None:
        """Send something that is not kept."""
        self._transmit(self.name, self.channel.message(kind, number, text))

    def repeat(self, heard: int) -> None:
        """Send again what came after the last that was heard."""
        for number, body in self.channel.after(heard):
            self._transmit(self.name, self.channel.message(DATA, number, body))

    def take(self, head: Head, body: memoryview) -> None:
        """Deal with a message of the other end."""
        channel = self.channel
        channel.acknowledged(head.safe)
        if head.kind == DATA:
            if channel.take(head.number):
                self._deliver(self.name, body)
            elif head.number > channel.heard:
                self._ask()
        elif head.kind == BEAT:
            if head.number > channel.heard:
                self._asked = -1
                self._ask()
        elif head.kind == AGAIN:
            self.repeat(head.number)

    def _ask(self) -> None:
        if self._asked != self.channel.heard:  # each message after a gap finds it: asking once is enough
            self._asked = self.channel.heard
            self.say(AGAIN, self._asked)

"""The head's end: one place that all agents of a run connect to.

How a conversation begins: an agent says HELLO with what it is; the head answers WELCOME, which names this instance of
itself, or REFUSED with the reason. An agent that was given up and comes back is REFUSED: its work is somebody else's by
then. A head that was started again meets agents that it does not know: it asks WHO, and they say HELLO.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import zmq

from heald.core.errors import ConfigurationError, UsageError
from heald.wire import address
from heald.wire.channel import (
    BEAT,
    BYE,
    HELLO,
    REFUSED,
    VERSION,
    WELCOME,
    WHO,
    Body,
    Head,
    is_wrapped,
    pack,
    says,
    unpack,
    unwrap,
    wrap,
)
from heald.wire.gate import Gate
from heald.wire.key import Keys
from heald.wire.peer import Peer

_AT_ONCE = 256  # agents that get a beat one after another: a few milliseconds
_REPEAT, _PATIENCE = 0.2, 2.0  # seconds after which agents that have not gone are told again, and no more
_PORTS = 10  # ports to try: one that is free at one address may be taken at another
FENCED = "this agent was given up, and its work is done elsewhere"


class Listener(Protocol):
    """Whoever the hub works for."""

    def met(self, name: bytes, hello: bytes) -> str:
        """A new agent: why it is refused, or nothing."""

    def heard(self, name: bytes, body: memoryview) -> None:
        """A message of an agent. Raises UsageError or msgspec.DecodeError for one that cannot be."""

    def lost(self, name: bytes, reason: str) -> None:
        """An agent has gone, or was given up."""


class Hub:
    """Listens for agents that have the keys. Everything happens in the thread that calls.

    `silence`: seconds without a word after which an agent is given up. `interface`: where to listen, all addresses of
    this machine that others may reach when it is not given; `port`: at which port, if that is free there. `paths`: UNIX
    sockets to listen on as well. Raises ConfigurationError when that cannot be.
    """

    def __init__(
        self,
        keys: Keys,
        listener: Listener,
        *,
        silence: float = 10.0,
        interface: str = "",
        port: int = 0,
        paths: Sequence[str] = (),
    ) -> None:
        places = address.candidates(interface)
        self.silence = silence
        self.instance = int.from_bytes(os.urandom(4), "big") or 1
        self.greeting = b""  # what each agent is told when it is taken in
        self._listener = listener
        self._peers: dict[bytes, Peer] = {}
        self._ways: dict[bytes, bytes] = {}  # of agents behind a switch: its name
        self._turns: deque[bytes] = deque()  # names of the peers, and of some that are none any more
        self._fenced: set[bytes] = set()
        self._leaving: set[bytes] = set()  # those that were told to go
        self._over = ""  # why nobody is wanted any more
        self._uncommitted: set[bytes] = set()
        self._beaten = math.inf  # when the last beat was
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 65_000)
        self._gate = Gate(self._context, keys.agent.public)
        self._socket: Any = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.CURVE_SERVER, 1),
            (zmq.ROUTER_MANDATORY, 1),  # say so when an agent is not there
            (zmq.ROUTER_HANDOVER, 1),  # who comes back by another connection has the same name
            (zmq.SNDHWM, 0),  # what is under way is limited above this: nothing is dropped here
            (zmq.RCVHWM, 0),
            (zmq.LINGER, 500),
            (zmq.BACKLOG, 4096),
            (zmq.IPV6, 1),
        ):
            self._socket.setsockopt(option, value)
        self._socket.curve_secretkey = keys.head.secret.encode()
        try:
            self.endpoints = [*self._listen(places, port), *map(self._listen_at, paths)]
        except zmq.ZMQError as raised:
            self.close()
            raise ConfigurationError(f"cannot listen at {', '.join((*places, *paths))}: {raised}") from raised

    def _listen(self, places: Sequence[str], port: int, tries: int = _PORTS) -> list[str]:
        """Listen at one port of all the places: the one that is given, if it is free, or any."""
        bound: list[str] = []
        try:
            for place in places:
                self._socket.bind(address.endpoint(place, port or "*"))
                port = int(self._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").rpartition(b":")[2])
                bound.append(address.endpoint(place, port))
        except zmq.ZMQError:
            for one in bound:
                self._socket.unbind(one)
            if not tries:
                raise
            return self._listen(places, 0, tries - 1)
        return bound

    def _listen_at(self, path: str) -> str:
        self._socket.bind(f"ipc://{path}")
        os.chmod(path, 0o600)
        return f"ipc://{path}"

    def files(self) -> list[Any]:
        """What becomes readable when there may be something to `serve`."""
        return [self._socket, self._gate.socket]

    # -- out ---------------------------------------------------------------------------------------------------------

    def send(self, name: bytes, body: Body) -> None:
        """Send a message to an agent; it is kept until it is safe there."""
        peer = self._peers.get(name)
        if peer is not None:
            peer.send(body)

    def _transmit(self, name: bytes, message: bytes) -> None:
        if (way := self._ways.get(name)) is not None:
            name, message = way, wrap([(name, message)])
        try:
            self._socket.send_multipart([name, message], zmq.NOBLOCK, copy=len(message) < zmq.COPY_THRESHOLD)
        except zmq.ZMQError:
            pass  # its connection is gone for now; when it is back, what is missing is sent again

    def _say(self, name: bytes, kind: int, text: str = "") -> None:
        """Say something to an agent that may be no peer."""
        self._transmit(name, pack(Head(VERSION, kind, self.instance), text.encode()))

    def beat(self, now: float) -> float:
        """Say to agents that the head is here, and give up who is silent; of very many only some, the next ones.

        To be called so often that each has its turn a few times within `silence`; which part of all had theirs now.
        """
        if now - self._beaten > self.silence / 2:  # this process itself was stopped (Ctrl-Z), and could hear nobody
            for one in self._peers.values():
                one.time = now
        self._beaten = now
        count = len(self._turns)
        for _ in range(min(count, _AT_ONCE)):
            name = self._turns.popleft()
            peer = self._peers.get(name)
            if peer is not None and now - peer.time > self.silence:
                self.give_up(name, f"nothing was heard of it for {self.silence:g} s")
            elif peer is not None:
                peer.beat()
                self._turns.append(name)
        return min(1.0, _AT_ONCE / count) if count else 1.0

    def commit(self, ready: Callable[[bytes], bool]) -> None:
        """All that was heard so far is on record, of agents that are `ready`: they need not keep it."""
        if not self._uncommitted:
            return
        heard, self._uncommitted = self._uncommitted, set()  # a new one: a set that was large stays slow to go through
        for name in heard:
            if not ready(name):
                self._uncommitted.add(name)
            elif name in self._peers:
                self._peers[name].channel.commit()

    def give_up(self, name: bytes, reason: str) -> None:
        """From now on an agent is not listened to, and it and the listener are told so."""
        self._fenced.add(name)
        self._say(name, REFUSED, reason)
        if self._peers.pop(name, None) is not None:
            self._listener.lost(name, reason)

    def dismiss(self, reason: str) -> None:
        """Tell all agents to go, again and again until they have gone; nobody is listened to from now on, or let in.

        Those that cannot be reached for two seconds are left to find out by themselves.
        """
        self._over, self._leaving = reason, set(self._peers)
        self._fenced |= self._leaving
        self._peers.clear()
        poller = zmq.Poller()
        for channel in self.files():
            poller.register(channel, zmq.POLLIN)
        until = time.monotonic() + _PATIENCE
        while self._leaving and (now := time.monotonic()) < until:
            for name in self._leaving:
                self._say(name, REFUSED, reason)
            again = min(now + _REPEAT, until)
            while self._leaving and (left := again - time.monotonic()) > 0:
                poller.poll(math.ceil(left * 1000))
                self.serve()

    # -- in ----------------------------------------------------------------------------------------------------------

    def serve(self) -> bool:
        """Deal with all that has arrived; whether anything had.

        To be called after sending too: the descriptors tell of new things once.
        """
        heard = False
        self._gate.admit()
        while self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            heard = True
            for _ in range(256):
                try:
                    name, message, *_ = self._socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                if is_wrapped(message):
                    self._unwrap(name, message)
                else:
                    self._ways.pop(name, None)
                    self._take(name, message)
            self._gate.admit()
        return heard

    def _unwrap(self, way: bytes, message: bytes) -> None:
        try:
            for name, inner in unwrap(message):
                self._ways[name] = way
                self._take(name, inner)
        except UsageError as raised:  # its agents are asked for what is missing
            logging.getLogger("heald").error("switch %s: %s", way.decode(errors="replace"), raised)

    def _take(self, name: bytes, message: bytes) -> None:
        if name in self._fenced:
            if says(message, BYE):
                self._leaving.discard(name)
            else:
                self._say(name, REFUSED, self._over or FENCED)
            return
        try:
            self._answer(name, *unpack(message))
        except (msgspec.DecodeError, UsageError) as raised:  # a fault of one agent is not the end of the others
            logging.getLogger("heald").error("agent %s: %s", name.decode(errors="replace"), raised)
            self.give_up(name, f"it sent what cannot be: {raised}")

    def _answer(self, name: bytes, head: Head, body: memoryview) -> None:
        peer = self._peers.get(name)
        if head.version != VERSION:
            text = f"it speaks version {head.version} of the protocol and the head {VERSION}: use one heald on both"
            self._say(name, REFUSED, text)
        elif head.kind == HELLO:
            if peer is None:
                peer = self._meet(name, bytes(body))
            if peer is not None:
                peer.time = time.monotonic()
                peer.say(WELCOME, 0, self.greeting)
                peer.say(BEAT, peer.channel.sent)  # so that it asks for what it lacks
        elif peer is None or head.instance != self.instance:
            self._say(name, WHO)
        elif head.kind == BYE:
            self.give_up(name, bytes(body).decode(errors="replace"))
        else:
            peer.time = time.monotonic()
            self._uncommitted.add(name)
            peer.take(head, body)

    def _meet(self, name: bytes, hello: bytes) -> Peer | None:
        if reason := self._over or self._listener.met(name, hello):
            self.give_up(name, reason)
            return None
        peer = Peer(name, self._transmit, self._listener.heard, self.instance)
        self._peers[name] = peer
        self._turns.append(name)
        return peer

    def close(self) -> None:
        """Stop listening. What was sent last has half a second to leave."""
        self._gate.close()
        self._socket.close()
        self._context.term()

"""An agent's end: the way to the head of its run, kept up whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import zmq
from zmq.utils.monitor import recv_monitor_message

from heald.wire import address
from heald.wire.address import Unreachable
from heald.wire.channel import BEAT, BYE, HELLO, REFUSED, VERSION, WELCOME, WHO, Body, Head, unpack
from heald.wire.key import Pair
from heald.wire.peer import Peer

_AGAIN = 1.0  # seconds after which HELLO is said again
# What ZeroMQ tells of a connection that is being made, where it ends the matter.
_MADE = zmq.EVENT_HANDSHAKE_SUCCEEDED
_FAILED = {
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "it breaks the connection off: it has another key, or is something else",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "it is something else than a head",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "it is the head of another run, or does not know the key of this agent",
}


class Refused(ConnectionError):
    """The head does not want this agent, for the reason that it gives."""


class Listener(Protocol):
    """Whoever the link works for."""

    def hello(self) -> bytes:
        """What this agent is and has, for a head that does not know it."""

    def welcomed(self, greeting: bytes) -> None:
        """A head that is not the one before, the first or one that was started again, has taken this agent in."""

    def heard(self, body: memoryview) -> None:
        """A message of the head."""


class Link:
    """The connection of an agent called `name`. Everything happens in the thread that calls."""

    def __init__(self, head: str, pair: Pair, name: bytes, listener: Listener) -> None:
        self._listener = listener
        self._context = zmq.Context()
        self._socket: Any = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.SNDHWM, 0),
            (zmq.RCVHWM, 0),
            (zmq.LINGER, 500),
            (zmq.IMMEDIATE, 1),  # nothing is queued for a connection that is not there: it is sent again later
            (zmq.IPV6, 1),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 2000),
            (zmq.HANDSHAKE_IVL, 10_000),
            # Finds a dead connection, so that a new one is made. Not ZeroMQ's heartbeats: on a slow line these wait
            # behind other messages, and are missed where nothing is wrong.
            (zmq.TCP_MAXRT, 6000),
        ):
            self._socket.setsockopt(option, value)
        self._socket.setsockopt(zmq.ROUTING_ID, name)
        self._head, self._switch = head, pair.public
        self._socket.curve_publickey = pair.public.encode()
        self._socket.curve_secretkey = pair.secret.encode()
        self.endpoint = ""
        self.welcome = False  # a head has taken this agent in
        self.switched = False  # what is connected to is a switch
        self._dead: set[int] = set()  # instances of the head after which another came
        self.peer = Peer(b"head", self._transmit, self._hear)

    def connect(self, endpoints: Sequence[str], timeout: float = 30.0, *, switch: bool = False) -> None:
        """Connect to the head, at the first endpoint that answers, and wait until it has taken this agent in.

        `switch`: the endpoints are those of a switch. Raises Unreachable, which says what became of each endpoint, and
        Refused when the head says so.
        """
        deadline = time.monotonic() + timeout
        reached = address.reachable(endpoints, timeout)
        # At a new address each time: ZeroMQ takes a while to let one go.
        monitor: Any = self._socket.get_monitor_socket(_MADE | sum(_FAILED), f"inproc://{time.monotonic_ns()}")
        try:
            if self.endpoint:
                self._socket.disconnect(self.endpoint)  # a new connection: ZeroMQ may have given that one up for good
            self.endpoint, self.welcome, self.switched = reached, False, switch
            self._socket.curve_serverkey = (self._switch if switch else self._head).encode()
            self._socket.connect(reached)
            self._await_connection(monitor, deadline)
        finally:
            self._socket.disable_monitor()
            monitor.close(0)
        self._await_welcome(deadline)

    def _await_connection(self, monitor: Any, deadline: float) -> None:
        """Wait until both ends have proved their keys to each other."""
        reason = "it does not answer"
        while monitor.poll(max(0.0, deadline - time.monotonic()) * 1000):
            event = recv_monitor_message(monitor)["event"]
            if event == _MADE:
                return
            reason = _FAILED[event]
            if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:  # after that alone ZeroMQ tries again
                break
        raise Unreachable(f"{self.endpoint} takes connections, but {reason}")

    def _await_welcome(self, deadline: float) -> None:
        self._socket.poll(max(0.0, deadline - time.monotonic()) * 1000, zmq.POLLOUT)
        while not self.welcome:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unreachable(f"{self.endpoint} takes connections, but does not answer")
            self.say_hello()
            self._socket.poll(min(left, _AGAIN) * 1000)
            self.serve()

    def say_hello(self) -> None:
        """Say who this is; to be said again until there is an answer."""
        self.peer.say(HELLO, 0, self._listener.hello())

    def fileno(self) -> int:
        """A descriptor that becomes readable when there may be something to `serve`."""
        return int(self._socket.getsockopt(zmq.FD))

    def send(self, body: Body) -> None:
        """Send a message; it is kept until the head has it on record. Only once there is a `welcome`."""
        self.peer.send(body)

    def beat(self) -> None:
        """To be called a few times within the silence that the head allows."""
        if self.welcome:
            self.peer.beat()
        else:
            self.say_hello()

    def _transmit(self, _: bytes, message: bytes) -> None:
        try:
            self._socket.send(message, zmq.NOBLOCK, copy=len(message) < zmq.COPY_THRESHOLD)
        except zmq.ZMQError:
            pass  # there is no connection for now; when it is back, what is missing is sent again

    def _hear(self, _: bytes, body: memoryview) -> None:
        self._listener.heard(body)
        self.peer.channel.commit()

    def serve(self) -> bool:
        """Deal with all that has arrived; whether anything had. To be called after sending too.

        Raises Refused when the head says so.
        """
        heard = False
        while self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            try:
                message = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:  # it went with its connection
                continue
            heard = True
            self._take(*unpack(message))
        return heard

    def _take(self, head: Head, body: memoryview) -> None:
        self.peer.time = time.monotonic()
        if head.version != VERSION:
            raise Refused(f"the head speaks version {head.version} of the protocol, and this agent {VERSION}")
        if head.kind == REFUSED:
            self.leave("")  # so that the head need not say it again
            raise Refused(bytes(body).decode(errors="replace"))
        if head.instance in self._dead:
            return  # its last words, on a connection that was slower than the new one
        if head.kind == WHO:
            if self.welcome:
                self.welcome = False
                self.say_hello()
        elif head.kind == WELCOME:
            if not self.welcome:
                self._welcomed(head, bytes(body))
        elif self.welcome and head.instance == self.peer.channel.instance:
            self.peer.take(head, body)

    def _welcomed(self, head: Head, greeting: bytes) -> None:
        self.welcome = True
        if head.instance != self.peer.channel.instance:
            self._dead.add(self.peer.channel.instance)
            self.peer.channel.renew(head.instance)
            self._listener.welcomed(greeting)
        self.peer.say(BEAT, self.peer.channel.sent)  # so that the head asks for what it lacks

    def leave(self, reason: str) -> None:
        """Say goodbye: what this agent had is over, or is to be done elsewhere."""
        self.peer.say(BYE, 0, reason.encode())

    def close(self) -> None:
        """Close the connection. What was sent last has half a second to leave."""
        self._socket.close()
        self._context.term()

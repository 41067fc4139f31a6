"""Fetches and hands out large values, in a thread of its own, so that nobody waits behind them.

One end of each connection (`stream`) listens, the other dials, again when it was cut. The owner says who its peers are
and what it wants of each; what has arrived it is told of by a descriptor, in its own thread.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from heald.core.errors import ConfigurationError, HealdError, UsageError
from heald.wire import address
from heald.wire.key import Pair
from heald.wire.seal import Agreement
from heald.wire.stream import Find, Stream, Want

_GREETING = 10.0  # seconds within which a stranger has said who it is
_PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)  # seconds before it is dialled again
_DIAL = 5.0  # seconds for an address to answer
_DEAD = 20  # seconds without an answer after which a connection is given up
_SPARE = 16  # buffers that are kept


class _Peer:
    """Another end: what it may ask for, and what it is asked for."""

    def __init__(self, find: Find, endpoints: Sequence[str]) -> None:
        self.find = find
        self.endpoints = endpoints  # to dial; empty when the other end does that
        self.needed = False  # there is something to get, or to give
        self.wants: dict[int, Want] = {}
        self.stream: Stream | None = None
        self.failures = 0
        self.dial_at = 0.0  # on the clock of `time.monotonic`
        self.silent_since = time.monotonic()  # while there is no connection
        self.reason = ""  # of the last failure


class Porter:
    """The values that go to, and come from, the peers of one process.

    `own` is its key pair and `other` the public key of its peers. `name`: who it is, in what it makes. `instance`: of
    the head that it works for; only peers of the same one are heard. `places`: addresses of this machine at which to
    listen. Raises ConfigurationError when that cannot be. Only its own thread works; all methods may be called by any.
    """

    def __init__(
        self, own: Pair, other: str, *, name: bytes = b"", instance: int = 0, places: Iterable[str] = ()
    ) -> None:
        self._own, self._other = own, other
        self._name, self.instance = name, instance
        self._peers: dict[bytes, _Peer] = {}
        self._alone: set[bytes] = set()  # peers to dial
        self._served: dict[Stream, bytes] = {}  # by which connection
        self._strangers: dict[Stream, float] = {}  # until when they may say who they are
        self._acts = deque[Callable[[], None]]()
        self._arrived = deque[tuple[bytes, int, object]]()
        self._spare: list[bytearray] = []
        self._selector = selectors.DefaultSelector()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._news = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._over = False
        self._fault: BaseException | None = None
        self._doors: list[socket.socket] = []
        try:
            self.endpoints = [self._listen(place) for place in places]
        except OSError as raised:
            self._close()
            raise ConfigurationError(f"cannot listen for data: {raised}") from raised
        self._thread = threading.Thread(target=self._work, name="heald-porter", daemon=True)
        self._thread.start()

    def _listen(self, place: str) -> str:
        family = socket.AF_INET6 if ":" in place else socket.AF_INET
        door = socket.create_server((place, 0), family=family, backlog=4096)
        door.setblocking(False)
        self._doors.append(door)
        return address.endpoint(place, door.getsockname()[1])

    # -- for the owner -----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that is readable when something has `arrived`."""
        return self._news

    def arrived(self) -> list[tuple[bytes, int, object]]:
        """The values that are here since the last time, each as its peer, number and the owner of its place.

        Raises HealdError after a fault of its own.
        """
        try:
            os.eventfd_read(self._news)
        except BlockingIOError:
            pass
        if self._fault is not None:
            raise HealdError(f"large values cannot travel any more: {self._fault!r}") from self._fault
        found = []
        while self._arrived:
            found.append(self._arrived.popleft())
        return found

    def attach(self, peer: bytes, find: Find, endpoints: Sequence[str] = (), *, instance: int | None = None) -> None:
        """Begin with a peer anew: `find` gives what it asks for. `endpoints` are where it listens, the likeliest first;
        without them it is the one who dials. `instance`: work for this head from now on.
        """
        self._post(lambda: self._attach(peer, find, endpoints, instance))

    def fetch(self, peer: bytes, serial: int, window: memoryview, owner: object) -> None:
        """Get a value of a peer into the window. `owner` of that is kept for as long as somebody may write there."""
        self._post(lambda: self._fetch(peer, serial, Want(window, owner)))

    def reach(self, peer: bytes) -> None:
        """Connect to a peer: it may ask for something."""
        self._post(lambda: self._reach(peer))

    def detach(self, peer: bytes) -> None:
        """Have no more to do with a peer."""
        self._post(lambda: self._detach(peer))

    def failing(self, peer: bytes) -> tuple[float, str]:
        """For how many seconds a peer has not been reached, and why; 0 while it is, or nobody tries."""
        known = self._peers.get(peer)
        if known is None or not known.reason or (known.stream is not None and known.stream.proven):
            return 0.0, ""
        return time.monotonic() - known.silent_since, known.reason

    def close(self) -> None:
        """End all connections. Not from its own thread."""
        if self._over:
            return
        self._over = True
        os.eventfd_write(self._bell, 1)
        self._thread.join()
        self._close()

    def _post(self, act: Callable[[], None]) -> None:
        self._acts.append(act)
        if not self._over:
            os.eventfd_write(self._bell, 1)

    # -- in its thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._selector.register(self._bell, selectors.EVENT_READ)
            for door in self._doors:
                self._selector.register(door, selectors.EVENT_READ, lambda door=door: self._welcome(door))
            while not self._over:
                ready = self._selector.select(self._pause())
                if any(key.fd == self._bell for key, _ in ready):
                    os.eventfd_read(self._bell)  # and then look: what comes in between rings it again
                while self._acts:  # before what others answer to it
                    self._acts.popleft()()
                for key, mask in ready:
                    if isinstance(key.data, Stream):
                        self._serve(key.data, mask)
                    elif key.data is not None:
                        key.data()
                self._look()
        except BaseException as raised:
            logging.getLogger("heald").exception("the thread that carries large values ends")
            self._fault = raised
            os.eventfd_write(self._news, 1)

    def _pause(self) -> float | None:
        """How long nothing need be done unless something comes."""
        times = [*self._strangers.values()]
        times += [self._peers[name].dial_at for name in self._alone]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _look(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        for stream in [one for one, until in self._strangers.items() if until <= now]:
            self._drop(stream, "it does not say who it is")
        for name in [one for one in self._alone if self._peers[one].dial_at <= now]:
            self._dial(name, self._peers[name])

    def _attach(self, name: bytes, find: Find, endpoints: Sequence[str], instance: int | None) -> None:
        if instance is not None:
            self.instance = instance
        before = self._peers.get(name)
        peer = self._peers[name] = _Peer(find, endpoints)
        if before is None or before.stream is None:
            return
        if endpoints:
            self._drop(before.stream, "")
        else:
            self._take_over(name, peer, before.stream)

    def _fetch(self, name: bytes, serial: int, want: Want) -> None:
        peer = self._peers.get(name)
        if peer is None:
            return  # it was detached meanwhile
        peer.wants[serial] = want
        if peer.stream is not None:
            peer.stream.want(serial, want)
            self._listen_to(peer.stream)
        else:
            self._reach(name)

    def _reach(self, name: bytes) -> None:
        peer = self._peers.get(name)
        if peer is not None and peer.endpoints:
            peer.needed = True
            if peer.stream is None:
                self._alone.add(name)

    def _detach(self, name: bytes) -> None:
        self._alone.discard(name)
        peer = self._peers.pop(name, None)
        if peer is not None and peer.stream is not None:
            self._drop(peer.stream, "")

    # -- connections -------------------------------------------------------------------------------------------------

    def _welcome(self, door: socket.socket) -> None:
        try:
            connection, _ = door.accept()
        except OSError as raised:  # it went away again, or there are too many
            logging.getLogger("heald").warning("a data stream could not be taken: %s", raised)
            return
        stream = self._stream(connection)
        self._strangers[stream] = time.monotonic() + _GREETING

    def _dial(self, name: bytes, peer: _Peer) -> None:
        peer.dial_at = time.monotonic() + _PAUSES[min(peer.failures, len(_PAUSES) - 1)]
        peer.failures += 1
        try:
            place = address.reachable(peer.endpoints, _DIAL)
            host, _, port = place.partition("://")[2].rpartition(":")
            connection = socket.create_connection((host.strip("[]"), int(port)), timeout=_DIAL)
        except OSError as raised:
            peer.reason = str(raised)
            return
        stream = self._stream(connection, f"{self.instance} ".encode() + self._name)
        self._take_over(name, peer, stream)

    def _stream(self, connection: socket.socket, name: bytes = b"") -> Stream:
        for level, option, value in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _DEAD // 2),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _DEAD // 4),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD * 1000),
        ):
            connection.setsockopt(level, option, value)
        del self._spare[_SPARE:]
        stream = Stream(
            connection,
            Agreement(self._own, self._other, begins=bool(name)),
            find=_unknown,
            came=_ignored,
            named=_ignored if name else lambda said: self._introduced(stream, said),
            name=name,
            spare=self._spare,
        )
        self._selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, stream)
        return stream

    def _introduced(self, stream: Stream, said: bytes) -> None:
        instance, _, name = said.partition(b" ")
        if instance != str(self.instance).encode():
            raise UsageError("it belongs to another head")
        del self._strangers[stream]
        if (peer := self._peers.get(name)) is None:
            peer = self._peers[name] = _Peer(_unknown, ())  # it is attached when it has something
        if peer.stream is not None:
            self._drop(peer.stream, "")  # it has dialled again, and knows why
        self._take_over(name, peer, stream)

    def _take_over(self, name: bytes, peer: _Peer, stream: Stream) -> None:
        """From now on a connection serves a peer: ask by it for what is wanted still."""

        def came(serial: int) -> None:
            self._arrived.append((name, serial, peer.wants.pop(serial).owner))
            os.eventfd_write(self._news, 1)

        peer.stream = stream
        self._served[stream] = name
        self._alone.discard(name)
        stream.find, stream.came = peer.find, came
        stream.wants.clear()
        for serial, want in peer.wants.items():
            stream.want(serial, want)
        self._listen_to(stream)

    def _listen_to(self, stream: Stream) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if stream.waiting else 0)
        self._selector.modify(stream.connection, events, stream)

    def _serve(self, stream: Stream, mask: int) -> None:
        if stream.connection.fileno() < 0:
            return  # closed since it was found ready
        try:
            if mask & selectors.EVENT_READ:
                stream.read()
            if stream.waiting:
                stream.write()
        except OSError as raised:
            self._drop(stream, raised.strerror or str(raised))
        except UsageError as raised:
            logging.getLogger("heald").error("a data stream is closed: %s", raised)
            self._drop(stream, str(raised))
        else:
            self._listen_to(stream)

    def _drop(self, stream: Stream, reason: str) -> None:
        """Close a connection; whoever dials makes another."""
        self._selector.unregister(stream.connection)
        self._strangers.pop(stream, None)
        stream.close()
        name = self._served.pop(stream, b"")
        peer = self._peers.get(name)
        if peer is None or peer.stream is not stream:
            return
        peer.stream, peer.reason = None, reason
        if stream.proven:
            peer.silent_since, peer.failures = time.monotonic(), 0
        if peer.needed:
            self._alone.add(name)

    def _close(self) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Stream):
                key.data.close()
        for door in self._doors:
            door.close()
        self._selector.close()
        os.close(self._bell)
        os.close(self._news)


def _unknown(serial: int) -> memoryview | None:
    return None


def _ignored(what: object) -> None:
    pass

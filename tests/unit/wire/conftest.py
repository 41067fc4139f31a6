"""Both ends of a conversation over real ZeroMQ, and a line between them that fails."""

from __future__ import annotations

import os
import queue
import random
import selectors
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from select import select
from typing import Any, TypeVar

import pytest

from heald.core.errors import UsageError
from heald.wire import key
from heald.wire.hub import Hub
from heald.wire.key import Keys, Pair
from heald.wire.link import Link

T = TypeVar("T")

PATIENCE = 20.0
TURN = 0.02  # seconds between beats


class Head:
    """A hub in a thread of its own, which beats and commits all the time, and what it was told."""

    def __init__(self, keys: Keys, *, port: int = 0, silence: float = 60.0, paths: tuple[str, ...] = ()) -> None:
        self.met_agents: list[tuple[bytes, bytes]] = []
        self.unwanted: dict[bytes, str] = {}  # hello -> why
        self.said: dict[bytes, list[bytes]] = defaultdict(list)
        self.losses: list[tuple[bytes, str]] = []
        self.committing = True
        self.beating = True
        self.hub = Hub(keys, self, interface="127.0.0.1", port=port, silence=silence, paths=paths)
        self.endpoints = self.hub.endpoints
        self.port = int(self.endpoints[0].rpartition(":")[2])
        self._acts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._bell = os.eventfd(0)
        self._going = True
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def met(self, name: bytes, hello: bytes) -> str:
        self.met_agents.append((name, hello))
        return self.unwanted.get(hello, "")

    def heard(self, name: bytes, body: Any) -> None:
        if bytes(body) == b"nonsense":
            raise UsageError("nonsense")
        self.said[name].append(bytes(body))

    def lost(self, name: bytes, reason: str) -> None:
        self.losses.append((name, reason))

    def do(self, act: Callable[[Hub], T]) -> T:
        """Have something done with the hub in its thread."""
        answer: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._acts.put(lambda: answer.put(act(self.hub)))
        os.eventfd_write(self._bell, 1)
        return answer.get(timeout=PATIENCE)

    def send(self, name: bytes, text: bytes) -> None:
        self.do(lambda hub: hub.send(name, text))

    def close(self) -> None:
        """As a head that is killed: nobody is told."""
        if self._going:
            self._going = False
            os.eventfd_write(self._bell, 1)
            self._thread.join()
            self.hub.close()
            os.close(self._bell)

    def _serve(self) -> None:
        hub = self.hub
        while self._going:
            if select([*hub.files(), self._bell], [], [], TURN)[0] and not self._acts.empty():
                os.eventfd_read(self._bell)
                while not self._acts.empty():
                    self._acts.get()()
            hub.serve()
            if self.committing:
                hub.commit(lambda name: True)
            if self.beating:
                hub.beat(time.monotonic())
            hub.serve()


class Agent:
    """A link, and what it was told."""

    def __init__(self, keys: Keys, name: bytes = b"agent", *, head: str = "", pair: Pair | None = None) -> None:
        self.name = name
        self.welcomes = 0
        self.said: list[bytes] = []
        self.link = Link(head or keys.head.public, pair or keys.agent, name, self)

    def hello(self) -> bytes:
        return self.name + b" is here"

    def welcomed(self, greeting: bytes) -> None:
        self.welcomes += 1

    def heard(self, body: Any) -> None:
        self.said.append(bytes(body))

    def serve_until(self, met: Callable[[], object], *others: Agent) -> None:
        deadline = time.monotonic() + PATIENCE
        agents = (self, *others)
        while not met():
            assert time.monotonic() < deadline, "not in time"
            for agent in agents:
                agent.link.serve()
                agent.link.beat()
                agent.link.serve()
            select([agent.link for agent in agents], [], [], TURN)

    @property
    def unsafe(self) -> int:
        return self.link.peer.channel.kept


class Proxy:
    """A line to `port` that breaks: each connection after a random number of bytes, or when it is `cut`."""

    def __init__(self, port: int, *, seed: int = 0, most: int = 0) -> None:
        self.target = port
        self.connections = 0
        self._random = random.Random(seed)
        self._most = most  # bytes that one connection lives for, 0: for ever
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._left: dict[socket.socket, tuple[socket.socket, list[int]]] = {}
        self._wishes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._bell = os.eventfd(0)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def cut(self) -> None:
        """End all connections."""
        self._wish("cut")

    def close(self) -> None:
        self._wish("close")
        self._thread.join()
        for one in (self._server, self._selector):
            one.close()
        os.close(self._bell)

    def _wish(self, wish: str) -> None:
        self._wishes.put(wish)
        os.eventfd_write(self._bell, 1)

    def _serve(self) -> None:
        while True:
            for ready, _ in self._selector.select():
                if ready.fileobj is self._server:
                    self._accept()
                elif ready.fileobj == self._bell:
                    os.eventfd_read(self._bell)
                    for one in list(self._left):
                        self._end(one)
                    while not self._wishes.empty():  # one ring may be for several
                        if self._wishes.get() == "close":
                            return
                elif ready.fileobj in self._left:
                    self._pass_on(ready.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        near, _ = self._server.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self.connections += 1
        left = [self._random.randrange(1, self._most) if self._most else 1 << 60]
        for one, other in ((near, far), (far, near)):
            self._left[one] = other, left
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, one: socket.socket) -> None:
        other, left = self._left[one]
        try:
            data = one.recv(self._random.randrange(1, 1 << 16))
            other.sendall(data[: left[0]])
        except OSError:
            data = b""
        left[0] -= len(data)
        if not data or left[0] <= 0:
            self._end(one)

    def _end(self, one: socket.socket) -> None:
        if one in self._left:
            other, _ = self._left.pop(one)
            self._left.pop(other, None)
            for end in (one, other):
                self._selector.unregister(end)
                end.close()


@pytest.fixture(scope="session")
def keys() -> Keys:
    return key.new()


@pytest.fixture
def open_head(keys: Keys) -> Iterator[Callable[..., Head]]:
    """Starts a head, with the keys of the run unless told otherwise."""
    heads: list[Head] = []

    def start(**options: Any) -> Head:
        heads.append(Head(options.pop("keys", keys), **options))
        return heads[-1]

    yield start
    for one in heads:
        one.close()


@pytest.fixture
def head(open_head: Callable[..., Head]) -> Head:
    return open_head()


@pytest.fixture
def open_agent(keys: Keys) -> Iterator[Callable[..., Agent]]:
    """Makes an agent, not connected yet."""
    agents: list[Agent] = []

    def make(name: bytes = b"agent", **options: Any) -> Agent:
        agents.append(Agent(keys, name, **options))
        return agents[-1]

    yield make
    for one in agents:
        one.link.close()


@pytest.fixture
def agent(head: Head, open_agent: Callable[..., Agent]) -> Agent:
    """One that is connected to the head."""
    agent = open_agent()
    agent.link.connect(head.endpoints)
    return agent


@pytest.fixture
def open_proxy() -> Iterator[Callable[..., Proxy]]:
    proxies: list[Proxy] = []

    def start(port: int, **options: Any) -> Proxy:
        proxies.append(Proxy(port, **options))
        return proxies[-1]

    yield start
    for one in proxies:
        one.close()

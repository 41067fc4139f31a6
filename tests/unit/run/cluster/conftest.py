"""A head played by the test: a real hub on loopback, to which real agents come."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from select import select
from typing import Any, TypeVar

import cloudpickle
import pytest

from heald.core.placement import Lease, Share
from heald.core.resources import SINGLE, Resources
from heald.core.task import Payload, Work
from heald.data.arena import Arena
from heald.data.payload import pack_call, unpack
from heald.run.cluster import dialogue, settings
from heald.run.cluster.bulk import Inlet, Outlet, closed
from heald.run.cluster.dialogue import Held, Hello, Open, Orders, ToAgent, ToHead
from heald.run.cluster.settings import AgentSettings
from heald.run.protocol import Define, Order
from heald.site.profile import Site
from heald.wire import key
from heald.wire.hub import Hub
from heald.wire.key import Keys
from heald.wire.porter import Porter

T = TypeVar("T")

_PATIENCE = 20.0
_TURN = 0.02  # seconds between beats


class Head:
    """What agents told it, in order; `name` is the one that came last."""

    def __init__(self, folder: Path, keys: Keys, port: int = 0, **given: Any) -> None:
        self.folder = folder
        self.arena = Arena(capacity=1 << 26)
        self.outlet = Outlet(self.arena, lambda: None)
        self.inlet = Inlet(self.arena, lambda *asked: self._porter.fetch(self.name, *asked), self._none)
        self.hellos: list[Hello] = []
        self.told: list[ToHead] = []
        self.losses: list[str] = []
        self.refusal = ""
        self.name = b""
        self._works: dict[str, bytes] = {}
        self._tasks = iter(range(1, 1000))
        self._hub = Hub(keys, self, interface="127.0.0.1", port=port, silence=60.0)
        self._porter = Porter(keys.head, keys.agent.public, instance=self._hub.instance, places=["127.0.0.1"])
        self._hub.greeting = dialogue.encode(self._porter.endpoints)
        self.port = int(self._hub.endpoints[0].rpartition(":")[2])
        common: dict[str, Any] = {"site": Site("mine"), "silence": 1.0, "directory": str(folder), "folder": str(folder)}
        self.given = AgentSettings(
            "a1",
            tuple(self._hub.endpoints),
            keys.head.public,
            keys.agent,
            str(folder),
            path=tuple(sys.path),
            **{**common, **given},
        )
        self.file = folder / "a1.json"
        settings.write(self.file, self.given)

    # -- what the hub tells ------------------------------------------------------------------------------------------

    def met(self, name: bytes, hello: bytes) -> str:
        self.name = name
        self._porter.attach(name, self.outlet.find)
        self.hellos.append(dialogue.hello(hello))
        return self.refusal

    def heard(self, name: bytes, body: Any) -> None:
        self.told += dialogue.to_head(body)

    def lost(self, name: bytes, reason: str) -> None:
        self.losses.append(reason)

    def _none(self, serial: int) -> Any:
        raise KeyError(serial)

    # -- what tests do -----------------------------------------------------------------------------------------------

    def until(self, met: Callable[[], T]) -> T:
        """Serve until it is so."""
        deadline = time.monotonic() + _PATIENCE
        while not (found := met()):
            assert time.monotonic() < deadline, (self.hellos, self.told, self.losses)
            select(self._hub.files(), [], [], _TURN)
            self._hub.serve()
            self._hub.commit(lambda name: True)
            for _, serial, ref in self._porter.arrived():
                self.inlet.came(serial, ref)
            self._hub.beat(time.monotonic())
            self._hub.serve()
        return found

    def next(self, kind: type[T]) -> T:
        """The next of that kind, which is taken out."""
        found = self.until(lambda: [one for one in self.told if isinstance(one, kind)])[0]
        self.told.remove(found)  # type: ignore[arg-type]
        return found

    def tell(self, *messages: ToAgent) -> None:
        self._hub.send(self.name, dialogue.encode(list(messages)))

    def open(self, lane: int, needs: Resources = SINGLE) -> None:
        """Have a worker started, with a lease of these needs."""
        lease = Lease(lane, (Share(f"a1.{self.hellos[-1].host}", (0,), ranks=needs.ranks),), needs)
        self.tell(Open(lane, f"a1.n-{lane}"), Held(lane, lease, (self.hellos[-1].host,)))

    def run(self, lane: int, function: Callable[..., Any], *args: Any, kind: str = "function") -> Order:
        """Order a call from a lane."""
        pickled = cloudpickle.dumps(function)
        work = Work(function.__name__, kind, pickled[-16:])
        payload, _ = pack_call(args, {}, self.arena, name=work.name)
        order = Order(next(self._tasks), 1, work.digest(), closed(payload, self.outlet))
        self.tell(Define(work.digest(), work, pickled), Orders(lane, [order]))
        return order

    def value(self, outcome: object) -> Any:
        assert isinstance(outcome, Payload), outcome
        self.inlet.want(outcome)
        self.until(lambda: self.inlet.complete(outcome))
        return unpack(self.inlet.opened(outcome), self.arena)

    def settle(self) -> None:
        """Wait until the agent has all that it was told."""
        self.until(lambda: not self._hub._peers[self.name].channel.kept)

    def close(self) -> None:
        """As a head that is killed: nobody is told."""
        self._porter.close()
        self._hub.close()


@pytest.fixture(scope="session")
def keys() -> Keys:
    return key.new()


@pytest.fixture
def porter(keys: Keys) -> Iterator[Porter]:
    """One without peers."""
    porter = Porter(keys.head, keys.agent.public)
    yield porter
    porter.close()


@pytest.fixture
def open_head(tmp_path: Path, keys: Keys) -> Iterator[Callable[..., Head]]:
    """Makes a head; the fields of AgentSettings may be given."""
    made: list[Head] = []

    def make(**given: Any) -> Head:
        made.append(Head(tmp_path, keys, **given))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def start() -> Iterator[Callable[[Sequence[str]], subprocess.Popen[str]]]:
    """Starts a program, which is killed at the end of the test if it has not ended."""
    started: list[subprocess.Popen[str]] = []

    def begin(argv: Sequence[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()

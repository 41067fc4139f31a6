from __future__ import annotations

import logging
import os
import random
import socket
import time
from select import select

import pytest

from heald.core.errors import ConfigurationError, HealdError
from heald.wire import key
from heald.wire.porter import Porter

SIZE = 3_000_000
_PATIENCE = 20.0


class End:
    """A porter, what it may give, and what came."""

    def __init__(self, *keys, **options):
        self.values = {}
        self.came = []
        self.porter = Porter(*keys, **options)

    def find(self, serial):
        content = self.values.get(serial)
        return None if content is None else memoryview(content)

    def fetch(self, peer, serial, size=SIZE):
        window = bytearray(size)
        self.porter.fetch(peer, serial, memoryview(window), window)
        return window

    def until(self, met):
        deadline = time.monotonic() + _PATIENCE
        while not met():
            assert time.monotonic() < deadline, (self.came, self.porter.failing(b"head"))
            select([self.porter], [], [], 0.05)
            self.came += self.porter.arrived()


@pytest.fixture
def head(keys):
    end = End(keys.head, keys.agent.public, instance=7, places=["127.0.0.1"])
    yield end
    end.porter.close()


@pytest.fixture
def open_agent(keys, head):
    ends = []

    def make(name=b"agent", endpoints=None, instance=7, keys=keys):
        end = End(keys.agent, keys.head.public, name=name)
        end.porter.attach(b"head", end.find, endpoints or head.porter.endpoints, instance=instance)
        ends.append(end)
        return end

    yield make
    for end in ends:
        end.porter.close()


@pytest.fixture
def agent(head, open_agent):
    agent = open_agent()
    head.porter.attach(b"agent", head.find)
    return agent


def test_an_agent_gets_a_value_of_the_head(head, agent):
    head.values[1] = os.urandom(SIZE)
    window = agent.fetch(b"head", 1)
    agent.until(lambda: agent.came)
    assert agent.came == [(b"head", 1, window)]
    assert agent.came[0][2] is window
    assert window == head.values[1]


def test_the_head_gets_a_value_of_an_agent_that_dials_when_it_has_one(head, agent):
    agent.values[1] = os.urandom(SIZE)
    window = head.fetch(b"agent", 1)
    time.sleep(0.05)
    assert not head.porter.arrived(), "nobody has dialled: there is no need yet"
    agent.porter.reach(b"head")
    head.until(lambda: head.came)
    assert window == agent.values[1]


def test_an_agent_may_dial_before_the_head_knows_it(head, open_agent):
    agent = open_agent()
    agent.values[1] = os.urandom(SIZE)
    agent.porter.reach(b"head")
    agent.until(lambda: (peer := agent.porter._peers.get(b"head")) and peer.stream and peer.stream.proven)
    head.porter.attach(b"agent", head.find)
    window = head.fetch(b"agent", 1)
    head.until(lambda: head.came)
    assert window == agent.values[1]


def test_many_agents_at_once(head, open_agent):
    agents = [open_agent(b"agent %d" % number) for number in range(5)]
    head.values = {serial: os.urandom(SIZE) for serial in range(4)}
    for one in agents:
        head.porter.attach(one.porter._name, head.find)
    windows = [[one.fetch(b"head", serial) for serial in head.values] for one in agents]
    for one in agents:
        one.until(lambda one=one: len(one.came) == 4)
    assert all(found == list(head.values.values()) for found in windows)


@pytest.mark.parametrize("seed", range(4))
def test_on_a_line_that_breaks(head, open_agent, open_proxy, seed):
    chance = random.Random(seed)
    proxy = open_proxy(int(head.porter.endpoints[0].rpartition(":")[2]), seed=seed, most=2_000_000)
    agent = open_agent(endpoints=[proxy.endpoint])
    head.porter.attach(b"agent", head.find)
    down = {serial: os.urandom(chance.randrange(1, SIZE)) for serial in range(6)}
    up = {serial: os.urandom(chance.randrange(1, SIZE)) for serial in range(6)}
    head.values, agent.values = down, up
    there = {serial: agent.fetch(b"head", serial, len(value)) for serial, value in down.items()}
    here = {serial: head.fetch(b"agent", serial, len(value)) for serial, value in up.items()}
    agent.until(lambda: len(agent.came) == len(down))
    head.until(lambda: len(head.came) == len(up))
    assert (there, here) == (down, up)
    assert proxy.connections > 1


def test_a_new_head_is_dialled_and_the_old_one_left(keys, head, agent):
    head.values[1] = b"old" * 1000
    window = agent.fetch(b"head", 1, 3000)
    agent.until(lambda: agent.came)
    other = End(keys.head, keys.agent.public, instance=8, places=["127.0.0.1"])
    other.porter.attach(b"agent", other.find)
    other.values[1] = b"new" * 1000
    agent.porter.attach(b"head", agent.find, other.porter.endpoints, instance=8)
    again = agent.fetch(b"head", 1, 3000)
    agent.until(lambda: len(agent.came) == 2)
    assert (window, again) == (head.values[1], other.values[1])
    other.porter.close()


def test_nothing_comes_of_a_peer_that_was_detached(head, agent):
    head.values[1] = bytes(SIZE)
    agent.fetch(b"head", 1)
    agent.until(lambda: agent.came)
    agent.porter.detach(b"head")
    agent.fetch(b"head", 2)
    head.porter.detach(b"agent")
    head.porter.detach(b"nobody")
    time.sleep(0.05)
    assert not agent.porter.arrived()


# -- who may not -------------------------------------------------------------------------------------------------------


def rejected(agent):
    """Why an agent is not let in."""
    agent.fetch(b"head", 1)
    agent.until(lambda: agent.porter.failing(b"head")[1])
    return agent.porter.failing(b"head")[1]


def test_an_agent_of_another_run(head, open_agent, caplog):
    assert rejected(open_agent(keys=key.new()))
    assert "changed on its way, or is of another run" in caplog.text


def test_an_agent_of_another_head(head, open_agent, caplog):
    assert rejected(open_agent(instance=8))
    assert "belongs to another head" in caplog.text


def test_nobody_there(head, open_agent):
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    agent = open_agent(endpoints=[f"tcp://127.0.0.1:{port}"])
    assert "Connection refused" in rejected(agent)
    agent.until(lambda: agent.porter.failing(b"head")[0] > 0.1)
    assert agent.porter.failing(b"somebody") == (0.0, "")


def test_strangers_do_not_disturb(head, agent, monkeypatch):
    monkeypatch.setattr("heald.wire.porter._GREETING", 0.1)
    place = head.porter.endpoints[0].partition("://")[2].rpartition(":")
    strangers = [socket.create_connection((place[0], int(place[2]))) for _ in range(3)]
    strangers[1].sendall(b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n")
    strangers[2].close()
    head.values[1] = os.urandom(SIZE)
    window = agent.fetch(b"head", 1)
    agent.until(lambda: agent.came)
    assert window == head.values[1]
    for one in strangers[:2]:
        one.settimeout(5)
        try:
            while one.recv(100):
                pass
        except ConnectionResetError:
            pass
        one.close()


def test_it_cannot_listen_where_this_machine_is_not(keys):
    with pytest.raises(ConfigurationError, match="cannot listen for data"):
        Porter(keys.head, keys.agent.public, places=["127.0.0.1", "192.0.2.1"])


# -- its own end -------------------------------------------------------------------------------------------------------


def test_a_fault_of_its_own_is_loud(head, caplog):
    caplog.set_level(logging.CRITICAL)
    head.porter._post(lambda: 1 // 0)
    select([head.porter], [], [], _PATIENCE)
    with pytest.raises(HealdError, match="large values cannot travel any more: ZeroDivisionError"):
        head.porter.arrived()


def test_after_its_end_nothing_is_done(head):
    head.porter.close()
    head.porter.attach(b"agent", head.find)
    head.porter.fetch(b"agent", 1, memoryview(bytearray(1)), None)
    head.porter.close()

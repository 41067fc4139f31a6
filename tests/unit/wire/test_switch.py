from __future__ import annotations

import socket
import time

import pytest

from heald.core.errors import ConfigurationError
from heald.wire import key
from heald.wire.address import Unreachable
from heald.wire.switch import Switch


@pytest.fixture
def open_switch(keys, head):
    switches = []

    def make(endpoints=None, name=b"switch", **options):
        switches.append(Switch(endpoints or head.endpoints, keys.head.public, keys.agent, name, **options))
        return switches[-1]

    yield make
    for one in switches:
        one.close()


@pytest.fixture
def switch(open_switch):
    return open_switch(interface="127.0.0.1")


def connected(agent, switch):
    agent.link.connect(switch.endpoints, switch=True)
    return agent


def test_many_agents_and_the_head_speak_through_it(head, switch, open_agent):
    agents = [connected(open_agent(b"agent %d" % number), switch) for number in range(5)]
    for one in agents:
        for number in range(50):
            one.link.send(one.name + b" says %d" % number)
        head.send(one.name, b"for " + one.name)
    first, *others = agents
    first.serve_until(lambda: all(len(head.said[one.name]) == 50 and len(one.said) == 1 for one in agents), *others)
    assert all(head.said[one.name] == [one.name + b" says %d" % number for number in range(50)] for one in agents)
    assert [one.said for one in agents] == [[b"for " + one.name] for one in agents]
    assert first.link.switched
    first.serve_until(lambda: not any(one.unsafe for one in agents), *others)


def test_an_agent_goes_past_it_and_back(head, switch, open_agent):
    agent = connected(open_agent(), switch)
    for number in range(6):
        agent.link.send(b"%d" % number)
        head.send(b"agent", b"%d" % number)
        if number % 2:
            connected(agent, switch)
        else:
            agent.link.connect(head.endpoints)
    agent.serve_until(lambda: len(agent.said) == len(head.said[b"agent"]) == 6)
    assert agent.said == head.said[b"agent"] == [b"%d" % number for number in range(6)]
    assert agent.welcomes == 1
    assert not head.losses


def test_what_was_under_way_when_it_ended_arrives_past_it(head, open_switch, open_agent):
    switch = open_switch(interface="127.0.0.1")
    agent = connected(open_agent(), switch)
    switch.close()
    agent.link.send(b"one")
    head.send(b"agent", b"two")
    agent.link.connect(head.endpoints)
    agent.serve_until(lambda: agent.said and head.said[b"agent"])
    assert (agent.said, head.said[b"agent"]) == ([b"two"], [b"one"])


def test_the_line_to_the_head_breaks(head, open_switch, open_agent, open_proxy):
    proxy = open_proxy(head.port, seed=3, most=30_000)
    switch = open_switch([proxy.endpoint], interface="127.0.0.1")
    agents = [connected(open_agent(b"agent %d" % number), switch) for number in range(3)]
    for number in range(40):
        for one in agents:
            one.link.send(b"%d" % number + bytes(1000))
            one.link.serve()
    first, *others = agents
    first.serve_until(lambda: all(len(head.said[one.name]) == 40 for one in agents), *others)
    assert all([int(said.rstrip(b"\0")) for said in head.said[one.name]] == list(range(40)) for one in agents)
    assert proxy.connections > 1


def test_who_has_another_key_does_not_get_through(head, switch, open_agent):
    with pytest.raises(Unreachable, match=r"it has another key|does not answer"):
        open_agent(pair=key.new().agent).link.connect(switch.endpoints, timeout=1.0, switch=True)
    assert not head.met_agents


def test_one_that_was_given_up_is_refused_through_it(head, switch, open_agent):
    agent = connected(open_agent(), switch)
    head.do(lambda hub: hub.give_up(b"agent", "it is too slow"))
    with pytest.raises(ConnectionError, match=r"too slow|was given up"):
        agent.serve_until(lambda: False)


def test_garbage_of_a_switch_hurts_nobody(head, switch, open_agent, caplog):
    agent = connected(open_agent(), switch)
    for garbage in (b"\0\5", b"\0\1\0\0\0\7ab", b"\0" + b"\xff" * 40):
        switch._up.send(garbage)
    deadline = time.monotonic() + 10
    while caplog.text.count("ends too soon") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    agent.link.send(b"still here")
    agent.serve_until(lambda: head.said[b"agent"])
    assert head.said == {b"agent": [b"still here"]}


def test_there_is_no_head(keys):
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    with pytest.raises(Unreachable, match="Connection refused"):
        Switch([f"tcp://127.0.0.1:{port}"], keys.head.public, keys.agent, b"switch")


def test_it_cannot_listen_where_this_machine_is_not(open_switch):
    with pytest.raises(ConfigurationError, match="no network interface"):
        open_switch(interface="192.0.2.1")

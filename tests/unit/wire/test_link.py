from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress

import pytest
import zmq

from heald.wire import key
from heald.wire.address import Unreachable
from heald.wire.channel import HELLO, Channel

# -- beginnings --------------------------------------------------------------------------------------------------------


def test_it_is_welcome_when_it_is_connected(head, agent):
    assert agent.link.welcome
    assert agent.welcomes == 1
    assert agent.link.endpoint == head.endpoints[0]


@pytest.mark.timeout(20)
def test_a_key_of_another_run_is_refused(head, open_agent):
    agent = open_agent(pair=key.new().agent)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:\d+ takes connections, but .* another run"):
        agent.link.connect(head.endpoints, timeout=10)
    assert not head.met_agents


def test_the_head_of_another_run_is_not_trusted(head, open_agent):
    agent = open_agent(head=key.new().head.public)
    with pytest.raises(Unreachable, match="it has another key, or is something else"):
        agent.link.connect(head.endpoints, timeout=0.5)
    assert not head.met_agents


def test_without_a_key_nothing_is_heard_or_said(head):
    context = zmq.Context()
    intruder = context.socket(zmq.DEALER)
    intruder.linger = 0
    intruder.connect(head.endpoints[0])
    intruder.send(Channel().message(HELLO, 0, b"let me in"))
    assert not intruder.poll(500)
    assert not head.met_agents
    intruder.close()
    context.term()


@pytest.fixture
def listener():
    """Some other program that listens."""
    server = socket.create_server(("127.0.0.1", 0))
    yield server
    server.close()


def test_something_that_only_takes_connections(listener, open_agent):
    with pytest.raises(Unreachable, match="takes connections, but it does not answer"):
        open_agent().link.connect([f"tcp://127.0.0.1:{listener.getsockname()[1]}"], timeout=0.3)


def test_something_that_speaks_another_language_then_the_head(listener, head, open_agent):
    def greet():
        caller, _ = listener.accept()
        with caller, suppress(OSError):
            caller.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            caller.recv(1)

    thread = threading.Thread(target=greet)
    thread.start()
    agent = open_agent()
    with pytest.raises(Unreachable, match="takes connections, but"):
        agent.link.connect([f"tcp://127.0.0.1:{listener.getsockname()[1]}"], timeout=0.5)
    agent.link.connect(head.endpoints)
    assert agent.link.welcome
    thread.join()


def test_a_head_that_accepts_but_does_not_answer(keys, open_agent):
    context = zmq.Context()
    mute = context.socket(zmq.ROUTER)
    mute.setsockopt(zmq.CURVE_SERVER, 1)
    mute.curve_secretkey = keys.head.secret.encode()
    port = mute.bind_to_random_port("tcp://127.0.0.1")
    with pytest.raises(Unreachable, match="does not answer"):
        open_agent().link.connect([f"tcp://127.0.0.1:{port}"], timeout=0.3)
    mute.close(0)
    context.term()


def test_nobody_there(listener, open_agent):
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(Unreachable, match="Connection refused"):
        open_agent().link.connect([f"tcp://127.0.0.1:{port}"])


def test_it_can_connect_again_at_any_time(head, agent):
    for number in range(5):
        agent.link.send(b"%d" % number)
        agent.link.connect(head.endpoints)
        head.send(b"agent", b"%d" % number)
    agent.serve_until(lambda: len(agent.said) == len(head.said[b"agent"]) == 5)
    assert agent.said == head.said[b"agent"] == [b"%d" % number for number in range(5)]
    assert agent.welcomes == 1


# -- lines that break --------------------------------------------------------------------------------------------------


def test_what_was_sent_while_the_line_was_cut_arrives(head, open_agent, open_proxy):
    proxy = open_proxy(head.port)
    agent = open_agent()
    agent.link.connect([proxy.endpoint])
    for number in range(20):
        if number % 5 == 2:
            proxy.cut()
        agent.link.send(b"%d" % number)
        head.send(b"agent", b"%d" % number)
    agent.serve_until(lambda: len(agent.said) == 20 and not agent.unsafe)
    assert agent.said == head.said[b"agent"] == [b"%d" % number for number in range(20)]
    assert len(head.met_agents) == 1
    assert not head.losses


@pytest.mark.parametrize("seed", range(4))
def test_everything_arrives_once_and_in_order_over_a_line_that_breaks_all_the_time(head, open_agent, open_proxy, seed):
    proxy = open_proxy(head.port, seed=seed, most=100_000)
    chance = random.Random(seed)
    agents = [open_agent(b"agent-%d" % number) for number in range(3)]
    for one in agents:
        one.link.connect([proxy.endpoint])
    expected = [chance.randbytes(chance.choice((10, 1000, 30_000))) for _ in range(30)]
    for text in expected:
        for one in agents:
            one.link.send(text)
            head.send(one.name, text)
            one.link.serve()
    agents[0].serve_until(
        lambda: (
            all(not one.unsafe and len(one.said) == len(expected) for one in agents)
            and head.do(lambda hub: not any(peer.channel.kept for peer in hub._peers.values()))
        ),
        *agents[1:],
    )
    for one in agents:
        assert head.said[one.name] == one.said == expected
        assert one.welcomes == 1
    assert proxy.connections > 6
    assert len(head.met_agents) == 3


# -- heads that die ----------------------------------------------------------------------------------------------------


def test_a_head_that_was_started_again_is_told_anew(open_head, open_agent):
    first = open_head()
    agent = open_agent()
    agent.link.connect(first.endpoints)
    agent.link.send(b"for the first")
    first.send(b"agent", b"from the first")
    agent.serve_until(lambda: agent.said and not agent.unsafe)
    first.committing = False
    agent.link.send(b"lost with the first")
    agent.serve_until(lambda: len(first.said[b"agent"]) == 2)
    first.close()
    agent.link.send(b"to nobody")

    second = open_head(port=first.port)
    agent.serve_until(lambda: agent.welcomes == 2)
    assert second.met_agents == [(b"agent", b"agent is here")]
    assert agent.unsafe == 0  # a new conversation: the listener knows what the new head is to be told
    agent.link.send(b"for the second")
    second.send(b"agent", b"from the second")
    agent.serve_until(lambda: len(agent.said) == 2 and not agent.unsafe)
    assert second.said == {b"agent": [b"for the second"]}
    assert agent.said == [b"from the first", b"from the second"]


def test_a_head_that_was_started_again_elsewhere(open_head, open_agent):
    first = open_head()
    agent = open_agent()
    agent.link.connect(first.endpoints)
    first.close()
    second = open_head()
    agent.link.connect(second.endpoints)
    assert agent.welcomes == 2
    agent.link.send(b"one")
    agent.serve_until(lambda: not agent.unsafe)
    assert second.said == {b"agent": [b"one"]}


@pytest.mark.parametrize("seed", range(3))
def test_heads_that_die_behind_a_line_that_breaks(open_head, open_agent, open_proxy, seed):
    head = open_head()
    proxy = open_proxy(head.port, seed=seed, most=100_000)
    agent = open_agent()
    agent.link.connect([proxy.endpoint])
    chance = random.Random(seed)
    for life in range(1, 4):
        already = len(agent.said)
        sent = [b"%d/%d" % (life, number) + bytes(chance.choice((0, 20_000))) for number in range(20)]
        for text in sent:
            agent.link.send(text)
            head.send(b"agent", text)
        if chance.random() < 0.5:
            agent.serve_until(lambda sent=sent, already=already: agent.said[already:] == sent and not agent.unsafe)
        assert agent.said[already:] == sent[: len(agent.said) - already]  # nothing of a head before
        assert head.said[b"agent"] == sent[: len(head.said[b"agent"])]
        head.close()
        head = open_head(port=head.port)
        agent.serve_until(lambda life=life: agent.welcomes == life + 1)
        assert [name for name, _ in head.met_agents] == [b"agent"]

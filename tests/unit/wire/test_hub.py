from __future__ import annotations

import os
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

from heald.core.errors import ConfigurationError
from heald.wire import address
from heald.wire.channel import BYE, DATA, HELLO, REFUSED, VERSION, WELCOME, WHO, Head, pack, unpack
from heald.wire.hub import FENCED, Hub
from heald.wire.link import Refused


class Nobody:
    def met(self, name, hello):
        return ""

    def heard(self, name, body):
        pass

    def lost(self, name, reason):
        pass


@pytest.fixture
def stranger(head, keys):
    """Has the keys, and says what it likes."""
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, b"stranger")
    socket.linger = 0
    socket.rcvtimeo = 10_000
    socket.curve_serverkey = keys.head.public.encode()
    socket.curve_publickey, socket.curve_secretkey = keys.agent.public.encode(), keys.agent.secret.encode()
    socket.connect(head.endpoints[0])
    yield socket
    socket.close()
    context.term()


def answer(stranger, kind):
    """The next answer of that kind: its first frame, and the second as text."""
    while True:
        head, body = unpack(stranger.recv())
        if head.kind == kind:
            return bytes(body).decode()


def say(stranger, head, kind, text=b"", *, instance=0):
    stranger.send(pack(Head(VERSION, kind, instance or head.hub.instance, 1), text))


def test_agents_are_met_once_and_heard(head, agent, wait_until):
    assert head.met_agents == [(b"agent", b"agent is here")]
    agent.link.send(b"one")
    agent.link.send(b"two")
    agent.serve_until(lambda: not agent.unsafe)
    assert head.said == {b"agent": [b"one", b"two"]}
    agent.link.say_hello()
    agent.serve_until(lambda: len(head.met_agents) == 1)


def test_messages_go_to_whom_they_are_for(head, open_agent):
    agents = [open_agent(b"agent-%d" % number) for number in range(3)]
    for one in agents:
        one.link.connect(head.endpoints)
    for one in agents:
        head.send(one.name, b"for " + one.name)
    agents[0].serve_until(lambda: all(one.said for one in agents), *agents[1:])
    assert [one.said for one in agents] == [[b"for " + one.name] for one in agents]


def test_nothing_is_said_to_who_was_never_met(head):
    head.send(b"nobody", b"hello?")


def test_what_is_not_committed_is_not_safe(head, agent):
    head.committing = False
    agent.link.send(b"one")
    agent.serve_until(lambda: head.said)
    agent.link.beat()
    agent.link.serve()
    assert agent.unsafe == 1
    head.do(lambda hub: hub.commit(lambda name: False))
    agent.link.serve()
    assert agent.unsafe == 1
    head.do(lambda hub: hub.commit(lambda name: name == b"agent"))
    agent.serve_until(lambda: not agent.unsafe)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_all_are_told_to_go_until_they_have_gone(head, open_agent):
    near, far = open_agent(b"near"), open_agent(b"far")
    for one in (near, far):
        one.link.connect(head.endpoints)
    transmit, lost = head.hub._transmit, []

    def lose_the_first(name, message):
        if name == b"far" and not lost:
            lost.append(message)
        else:
            transmit(name, message)

    head.hub._transmit = lose_the_first
    with ThreadPoolExecutor(2) as threads:
        going = [threads.submit(one.serve_until, lambda: False) for one in (near, far)]
        head.do(lambda hub: hub.dismiss("the run is over"))
        for one in going:
            with pytest.raises(Refused, match="the run is over"):
                one.result()
    assert lost
    assert not head.hub._leaving
    late = open_agent(b"late")
    with pytest.raises(Refused, match="the run is over"):
        late.link.connect(head.endpoints)
    assert not head.losses


def test_nobody_waits_for_ever_for_those_that_are_gone(head, agent):
    head.do(lambda hub: hub.dismiss("the run is over"))
    assert head.hub._leaving == {b"agent"}


# -- who may not -------------------------------------------------------------------------------------------------------


def test_an_unwanted_agent_hears_why(head, open_agent):
    agent = open_agent()
    head.unwanted[agent.hello()] = "it is too old"
    with pytest.raises(Refused, match="it is too old"):
        agent.link.connect(head.endpoints)
    assert not head.losses  # it was none of ours


@pytest.mark.parametrize("version", [VERSION + 1, 255])
def test_another_version_of_the_protocol_is_refused_with_both_versions(head, stranger, version):
    stranger.send(pack(Head(version, HELLO), b"hi"))
    why = answer(stranger, REFUSED)
    assert f"version {version}" in why
    assert f"head {VERSION}" in why
    assert not head.met_agents


def test_a_silent_agent_is_given_up_and_not_taken_back(head, agent):
    head.beating = False
    now = time.monotonic()
    head.do(lambda hub: hub.beat(now))
    for later in range(5, 60, 5):
        head.do(lambda hub, later=later: hub.beat(now + later))
        assert not head.losses
    head.do(lambda hub: hub.beat(now + 65))
    assert head.losses == [(b"agent", "nothing was heard of it for 60 s")]
    with pytest.raises(Refused, match="nothing was heard"):
        agent.serve_until(lambda: False)
    agent.link.send(b"I was only asleep")
    with pytest.raises(Refused, match=FENCED):
        agent.serve_until(lambda: False)
    assert not head.said
    assert len(head.losses) == 1


def test_a_head_that_was_stopped_itself_gives_nobody_up(head, agent):
    head.beating = False
    now = time.monotonic()
    head.do(lambda hub: hub.beat(now))
    head.do(lambda hub: hub.beat(now + 3600))  # Ctrl-Z, and an hour later `fg`
    assert not head.losses
    for later in range(5, 60, 5):
        head.do(lambda hub, later=later: hub.beat(now + 3600 + later))
    assert not head.losses
    head.do(lambda hub: hub.beat(now + 3600 + 65))
    assert head.losses


def test_an_agent_that_leaves_says_why(head, agent, wait_until):
    agent.link.leave("the allocation is over")
    wait_until(lambda: head.losses)
    assert head.losses == [(b"agent", "the allocation is over")]


# -- garbage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage", [[b""], [bytes([VERSION])], [bytes([VERSION]), b"", b"", b""], [bytes([VERSION]) * 21]]
)
def test_garbage_is_answered_and_hurts_nobody_else(head, agent, stranger, garbage, caplog):
    stranger.send_multipart(garbage)
    assert "cannot be" in answer(stranger, REFUSED)
    agent.link.send(b"still here")
    agent.serve_until(lambda: head.said[b"agent"])
    assert not head.losses
    assert "agent stranger" in caplog.text


def test_an_agent_that_says_nonsense_is_given_up_alone(head, agent, stranger, wait_until):
    say(stranger, head, HELLO, b"hi")
    answer(stranger, WELCOME)
    say(stranger, head, DATA, b"nonsense")
    assert "nonsense" in answer(stranger, REFUSED)
    wait_until(lambda: head.losses)
    assert head.losses == [(b"stranger", "it sent what cannot be: nonsense")]
    agent.link.send(b"still here")
    agent.serve_until(lambda: head.said[b"agent"])


@pytest.mark.parametrize("kind", [HELLO, WELCOME, REFUSED, WHO, BYE, 99])
def test_a_message_without_what_belongs_to_it(head, agent, stranger, kind):
    say(stranger, head, HELLO, b"hi")
    answer(stranger, WELCOME)
    stranger.send(pack(Head(VERSION, kind, head.hub.instance)))
    agent.link.send(b"still here")
    agent.serve_until(lambda: head.said[b"agent"])


def test_a_stranger_is_asked_who_it_is(head, stranger):
    say(stranger, head, DATA, b"one")
    answer(stranger, WHO)
    say(stranger, head, HELLO, b"hi")
    answer(stranger, WELCOME)
    say(stranger, head, DATA, b"for a head before", instance=head.hub.instance + 1)
    answer(stranger, WHO)
    assert not head.said


# -- where it listens --------------------------------------------------------------------------------------------------


def test_it_listens_where_it_is_told(keys):
    known = {"lo": "127.0.0.1"}
    for interface in known.items():
        for name in interface:
            hub = Hub(keys, Nobody(), interface=name)
            assert hub.endpoints[0].startswith("tcp://127.0.0.1:")
            hub.close()


def test_it_listens_at_one_port_of_all_addresses(keys, monkeypatch):
    monkeypatch.setattr(address, "interfaces", lambda: {"a": "127.0.0.1", "b": "127.0.0.2", "eth0": "127.0.0.3"})
    monkeypatch.setattr(address, "ranked", lambda known: list(known.values()))
    hub = Hub(keys, Nobody())
    assert len({one.rpartition(":")[2] for one in hub.endpoints}) == 1
    assert [one.rpartition(":")[0] for one in hub.endpoints] == [f"tcp://127.0.0.{last}" for last in (1, 2, 3)]
    hub.close()


def is_free(place, port):
    try:
        socket.create_server((place, port)).close()
    except OSError:
        return False
    return True


def test_a_port_that_is_taken_at_one_address_is_taken_at_none(keys, monkeypatch, wait_until):
    monkeypatch.setattr(address, "interfaces", lambda: {"a": "127.0.0.1", "b": "127.0.0.2"})
    monkeypatch.setattr(address, "ranked", lambda known: list(known.values()))
    with socket.create_server(("127.0.0.2", 0)) as other:
        taken = other.getsockname()[1]
        hub = Hub(keys, Nobody(), port=taken)
        ports = {int(one.rpartition(":")[2]) for one in hub.endpoints}
        assert len(ports) == 1
        assert taken not in ports
        wait_until(lambda: is_free("127.0.0.1", taken))
        hub.close()


def test_a_new_hub_gets_the_port_of_the_one_before(keys):
    hub = Hub(keys, Nobody(), interface="lo")
    port = int(hub.endpoints[0].rpartition(":")[2])
    hub.close()
    hub = Hub(keys, Nobody(), interface="lo", port=port)
    assert hub.endpoints == [f"tcp://127.0.0.1:{port}"]
    hub.close()


def test_where_nobody_can_listen(keys, tmp_path):
    with pytest.raises(ConfigurationError, match="no network interface 'hsn9' here"):
        Hub(keys, Nobody(), interface="hsn9")
    with pytest.raises(ConfigurationError, match=r"cannot listen at .*nowhere"):
        Hub(keys, Nobody(), interface="lo", paths=[f"{tmp_path}/nowhere/head"])


def test_a_socket_of_the_file_system_is_the_users_own(open_head, open_agent, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("s") / "head")
    open_head(paths=(path,))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    agent = open_agent()
    agent.link.connect([f"ipc://{path}"])
    assert agent.link.endpoint == f"ipc://{path}"

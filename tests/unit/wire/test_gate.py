from __future__ import annotations

import zmq

from heald.wire import key
from heald.wire.gate import Gate

KEYS, OTHER = key.new(), key.new()
_PATIENCE = 5000  # milliseconds


def knock(pair, *, curve=True):
    """What ZeroMQ tells somebody with this pair who connects to a socket behind a gate."""
    context = zmq.Context()
    gate = Gate(context, KEYS.agent.public)
    server, client = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    try:
        server.curve_server = True
        server.curve_secretkey = KEYS.head.secret.encode()
        port = server.bind_to_random_port("tcp://127.0.0.1")
        if curve:
            client.curve_serverkey = KEYS.head.public.encode()
            client.curve_publickey, client.curve_secretkey = pair.public.encode(), pair.secret.encode()
        client.connect(f"tcp://127.0.0.1:{port}")
        client.send(b"hello")
        poller = zmq.Poller()
        poller.register(gate.socket, zmq.POLLIN)
        poller.register(server, zmq.POLLIN)
        wait = _PATIENCE if pair is KEYS.agent and curve else 300
        for _ in range(2):
            ready = dict(poller.poll(wait))
            if gate.socket in ready:
                gate.admit()
            if server in ready:
                return server.recv_multipart()[-1]
        return None
    finally:
        for one in (gate.socket, server, client):
            one.close(0)
        context.term()


def test_who_has_the_key_is_let_in():
    assert knock(KEYS.agent) == b"hello"


def test_who_has_another_is_not():
    assert knock(OTHER.agent) is None


def test_who_has_none_is_not():
    assert knock(KEYS.agent, curve=False) is None

"""Stands between the head and many agents, so that the head has one connection for all of them.

It passes messages on, in both directions, and reads none: the conversation stays between the two ends, and if one is
lost here they find out and send it again. What several agents say at once goes to the head in one piece.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from typing import Any

import zmq

from heald.core.errors import ConfigurationError, UsageError
from heald.wire import address
from heald.wire.channel import unwrap, wrap
from heald.wire.gate import Gate
from heald.wire.key import Pair

_AT_ONCE = 256  # messages in one piece


class Switch:
    """Passes on what comes, in a thread of its own, until it is closed.

    `endpoints` of the head, of which the likeliest that answers is taken, and its public key; `pair` is that of the
    agents, which find this switch by its public half. `name`: of this switch, no other has it. `interface`: where to
    listen, all addresses that others may reach when it is not given. Raises Unreachable, and ConfigurationError when it
    cannot listen.
    """

    def __init__(self, endpoints: Sequence[str], head: str, pair: Pair, name: bytes, *, interface: str = "") -> None:
        reached = address.reachable(endpoints)
        places = address.candidates(interface)
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 65_000)
        self._gate = Gate(self._context, pair.public)
        self._up: Any = self._context.socket(zmq.DEALER)
        self._down: Any = self._context.socket(zmq.ROUTER)
        for one, options in (
            (
                self._up,
                ((zmq.IMMEDIATE, 1), (zmq.ROUTING_ID, name), (zmq.RECONNECT_IVL, 50), (zmq.RECONNECT_IVL_MAX, 2000)),
            ),
            (self._down, ((zmq.CURVE_SERVER, 1), (zmq.ROUTER_HANDOVER, 1), (zmq.BACKLOG, 4096))),
        ):
            for option, value in (*options, (zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.LINGER, 500), (zmq.IPV6, 1)):
                one.setsockopt(option, value)
            one.curve_secretkey = pair.secret.encode()
        self._up.curve_publickey = pair.public.encode()
        self._up.curve_serverkey = head.encode()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._work, name="heald-switch", daemon=True)
        try:
            self.endpoints = [self._listen(place) for place in places]
        except zmq.ZMQError as raised:
            self._close()
            raise ConfigurationError(f"cannot listen at {', '.join(places)}: {raised}") from raised
        self._up.connect(reached)
        self._thread.start()

    def _listen(self, place: str) -> str:
        port = self._down.bind_to_random_port(address.endpoint(place, "*").rpartition(":")[0])
        return address.endpoint(place, port)

    def _work(self) -> None:
        poller = zmq.Poller()
        for one in (self._gate.socket, self._up, self._down, self._bell):
            poller.register(one, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._bell in ready:
                break
            try:
                self._gate.admit()
                if self._down in ready:
                    self._pass_up()
                if self._up in ready:
                    self._pass_down()
            except (UsageError, zmq.ZMQError) as raised:  # of one message: its ends send it again
                logging.getLogger("heald").error("a switch: %s", raised)
        self._close()

    def _pass_up(self) -> None:
        found: list[tuple[bytes, bytes]] = []
        while len(found) < _AT_ONCE:
            try:
                name, message, *_ = self._down.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            found.append((name, message))
        try:
            self._up.send(wrap(found), zmq.NOBLOCK)
        except zmq.Again:
            pass  # there is no connection to the head for now

    def _pass_down(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                message = self._up.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            for name, inner in unwrap(message):
                self._down.send_multipart([name, inner], zmq.NOBLOCK)

    def close(self) -> None:
        """End it."""
        if self._thread.is_alive():
            os.eventfd_write(self._bell, 1)
            self._thread.join()

    def _close(self) -> None:
        for one in (self._gate, self._up, self._down):
            one.close()
        self._context.term()
        os.close(self._bell)

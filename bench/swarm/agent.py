"""Simulated agents, many to a process: each speaks to the head as an agent does, and ends its orders unrun.

`python -m bench.swarm.agent SETTINGS FIRST COUNT`.
"""

import os
import select
import sys
import time
from pathlib import Path

import msgspec
import zmq

from heald.core.event import Usage
from heald.core.task import Payload
from heald.core.version import __version__
from heald.data.payload import pack
from heald.run.cluster import dialogue, settings
from heald.run.cluster.dialogue import Ended, Hello, Orders, Returned, Stands, TakeBack
from heald.wire.channel import HELLO, REFUSED, WELCOME, WHO, unpack
from heald.wire.peer import Peer
from heald.wire.switch import Switch

SECONDS = 1.0  # that each task is said to have taken: of such tasks one is sent at a time, which is the dearest way
BEATS = 5  # in the time after which the head would give an agent up
ORDERS = Usage(seconds=SECONDS)


class Agent:
    """One of them: a node with one core."""

    def __init__(self, context: zmq.Context, given: settings.AgentSettings, number: int, value: Payload) -> None:
        self.value = value
        name = f"node{number}"
        here = (given.switch or given.endpoints)[0]
        self.hello = dialogue.encode(
            Hello(
                "swarm", name, number, number, sys.version.split()[0], __version__, here, (0,), (), 0, time.time(),
            )
        )  # fmt: skip
        self.socket = context.socket(zmq.DEALER)
        for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
            self.socket.setsockopt(option, 0)
        self.socket.setsockopt(zmq.ROUTING_ID, name.encode())
        self.socket.curve_serverkey = (given.pair.public if given.switch else given.head).encode()
        self.socket.curve_publickey = given.pair.public.encode()
        self.socket.curve_secretkey = given.pair.secret.encode()
        self.peer = Peer(b"head", lambda _, message: self.socket.send(message), self.hear)
        self.socket.connect(here)
        self.peer.say(HELLO, 0, self.hello)

    def serve(self) -> None:
        """Deal with all that has come."""
        while self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            head, body = unpack(self.socket.recv(zmq.NOBLOCK))
            if head.kind == WELCOME:
                self.peer.channel.renew(head.instance)
                self.peer.send(dialogue.encode([Stands([], [])]))
            elif head.kind == WHO:
                self.peer.say(HELLO, 0, self.hello)
            elif head.kind == REFUSED:
                sys.exit(0)  # the run is over
            else:
                self.peer.take(head, body)

    def hear(self, _: bytes, body: memoryview) -> None:
        """End what the head wants to be run, and give nothing back."""
        answers: list[dialogue.ToHead] = []
        for message in dialogue.to_agent(body):
            if isinstance(message, Orders):
                answers += [
                    Ended(message.lane, order.task, order.attempt, self.value, ORDERS) for order in message.orders
                ]
            elif isinstance(message, TakeBack):
                answers.append(Returned(message.lane, []))
        self.peer.channel.commit()
        if answers:
            self.peer.send(dialogue.encode(answers))


def main(file: str, first: str, count: str) -> None:
    """Be agents until the head has gone."""
    given = settings.read(Path(file))
    if int(count) > given.fan_out:  # as the pilot of a batch job does it
        switch = Switch(given.endpoints, given.head, given.pair, b"switch%d" % int(first), interface="lo")
        given = msgspec.structs.replace(given, switch=tuple(switch.endpoints))
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, int(count) + 10)
    value = pack(None, None, subject="a result")[0]
    agents = [Agent(context, given, number, value) for number in range(int(first), int(first) + int(count))]
    poll = select.epoll()
    by_file = {agent.socket.getsockopt(zmq.FD): agent for agent in agents}
    for descriptor in by_file:
        poll.register(descriptor, select.EPOLLIN)
    parent = os.getppid()
    turn, every = 0, given.silence / BEATS / len(agents)
    due = time.monotonic() + every
    while os.getppid() == parent:
        for descriptor, _ in poll.poll(max(0.0, due - time.monotonic())):
            by_file[descriptor].serve()
        while due <= time.monotonic():  # one after another, as agents that know nothing of each other
            agents[turn].peer.beat()
            agents[turn].serve()  # what a send saw, no poll tells of again
            turn = (turn + 1) % len(agents)
            due += every


if __name__ == "__main__":
    main(*sys.argv[1:])

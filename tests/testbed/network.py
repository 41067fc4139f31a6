"""The network between the hosts: a switch with a port for each, and what can go wrong with the cables.

It lives in the keeper's network namespace, so nothing of it is seen on the machine itself, and testbeds with the same
addresses do not meet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from tests.testbed.keeper import Keeper, wait_for

PREFIX = "10.77.0"
LARGEST = 199  # hosts with a node's name
_HEAD = 200
_WIRE = Path(__file__).with_name("wire.py")


def address(host: str) -> str:
    """The IPv4 address of n0 (the head), n1, n2..."""
    return f"{PREFIX}.{_number(host)}"


class Network:
    """The switch of one testbed."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def start(self, hosts: Iterable[str]) -> None:
        """Set the switch up with a plugged cable to each host, which need not be running yet."""
        lines = ["link add switch type bridge stp_state 0 forward_delay 0", "link set switch up"]
        for host in hosts:
            lines += _plug(host)
        self._ip(*lines)

    def plug(self, host: str) -> None:
        """Give a host that was unplugged a network card and a cable, both new."""
        self._ip(*_plug(host))

    def unplug(self, host: str) -> None:
        """Pull the cable for good: nothing that the host still sends arrives anywhere."""
        self.heal(host)
        self._ip(f"link del {_port(host)}", f"netns del {host}")

    def is_plugged(self, host: str) -> bool:
        """Whether both ends of the host's cable are ready, which is a moment after they were made."""
        ends = self._keeper.run(["ip", "-oneline", "link", "show", _port(host)])
        return "state UP" in ends and "state UP" in self._keeper.run(["ip", "-netns", host, "-oneline", "link"])

    def cut(self, host: str) -> None:
        """Packets to and from the host vanish, and no connection is told."""
        self._filter(host, f'oifname "{_port(host)}" drop; iifname "{_port(host)}" drop')

    def oneway(self, host: str) -> None:
        """The host still sends, but hears nobody."""
        self._filter(host, f'oifname "{_port(host)}" ether type != arp drop')

    def fence(self, host: str, to: str, out: Iterable[int], into: Iterable[int] = ()) -> None:
        """The host reaches one other alone, by TCP at some ports, and that one the host at others."""
        port, only = _port(host), address(to)
        far, near = (", ".join(map(str, (0, *ports))) for ports in (out, into))
        self._filter(
            host,
            f'iifname "{port}" ip daddr != {only} drop; oifname "{port}" ip saddr != {only} drop; '
            f'iifname "{port}" tcp dport != {{ {far} }} tcp sport != {{ {near} }} drop; '
            f'oifname "{port}" tcp sport != {{ {far} }} tcp dport != {{ {near} }} drop',
        )

    def loss(self, host: str, percent: int) -> None:
        """So many in a hundred packets vanish, each way."""
        some = f"numgen random mod 100 < {percent} drop"
        self._filter(host, f'oifname "{_port(host)}" {some}; iifname "{_port(host)}" {some}')

    def slow(self, host: str, rate: str) -> None:
        """Limit the host to a rate as tc writes it ("1mbit"), each way."""
        self._fault(host).touch()
        shape = ["root", "tbf", "rate", rate, "burst", "16k", "latency", "400ms"]
        self._keeper.run(["ip", "netns", "exec", host, "tc", "qdisc", "replace", "dev", "eth0", *shape])
        self._keeper.run(["tc", "qdisc", "replace", "dev", _port(host), *shape])

    def delay(self, host: str, milliseconds: float, jitter: float = 0.0) -> None:
        """Let packets arrive later, each way; `jitter` is in milliseconds too."""
        self._fault(host).touch()
        near, far, island = f"near-{host}", f"far-{host}", f"island-{host}"
        command = [sys.executable, "-I", str(_WIRE), near, far, str(milliseconds), str(jitter)]
        self._keeper.spawn(command, self._keeper.folder / host / "wire.log")
        wait_for(lambda: self._has(far), f"the wire of {host}", self._keeper.folder / host / "wire.log")
        self._ip(
            f"link add {island} type bridge stp_state 0 forward_delay 0",
            f"link set {island} up",
            f"link set {_port(host)} master {island}",
            f"link set {near} master {island} up",
            f"link set {far} master switch up",
        )

    def heal(self, host: str) -> None:
        """Undo all of the above."""
        if not self._fault(host).exists():
            return
        port = _port(host)
        undo = (
            f"ip link del near-{host}",  # ends the wire
            f"ip link del island-{host}",
            f"ip netns exec {host} tc qdisc del dev eth0 root",
            f"tc qdisc del dev {port} root",
            f"nft delete table bridge {host}",
        )
        # Each fails where there is nothing to undo.
        self._keeper.run(["sh", "-c", "".join(f"{line} 2>/dev/null\n" for line in undo) + ":"])
        self._ip(f"link set {port} master switch up")
        self._fault(host).unlink()

    def _fault(self, host: str) -> Path:
        """The file that is there while something is wrong with a host's cable."""
        return self._keeper.folder / host / "fault"

    def _ip(self, *lines: str) -> None:
        self._keeper.run(["ip", "-batch", "-"], text="\n".join(lines))

    def _filter(self, host: str, rules: str) -> None:
        self._fault(host).touch()
        chain = f"chain forward {{ type filter hook forward priority 0; {rules}; }}"
        self._keeper.run(["nft", "-f", "-"], text=f"table bridge {host} {{ {chain}; }}")

    def _has(self, device: str) -> bool:
        return f" {device}:" in self._keeper.run(["ip", "-oneline", "link"])


def _plug(host: str) -> list[str]:
    # The same hardware address each time: the others' tables of neighbours stay true.
    hardware = f"02:00:00:00:00:{_number(host):02x}"
    return [
        f"netns add {host}",
        f"link add {_port(host)} type veth peer name eth0 address {hardware} netns {host}",
        f"link set {_port(host)} master switch up",
    ]


def _port(host: str) -> str:
    return f"port-{host}"


def _number(host: str) -> int:
    return int(host[1:]) or _HEAD

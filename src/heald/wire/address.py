"""Which addresses this machine has, and which of another's can be reached from here. No outside service is asked."""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import time
from collections.abc import Mapping, Sequence

from heald.core.errors import ConfigurationError
from heald.wire.interface import interfaces

# Fast networks of clusters first, then what a machine calls its cable, then bridges of virtual machines and containers.
_PREFERRED = ("hsn", "ib", "bond", "en", "eth")
_LOCAL = ("docker", "virbr", "podman", "cni", "veth")
_GRACE = 0.05  # seconds that a likelier endpoint may answer later than another


class Unreachable(ConnectionError):
    """None of the addresses answered."""


def candidates(interface: str = "") -> list[str]:
    """The addresses by which others may reach this machine, the likeliest first; of `interface` alone when named.

    `interface` may be the name of one ("hsn0"), or an address of this machine. Raises ConfigurationError when there is
    no such one here.
    """
    known = interfaces()
    if not interface:
        return ranked(known)
    if interface in known:
        return [known[interface]]
    if interface in known.values() or _is_ours(interface):
        return [interface]
    listed = ", ".join(f"{name} ({address})" for name, address in known.items())
    raise ConfigurationError(f"there is no network interface {interface!r} here", hint=f"there are: {listed}")


def ranked(known: Mapping[str, str]) -> list[str]:
    """The addresses of interfaces, by name, by which others may reach a machine, the likeliest first.

    >>> ranked({"lo": "127.0.0.1", "docker0": "172.17.0.1", "eth0": "192.168.1.7", "hsn0": "10.0.0.7"})
    ['10.0.0.7', '192.168.1.7', '172.17.0.1']
    """

    def rank(name: str) -> tuple[bool, bool, int]:
        kind = next((place for place, prefix in enumerate(_PREFERRED) if name.startswith(prefix)), len(_PREFERRED))
        return name.startswith(_LOCAL), not ipaddress.ip_address(known[name]).is_private, kind

    outside = [name for name, address in known.items() if not address.startswith("127.")]
    return [known[name] for name in sorted(outside, key=rank)] or ["127.0.0.1"]


def _is_ours(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
        with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6) as probe:
            probe.bind((text, 0))
    except (ValueError, OSError):
        return False
    return not address.is_unspecified  # which is all addresses here, and none to others


def endpoint(address: str, port: int | str) -> str:
    """The name of a place that listens, as ZeroMQ writes it.

    >>> endpoint("10.0.0.1", 5000), endpoint("fe80::1", 5000)
    ('tcp://10.0.0.1:5000', 'tcp://[fe80::1]:5000')
    """
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def reachable(endpoints: Sequence[str], timeout: float = 10.0) -> str:
    """The likeliest of the endpoints ("tcp://ADDRESS:PORT" or "ipc://PATH", the likeliest first) that answer.

    All are tried at once, for `timeout` seconds at most. Raises Unreachable, which says what became of each.
    """
    failed: dict[str, str] = {}
    answered: list[str] = []
    waiting: dict[int, tuple[str, socket.socket]] = {}
    poll = select.poll()
    try:
        for one in endpoints:
            try:
                probe = _dial(one)
            except OSError as raised:
                failed[one] = raised.strerror or str(raised)
            else:
                waiting[probe.fileno()] = one, probe
                poll.register(probe, select.POLLOUT)
        deadline = time.monotonic() + timeout
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                one, probe = waiting.pop(descriptor)
                poll.unregister(descriptor)
                status = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                probe.close()
                if status:
                    failed[one] = os.strerror(status)
                else:
                    answered.append(one)
                    deadline = min(deadline, time.monotonic() + _GRACE)
            if any(failed.keys() >= set(endpoints[: endpoints.index(one)]) for one in answered):
                break
    finally:
        for _, probe in waiting.values():
            probe.close()
    if answered:
        return min(answered, key=endpoints.index)
    failed.update((one, f"no answer in {timeout:g} s") for one, _ in waiting.values())
    raise Unreachable("nobody answers: " + "; ".join(f"{one}: {failed[one]}" for one in endpoints))


def _dial(one: str) -> socket.socket:
    scheme, _, place = one.partition("://")
    target: str | tuple[str, int]
    if scheme == "ipc":
        probe, target = socket.socket(socket.AF_UNIX), place
    else:
        host, _, port = place.rpartition(":")
        host = host.strip("[]")
        probe, target = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))
    probe.setblocking(False)
    try:
        status = probe.connect_ex(target)
    except OSError:  # its name is not known
        probe.close()
        raise
    if status not in (0, errno.EINPROGRESS):
        probe.close()
        raise OSError(status, os.strerror(status))
    return probe

"""The network interfaces of a machine. Sent to machines without heald, whose Python may be as old as 3.6."""

import fcntl
import socket
import struct

_SIOCGIFADDR = 0x8915  # Linux, netdevice(7)


def interfaces() -> "dict[str, str]":
    """The IPv4 address of each network interface that has one, loopback included.

    >>> interfaces()["lo"]
    '127.0.0.1'
    """
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                found[name] = socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24])
            except OSError:  # it has none
                continue
    return found

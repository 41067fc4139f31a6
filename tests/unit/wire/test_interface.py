from __future__ import annotations

import ipaddress
import socket

from heald.wire.interface import interfaces


def test_each_interface_with_an_address():
    found = interfaces()
    assert found["lo"] == "127.0.0.1"
    assert set(found) <= {name for _, name in socket.if_nameindex()}
    assert all(ipaddress.ip_address(address).version == 4 for address in found.values())


def test_no_descriptor_is_left_open():
    import os

    before = len(os.listdir("/proc/self/fd"))
    interfaces()
    assert len(os.listdir("/proc/self/fd")) == before

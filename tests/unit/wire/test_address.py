from __future__ import annotations

import socket
import time

import pytest

from heald.core.errors import ConfigurationError
from heald.wire import address
from heald.wire.address import Unreachable, candidates, endpoint, ranked, reachable
from heald.wire.interface import interfaces


@pytest.fixture
def listening():
    """An endpoint that takes connections, and one that does not."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        ports = [one.getsockname()[1] for one in (server, closed)]
        closed.close()
        yield [f"tcp://127.0.0.1:{port}" for port in ports]


@pytest.fixture
def filtered():
    """An endpoint from which no answer comes, as behind a firewall: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        place = server.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(place)
            fillers.append(filler)
        yield f"tcp://127.0.0.1:{place[1]}"
        for filler in fillers:
            filler.close()


# -- of this machine ---------------------------------------------------------------------------------------------------


def test_an_interface_by_name_and_by_address():
    assert candidates("lo") == candidates("127.0.0.1") == ["127.0.0.1"]
    for name, its in interfaces().items():
        assert candidates(name) == candidates(its) == [its]


def test_an_address_that_no_interface_tells_of():
    assert candidates("127.0.0.77") == ["127.0.0.77"]


@pytest.mark.parametrize("wrong", ["hsn9", "192.0.2.1", "0.0.0.0", "::", "localhost", "127.0.0.1:80", "1"])
def test_an_interface_that_is_not_there_is_an_error_that_names_those_that_are(wrong):
    with pytest.raises(ConfigurationError, match=f"no network interface '{wrong}' here") as raised:
        candidates(wrong)
    assert "lo (127.0.0.1)" in raised.value.hint


def test_all_addresses_that_others_may_reach():
    outside = {its for its in interfaces().values() if not its.startswith("127.")}
    assert set(candidates()) == (outside or {"127.0.0.1"})


def test_fast_networks_come_first_and_those_of_containers_last():
    known = {
        "docker0": "172.17.0.1",
        "lo": "127.0.0.1",
        "eno1": "131.152.1.7",
        "eth1": "10.1.0.7",
        "wlan0": "192.168.0.7",
        "ib0": "10.2.0.7",
        "hsn0": "10.3.0.7",
    }
    assert ranked(known) == ["10.3.0.7", "10.2.0.7", "10.1.0.7", "192.168.0.7", "131.152.1.7", "172.17.0.1"]
    assert ranked({"lo": "127.0.0.1"}) == ["127.0.0.1"]


def test_endpoints():
    assert endpoint("10.0.0.1", 5000) == "tcp://10.0.0.1:5000"
    assert endpoint("fe80::1", "*") == "tcp://[fe80::1]:*"


# -- of others ---------------------------------------------------------------------------------------------------------


def test_the_one_that_answers(listening, filtered):
    begun = time.monotonic()
    assert reachable([filtered, *listening[::-1]], timeout=5) == listening[0]
    assert time.monotonic() - begun < 2


def test_the_likeliest_of_those_that_answer():
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        endpoints = [f"tcp://127.0.0.1:{server.getsockname()[1]}" for server in (one, other)]
        for order in (endpoints, endpoints[::-1]):
            assert reachable(order) == order[0]


def test_a_likelier_one_gets_a_moment_and_no_more(filtered, listening, monkeypatch):
    monkeypatch.setattr(address, "_GRACE", 0.2)
    begun = time.monotonic()
    assert reachable([filtered, listening[0]], timeout=30) == listening[0]
    assert 0.2 <= time.monotonic() - begun < 5


def test_all_that_was_tried_is_named_with_what_became_of_it(listening, filtered, tmp_path):
    tried = [listening[1], filtered, f"ipc://{tmp_path}/none", "tcp://no-such-host.invalid:5000"]
    with pytest.raises(Unreachable) as raised:
        reachable(tried, timeout=0.2)
    said = dict(part.rsplit(": ", 1) for part in str(raised.value).removeprefix("nobody answers: ").split("; "))
    assert list(said) == tried
    assert said[tried[0]] == "Connection refused"
    assert said[tried[1]] == "no answer in 0.2 s"
    assert said[tried[2]] == "No such file or directory"


def test_a_socket_of_the_file_system(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("s") / "head")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        with pytest.raises(Unreachable, match="Connection refused"):
            reachable([f"ipc://{path}"])
        server.listen()
        assert reachable([f"ipc://{path}"]) == f"ipc://{path}"


def test_ipv6():
    with socket.socket(socket.AF_INET6) as server:
        try:
            server.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        server.listen()
        place = endpoint("::1", server.getsockname()[1])
        assert reachable([place]) == place


def test_nowhere_to_go():
    with pytest.raises(Unreachable):
        reachable([])


def test_no_descriptor_is_left_open(listening, filtered):
    import os

    before = len(os.listdir("/proc/self/fd"))
    reachable([filtered, *listening])
    with pytest.raises(Unreachable):
        reachable([filtered, listening[1]], timeout=0.05)
    assert len(os.listdir("/proc/self/fd")) == before

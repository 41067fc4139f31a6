from __future__ import annotations

import ast
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from heald.core.errors import SiteError
from heald.wire import relay
from heald.wire.relay import Relay

# Does what ssh does, on this machine: what comes to one socket goes to another, and a shell runs the command.
SSH = """\
import os, socket, subprocess, sys, threading

folder, words = sys.argv[1], sys.argv[2:]
with open(folder + "/calls", "a") as calls:
    print(words, file=calls)
if "-O" in words:
    sys.exit(0 if os.path.exists(folder + "/open") else 255)
if os.path.exists(folder + "/down"):
    print("ssh: connect to host there port 22: No route to host", file=sys.stderr)
    sys.exit(255)
ways = [word[2:].partition(":")[::2] for word in words if word.startswith("-R")]

def copy(one, other):
    while data := one.recv(65536):
        other.sendall(data)
    other.shutdown(socket.SHUT_WR)

def serve(inner, target):
    server = socket.socket(socket.AF_UNIX)
    server.bind(inner)
    server.listen()
    ready.release()
    while True:
        near, _ = server.accept()
        if target.startswith("/"):
            far = socket.socket(socket.AF_UNIX)
            far.connect(target)
        else:
            host, _, port = target.rpartition(":")
            far = socket.create_connection((host, int(port)))
        for ends in ((near, far), (far, near)):
            threading.Thread(target=copy, args=ends, daemon=True).start()

ready = threading.Semaphore(0)
if not os.path.exists(folder + "/deaf"):
    for way in ways:
        threading.Thread(target=serve, args=way, daemon=True).start()
        ready.acquire()
def feed():
    while data := os.read(0, 65536):
        os.write(command.stdin.fileno(), data)
    command.stdin.close()

shell = ["sh", "-c", "echo Welcome to this machine; " + words[-1]]
command = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
threading.Thread(target=feed, daemon=True).start()
while data := os.read(command.stdout.fileno(), 65536):
    os.write(1, data)
os._exit(command.wait())
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the fake ssh was told, and in which files tell it how to be."""
    (tmp_path / "ssh.py").write_text(SSH)
    monkeypatch.setenv("HEALD_SSH", f"{sys.executable} {tmp_path}/ssh.py {tmp_path}")
    monkeypatch.setattr(relay, "_PAUSES", (0.01,))
    (tmp_path / "calls").touch()
    yield tmp_path
    for words in map(ast.literal_eval, (tmp_path / "calls").read_text().splitlines()):
        for word in words:
            if word.startswith("-R"):  # the server of an ssh that is killed at once has nobody to remove this
                Path(word[2:].partition(":")[0]).unlink(missing_ok=True)


@pytest.fixture
def open_relay(ssh: Path) -> Iterator[Callable[..., Relay]]:
    relays: list[Relay] = []

    def make(*endpoints: str, **options: Any) -> Relay:
        relays.append(Relay("there", endpoints, **{"python": sys.executable, "interface": "lo", **options}))
        return relays[-1]

    yield make
    for one in relays:
        one.close()


def of_ssh() -> list[psutil.Process]:
    """The ssh that runs."""
    return [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]


def test_agents_reach_the_head_by_it(head, open_agent, open_relay):
    (endpoints,) = open_relay(head.endpoints[0]).start()
    assert endpoints != head.endpoints
    agent = open_agent()
    agent.link.connect(endpoints)
    agent.link.send(b"one")
    head.send(b"agent", b"two")
    agent.serve_until(lambda: agent.said and not agent.unsafe)
    assert head.said == {b"agent": [b"one"]}


def test_a_head_that_listens_on_a_socket_of_the_file_system(open_head, open_agent, open_relay, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("s") / "head")
    open_head(paths=(path,))
    agent = open_agent()
    agent.link.connect(open_relay(f"ipc://{path}").start()[0])
    assert agent.link.welcome


def test_all_addresses_of_the_host_unless_one_is_named(head, open_relay):
    (one,) = open_relay(head.endpoints[0]).start()
    assert [endpoint.rpartition(":")[0] for endpoint in one] == ["tcp://127.0.0.1"]
    from heald.wire.address import candidates, endpoint

    (several,) = open_relay(head.endpoints[0], interface="").start()
    port = several[0].rpartition(":")[2]
    assert several == [endpoint(address, port) for address in candidates()]


def test_several_ends_of_one_head(open_head, open_agent, open_relay):
    heads = [open_head(), open_head()]
    both = open_relay(*(head.endpoints[0] for head in heads)).start()
    for head, endpoints in zip(heads, both, strict=True):
        agent = open_agent()
        agent.link.connect(endpoints)
        agent.link.send(b"one")
        agent.serve_until(lambda agent=agent: not agent.unsafe)
        assert head.said == {b"agent": [b"one"]}


def test_the_ports_of_a_head_that_was_killed_are_taken_again(head, open_relay):
    first = open_relay(head.endpoints[0])
    (endpoints,) = first.start()
    port = int(endpoints[0].rpartition(":")[2])
    first.close()
    assert open_relay(head.endpoints[0], ports=(port,)).start() == [endpoints]


def test_other_ports_where_those_cannot_be_had(head, open_relay):
    (endpoints,) = open_relay(head.endpoints[0], ports=(1 << 20,)).start()
    assert endpoints


def test_nothing_is_left_when_it_is_closed(head, open_relay):
    relay = open_relay(head.endpoints[0])
    before = set(Path("/tmp").glob("heald-*"))
    relay.start()
    assert of_ssh()
    relay.close()
    assert not of_ssh()
    assert not set(Path("/tmp").glob("heald-*")) - before
    relay.close()


def test_the_connection_is_made_again_at_the_same_port(head, open_agent, open_relay, ssh, caplog, wait_until):
    (endpoints,) = open_relay(head.endpoints[0]).start()
    agent = open_agent()
    agent.link.connect(endpoints)
    for number in range(3):
        for process in of_ssh():
            process.send_signal(signal.SIGKILL)
        agent.link.send(b"%d" % number)
        head.send(b"agent", b"%d" % number)
        agent.serve_until(lambda number=number: len(agent.said) == number + 1 and not agent.unsafe)
    assert head.said == {b"agent": [b"0", b"1", b"2"]}
    assert agent.link.endpoint == endpoints[0]
    assert "no relay on there: ssh ended with status -9; it is made again" in caplog.text


def test_it_tries_until_it_can(head, open_agent, open_relay, ssh, caplog, wait_until):
    (endpoints,) = open_relay(head.endpoints[0]).start()
    (ssh / "down").touch()
    for process in of_ssh():
        process.kill()
    wait_until(lambda: caplog.text.count("No route to host") > 3)
    (ssh / "down").unlink()
    agent = open_agent()

    def connected():
        try:
            agent.link.connect(endpoints, timeout=1.0)
        except ConnectionError:
            return False
        return True

    wait_until(connected)


def test_the_words_of_ssh_are_in_the_error(open_relay, ssh):
    (ssh / "down").touch()
    with pytest.raises(SiteError, match="no relay on there: ssh: connect to host there port 22: No route to host"):
        open_relay("tcp://127.0.0.1:5").start()


def test_what_the_shell_there_says_is_in_the_error(open_relay):
    with pytest.raises(SiteError, match=r"no relay on there: .*python9: not found") as raised:
        open_relay("tcp://127.0.0.1:5", python="python9").start()
    assert raised.value.hint == "name a Python that there has"


def test_a_server_that_does_not_forward(open_relay, ssh):
    (ssh / "deaf").touch()
    with pytest.raises(SiteError, match="no relay on there: its ssh server does not forward sockets"):
        open_relay("tcp://127.0.0.1:5").start()


def test_an_interface_that_the_host_lacks(open_relay):
    with pytest.raises(SiteError, match=r"no relay on there: it cannot listen at 'hsn9': .* it has lo 127\.0\.0\.1"):
        open_relay("tcp://127.0.0.1:5", interface="hsn9").start()


def test_a_host_that_never_answers(open_relay, monkeypatch):
    monkeypatch.setenv("HEALD_SSH", "sh -c 'case $* in *-O*) exit 1;; esac; exec sleep 60' ssh")
    monkeypatch.setattr(relay, "_FAREWELL", 0.1)
    with pytest.raises(SiteError, match=r"no relay on there: ssh did not connect within 0\.2 s"):
        open_relay("tcp://127.0.0.1:5").start(timeout=0.2)


def test_no_ssh_here(open_relay, monkeypatch):
    monkeypatch.setenv("HEALD_SSH", "/nowhere/ssh")
    with pytest.raises(SiteError, match=r"no relay on there: .*nowhere/ssh"):
        open_relay("tcp://127.0.0.1:5").start()


def test_other_commands_may_share_the_connection(head, open_relay, ssh):
    relay = open_relay(head.endpoints[0])
    relay.start()
    assert f"'-S', '{relay.control}'" in (ssh / "calls").read_text()


def test_a_connection_that_the_user_has_open_is_used(head, open_relay, ssh):
    (ssh / "open").touch()
    relay = open_relay(head.endpoints[0])
    relay.start()
    assert relay.control == ""
    assert "-S" not in (ssh / "calls").read_text()


def test_ctrl_c_is_not_for_the_connection(head, open_relay, wait_until):
    open_relay(head.endpoints[0]).start()
    first = of_ssh()[0]
    assert signal.SIGINT in _ignored(first.pid)


def _ignored(pid: int) -> set[int]:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn"))
    mask = int(line.split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}

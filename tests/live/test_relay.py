"""A head that no node can reach is reached through a login node, over real ssh: n0 is the laptop, n1 the login node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.testbed.host import Hosts, Process, python
from tests.testbed.keeper import wait_for

pytestmark = pytest.mark.live

# Answers each message, and says on its standard output how it can be reached.
HEAD = """
import json, logging, os, select, sys, time
from heald.core.errors import SiteError
from heald.wire import key, relay
from heald.wire.hub import Hub

class Head:
    def met(self, name, hello):
        return ""
    def heard(self, name, body):
        hub.send(name, b"echo of " + bytes(body))
    def lost(self, name, reason):
        pass

logging.basicConfig(level=logging.WARNING, format="%(message)s")
relay.PATIENCE = 2.0
relay._PAUSES = (0.2,)
keys = key.new()
hub = Hub(keys, Head(), interface="lo", silence=60)
way = relay.Relay(sys.argv[1], hub.endpoints[:1], python=sys.executable)
try:
    (endpoints,) = way.start(20)
except SiteError as raised:
    print(raised, flush=True)
    sys.exit(1)
print(json.dumps([endpoints, keys.head.public, keys.agent.public, keys.agent.secret]), flush=True)
stop = False
while not stop:
    stop = 0 in select.select([0, *hub.files()], [], [], 0.1)[0]
    hub.serve()
    hub.commit(lambda name: True)
    hub.beat(time.monotonic())
    hub.serve()
way.close()
hub.close()
"""

# Says what it is told to on its standard input, a line each, and prints the answers.
AGENT = """
import json, select, sys
from heald.wire.key import Pair
from heald.wire.link import Link

class Agent:
    def hello(self):
        return b"hello"
    def welcomed(self, greeting):
        pass
    def heard(self, body):
        print(bytes(body).decode(), flush=True)

endpoints, head, public, secret = json.loads(sys.argv[1])
link = Link(head, Pair(public, secret), b"agent", Agent())
link.connect(endpoints)
print("connected", flush=True)
line = "-"
while line:
    if 0 in select.select([0, link], [], [], 0.2)[0]:
        line = sys.stdin.readline()
        link.send(line.strip().encode())
    link.serve()
    link.beat()
    link.serve()
link.close()
"""


@pytest.fixture
def laptop(hosts: Hosts, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a head on n0."""
    started: list[Process] = []

    def start(host: str = "n1", ssh: str = "ssh", before: tuple[str, ...] = (), **options: Any) -> Process:
        command = [*before, *python(tmp_path, HEAD, host, name="head.py")]
        started.append(hosts.start("n0", command, environment={"HEALD_SSH": ssh}, stdin=subprocess.PIPE, **options))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.communicate("\n", timeout=20)


@pytest.fixture
def node(hosts: Hosts, tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    """Starts an agent on n2."""
    started: list[Process] = []

    def start(said: str) -> Process:
        command = python(tmp_path, AGENT, said, name="agent.py")
        started.append(hosts.start("n2", command, stdin=subprocess.PIPE))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "connected\n", started[-1].communicate()
        return started[-1]

    yield start
    for process in started:
        process.communicate(timeout=20)


def line(process: Process) -> str:
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said, process.communicate()
    return said


def ask(agent: Process, text: str) -> str:
    assert agent.stdin is not None
    agent.stdin.write(f"{text}\n")
    agent.stdin.flush()
    return line(agent).strip()


def forwarders(hosts: Hosts) -> list[Any]:
    return [one for one in hosts.strangers("n1") if "python" in one.info["name"]]


def test_a_node_reaches_the_laptop_through_the_login_node(hosts: Hosts, laptop: Any, node: Any) -> None:
    said = line(laptop())
    assert json.loads(said)[0][0].startswith("tcp://10.77.0.1:")
    agent = node(said)
    for number in range(10):
        assert ask(agent, f"{number}") == f"echo of {number}"


def test_the_line_is_cut_and_nobody_is_told(hosts: Hosts, laptop: Any, node: Any) -> None:
    agent = node(line(laptop()))
    assert ask(agent, "before") == "echo of before"
    hosts.network.cut("n0")
    agent.stdin.write("meanwhile\n")
    agent.stdin.flush()
    wait_for(lambda: not forwarders(hosts), "the end of the forwarder that hears no head")
    hosts.network.heal("n0")
    assert line(agent) == "echo of meanwhile\n"
    assert ask(agent, "after") == "echo of after"


def test_ssh_is_killed(hosts: Hosts, laptop: Any, node: Any) -> None:
    agent = node(line(laptop()))
    for number in range(3):
        (ssh,) = [one for one in hosts.strangers("n0") if one.info["name"] == "ssh"]
        ssh.kill()
        assert ask(agent, f"{number}") == f"echo of {number}"


def test_nothing_is_left_of_a_head_that_is_killed(hosts: Hosts, laptop: Any) -> None:
    before = set(Path("/tmp").glob("heald-*"))
    head = laptop()
    line(head)
    assert forwarders(hosts)
    head.kill()
    head.communicate(timeout=20)
    wait_for(lambda: not forwarders(hosts), "the end of the forwarder")
    assert not [one for one in set(Path("/tmp").glob("heald-*")) - before if one.is_socket()]


def test_through_another_host(hosts: Hosts, laptop: Any, node: Any) -> None:
    agent = node(line(laptop(ssh="ssh -J n3")))
    assert ask(agent, "hello") == "echo of hello"


def test_a_connection_that_the_user_has_open_serves(hosts: Hosts, laptop: Any, node: Any) -> None:
    ssh = "ssh -oControlMaster=auto -oControlPath=/run/own-%C -oControlPersist=60"
    hosts.run("n0", [*ssh.split(), "n1", "true"])
    try:
        agent = node(line(laptop(ssh=ssh)))
        assert ask(agent, "hello") == "echo of hello"
        assert len([one for one in hosts.strangers("n1") if one.info["name"] == "sshd"]) <= 2  # of one connection
    finally:
        hosts.run("n0", [*ssh.split(), "-O", "exit", "n1"])


def test_ssh_asks_the_user_on_the_terminal(hosts: Hosts, laptop: Any, node: Any, tmp_path: Path) -> None:
    answer = """
import os, pty, sys
child, terminal = pty.fork()
if not child:
    os.execvp(sys.argv[1], sys.argv[1:])
asked = b""
while b"continue connecting" not in asked:
    asked += os.read(terminal, 1000)
os.write(terminal, b"yes\\n")
try:
    while said := os.read(terminal, 1000):
        os.write(1, said[said.find(b"[["):] if b"[[" in said else b"")
except OSError:
    pass
"""
    terminal = python(tmp_path, answer, name="terminal.py")
    ssh = "ssh -oStrictHostKeyChecking=ask -oUserKnownHostsFile=/dev/null -oBatchMode=no"
    head = laptop(ssh=ssh, before=tuple(terminal))
    agent = node(line(head))
    assert ask(agent, "hello") == "echo of hello"
    head.terminate()
    head.communicate(timeout=20)


@pytest.mark.parametrize(
    ("host", "ssh", "words"),
    [
        ("nowhere", "ssh", "Could not resolve hostname nowhere"),
        ("n1", "ssh -p 23", "Connection refused"),
        ("n1", "ssh -F/dev/null -oBatchMode=yes", "Host key verification failed"),
    ],
)
def test_the_words_of_ssh(laptop: Any, host: str, ssh: str, words: str) -> None:
    said, _ = laptop(host, ssh).communicate(timeout=30)
    assert f"no relay on {host}: " in said
    assert words in said
    assert f"this must work: ssh {host} true" in said

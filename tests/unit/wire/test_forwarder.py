from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from heald.wire import forwarder, relay
from heald.wire.forwarder import MARK

PATIENCE = "10"


class Far:
    """The program of the far machine, with the head's socket beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "head")
        self.head = socket.socket(socket.AF_UNIX)
        self.head.bind(self.path)
        self.head.listen()
        self.head.settimeout(10)
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, interface: str = "lo", port: int = 0, patience: str = PATIENCE, path: str = ""):
        words = [sys.executable, "-I", "-W", "error", "-c", "exec(eval(input()))", interface, patience]
        process = subprocess.Popen(
            [*words, f"{port}:{path or self.path}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.started.append(process)
        process.stdin.write(ascii(relay._source()).encode() + b"\n")
        return process

    def listening(self, process):
        said = process.stdout.readline().decode()
        assert said.startswith(MARK), process.stderr.read()
        return json.loads(said[len(MARK) :])

    def call(self, port):
        """A connection of an agent, and the head's end of it."""
        agent = socket.create_connection(("127.0.0.1", port), timeout=10)
        head, _ = self.head.accept()
        head.settimeout(10)
        return agent, head

    def close(self):
        for process in self.started:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                stream.close()
        self.head.close()


@pytest.fixture
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    far = Far(tmp_path_factory.mktemp("s"))
    yield far
    far.close()


@pytest.mark.parametrize("name", ["interface", "forwarder"])
def test_python_3_6_understands_it(name):
    source = Path(forwarder.__file__).with_name(f"{name}.py").read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    hints = [node for node in ast.walk(tree) if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "dict"]
    assert not hints, "dict[...] is an error there unless it is within quotes"


def test_it_passes_on_what_comes_both_ways(far):
    said = far.listening(far.start())
    assert said["interfaces"]["lo"] == "127.0.0.1"
    agent, head = far.call(said["ports"][0])
    with agent, head:
        for one, other in ((agent, head), (head, agent)):
            one.sendall(b"hello")
            assert other.recv(100) == b"hello"


def test_it_passes_on_much_at_once(far):
    agent, head = far.call(far.listening(far.start())["ports"][0])
    content = os.urandom(20_000_000)
    with agent, head:
        thread = threading.Thread(target=agent.sendall, args=(content,))
        thread.start()
        got = bytearray()
        while len(got) < len(content):
            got += head.recv(1 << 20)
        thread.join()
        assert got == content


def test_many_at_once(far):
    port = far.listening(far.start())["ports"][0]
    calls = [far.call(port) for _ in range(50)]
    for number, (agent, _) in enumerate(calls):
        agent.sendall(b"%d" % number)
    assert [head.recv(10) for _, head in calls] == [b"%d" % number for number in range(50)]
    for ends in calls:
        for end in ends:
            end.close()


@pytest.mark.parametrize("which", [0, 1])
def test_when_one_side_hangs_up_so_does_the_other(far, which):
    ends = far.call(far.listening(far.start())["ports"][0])
    ends[which].close()
    with ends[1 - which] as left:
        assert left.recv(1) == b""


def test_when_the_head_does_not_listen(far):
    port = far.listening(far.start())["ports"][0]
    far.head.close()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as agent:
        assert agent.recv(1) == b""


def test_it_ends_with_its_connection_to_the_head(far):
    process = far.start()
    agent, head = far.call(far.listening(process)["ports"][0])
    process.stdin.close()
    assert process.wait(10) == 0
    with agent, head:
        assert agent.recv(1) == head.recv(1) == b""
    assert not os.path.exists(far.path)
    assert process.stderr.read() == b""


def test_it_ends_when_the_head_is_not_heard_any_more(far):
    process = far.start(patience="0.5")
    far.listening(process)
    assert process.wait(10) == 0


def test_it_lives_while_the_head_is_heard(far):
    process = far.start(patience="0.5")
    far.listening(process)
    never = threading.Event()
    for _ in range(10):
        process.stdin.write(b"\n")
        never.wait(0.1)
    assert process.poll() is None


def test_a_successor_takes_the_port_when_it_is_free(far):
    first = far.start()
    port = far.listening(first)["ports"][0]
    os.link(far.path, f"{far.path}-2")
    second = far.start(port=port, path=f"{far.path}-2")
    first.stdin.close()
    assert far.listening(second)["ports"][0] == port


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "/nowhere/head"}, "does not forward sockets"),
        ({"interface": "192.0.2.1"}, "cannot assign requested address; it has lo 127.0.0.1"),
        ({"interface": "hsn9"}, "it cannot listen at 'hsn9'"),
    ],
)
def test_what_cannot_be_is_said(far, options, words):
    process = far.start(**options)
    assert process.wait(10) == 1
    said = process.stderr.read().decode()
    assert words in said
    assert "Traceback" not in said

"""The control of a run, served by a loop in a thread of its own as the engine serves it, and called as anybody may."""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from heald.core.errors import HealdError, UsageError
from heald.run import control
from heald.run.control import Control, ask, listens
from heald.run.selector import Selector
from heald.run.timer import Timers


class Loop:
    """Turns like the engine's: `turns` counts them."""

    def __init__(self) -> None:
        self.selector = Selector()
        self.inbox: deque[Callable[[], None]] = deque()
        self.timers = Timers()
        self.turns = 0
        self._ended = False
        self._thread = threading.Thread(target=self._run)

    def post(self, act: Callable[[], None]) -> None:
        self.inbox.append(act)
        self.selector.wake()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.timers.add(seconds, act)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            self.selector.asleep = not self.inbox
            self.selector.wait(self.timers.wait)
            self.turns += 1
            for _ in range(len(self.inbox)):
                self.inbox.popleft()()
            self.timers.ring()

    def end(self, last: Callable[[], None]) -> None:
        def stop() -> None:
            last()
            self._ended = True

        self.post(stop)
        self._thread.join(20)
        self.selector.close()


class Run:
    """A loop with a control that answers with what it was asked, backwards."""

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex
        self.asked: list[bytes] = []
        self.loop = Loop()
        self.control = Control(self.name, self.loop, self.answer)
        self.loop.start()

    def answer(self, body: bytes) -> bytes:
        self.asked.append(body)
        if body == b"refuse":
            raise UsageError("not today", hint="tomorrow")
        if body == b"break":
            raise ZeroDivisionError("oops")
        return body[::-1]

    def ask(self, body: bytes, timeout: float = 20.0) -> bytes:
        return ask(self.name, body, timeout)

    def connect(self) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX)
        channel.settimeout(20)
        channel.connect(f"\0heald-{self.name}")
        return channel

    def close(self) -> None:
        self.loop.end(self.control.close)


@pytest.fixture
def run() -> Iterator[Run]:
    run = Run()
    yield run
    run.close()


def test_one_request_one_answer(run: Run) -> None:
    assert run.ask(b"abc") == b"cba"
    assert run.ask(b"") == b""
    assert run.asked == [b"abc", b""]


def test_long_ones_go_in_parts(run: Run) -> None:
    body = os.urandom(3_000_000)
    assert run.ask(body) == body[::-1]


def test_many_at_once_wait_to_be_let_in(run: Run) -> None:
    idle = [run.connect() for _ in range(control._CALLERS)]
    found: list[bytes] = []
    callers = [threading.Thread(target=lambda: found.append(run.ask(b"abc"))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for channel in idle:
        channel.close()
    for caller in callers:
        caller.join(20)
    assert found == [b"cba"] * 8


def test_the_answer_comes_in_the_turn_after_it_was_done(run: Run) -> None:
    """What the turn wrote into the journal is there when the caller hears of it."""
    run.control._answer = lambda body: str(run.loop.turns).encode()
    done = int(run.ask(b"now"))
    assert run.loop.turns > done


def test_nothing_is_due_until_somebody_calls(run: Run) -> None:
    assert run.loop.timers.wait is None


def test_a_reason_comes_back(run: Run) -> None:
    with pytest.raises(HealdError, match="not today") as caught:
        run.ask(b"refuse")
    assert caught.value.hint == "tomorrow"


def test_a_fault_ends_nothing(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL + 1), pytest.raises(HealdError, match="ZeroDivisionError: oops"):
        run.ask(b"break")
    assert run.ask(b"abc") == b"cba"


def test_nobody_there() -> None:
    with pytest.raises(ConnectionRefusedError):
        ask("nobody", b"abc")
    assert not listens("nobody")


def test_whether_somebody_is_there_disturbs_nobody(run: Run) -> None:
    assert all(listens(run.name) for _ in range(100))
    assert run.ask(b"abc") == b"cba"


def test_a_name_that_is_taken_is_refused(run: Run) -> None:
    with pytest.raises(OSError, match="in use"):
        Control(run.name, run.loop, run.answer)


GARBAGE = {
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "zeros": bytes(1000),
    "long": control._HEAD.pack(control._MAGIC, control.VERSION, 1 << 31),
    "later": control._HEAD.pack(control._MAGIC, control.VERSION + 1, 3) + b"abc",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_at_once(run: Run, garbage: bytes) -> None:
    with run.connect() as channel:
        channel.sendall(garbage)
        reply = control._reply(control._received(channel))
        assert reply.refusal is not None
    assert run.asked == []
    assert run.ask(b"abc") == b"cba"


def test_who_speaks_another_version_is_told(run: Run) -> None:
    with run.connect() as channel:
        channel.sendall(GARBAGE["later"])
        reply = control._reply(control._received(channel))
    assert reply.refusal == (
        "one of us speaks version 2 of the control of runs, the other 1",
        "use the heald that drives the run",
    )


@pytest.mark.parametrize("beginning", [b"", b"h", control._frame(b"abc")[:-1]], ids=["nothing", "a byte", "nearly all"])
def test_who_is_too_slow_is_hung_up_on(beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_PATIENCE", 0.05)
    run = Run()
    try:
        with run.connect() as channel:
            channel.sendall(beginning)
            assert channel.recv(1) == b""
        assert run.asked == []
    finally:
        run.close()


def test_who_does_not_take_the_answer_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(control, "_PATIENCE", 0.3)
    run = Run()
    try:
        with run.connect() as channel:
            channel.sendall(control._frame(bytes(5_000_000)))
            wait_until(lambda: run.asked)
            wait_until(lambda: not run.control._callers)
    finally:
        run.close()


def test_who_has_gone_gets_nothing_done(run: Run) -> None:
    """A run that is busy for longer than the caller waits does not act later, when nobody knows of it."""
    entered, go = threading.Event(), threading.Event()

    def busy() -> None:
        entered.set()
        assert go.wait(20)

    run.loop.post(busy)
    assert entered.wait(20)
    with pytest.raises(HealdError, match=r"does not answer within 0\.05 s; nothing was done"):
        run.ask(b"abc", timeout=0.05)
    go.set()
    assert run.ask(b"def") == b"fed"
    assert run.asked == [b"def"]


def test_a_busy_run_answers_later(run: Run) -> None:
    entered, go = threading.Event(), threading.Event()

    def busy() -> None:
        entered.set()
        assert go.wait(20)

    run.loop.post(busy)
    assert entered.wait(20)
    found: list[bytes] = []
    caller = threading.Thread(target=lambda: found.append(run.ask(b"abc")))
    caller.start()
    assert run.asked == []
    go.set()
    caller.join(20)
    assert found == [b"cba"]


def test_a_run_that_ends_meanwhile(wait_until: Callable[..., None]) -> None:
    run = Run()
    with run.connect() as channel:
        wait_until(lambda: run.control._callers)
        run.close()
        assert channel.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        run.ask(b"abc")
    run.control.close()  # more than once does nothing


def test_strangers_are_not_listened_to(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(control, "_user_of", lambda channel: 1001)
    with run.connect() as channel:
        assert channel.recv(1) == b""
    with pytest.raises(HealdError, match="another user's"):
        run.ask(b"abc")
    assert run.asked == []


def test_root_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(control, "_user_of", lambda channel: 0)
    with run.connect() as channel:
        channel.sendall(control._frame(b"abc"))
        assert control._reply(control._received(channel)).answer == b"cba"


def test_callers_are_known_by_the_system() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert control._user_of(here) == os.geteuid()

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from heald.run.selector import Selector


@pytest.fixture
def selector() -> Iterator[Selector]:
    made = Selector()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


def test_it_may_be_rung_when_it_is_closed() -> None:
    """As by a thread that saw it sleep, and was held up until it had been woken by another and closed."""
    selector = Selector()
    selector.asleep = True
    selector.close()
    selector.wake()
    bell = selector._bell
    os.fstat(bell)  # nothing else has its number
    del selector
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(bell)


def turn(selector: Selector, timeout: float | None = 0.0) -> None:
    selector.asleep = True
    selector.wait(timeout)


def test_calls_who_can_read(selector: Selector, pair: Pair) -> None:
    read: list[bytes] = []
    selector.on_readable(pair[0], lambda: read.append(pair[0].recv(10)))
    turn(selector)
    assert read == []
    pair[1].send(b"news")
    turn(selector, None)
    assert read == [b"news"]


def test_calls_who_can_write_until_told_not_to(selector: Selector, pair: Pair) -> None:
    called: list[str] = []

    def write() -> None:
        called.append("write")
        selector.on_writable(pair[0], None)

    selector.on_readable(pair[0], lambda: called.append("read"))
    selector.on_writable(pair[0], write)
    turn(selector)
    turn(selector)
    pair[1].send(b".")
    turn(selector)
    assert called == ["write", "read"]


def test_one_that_was_forgotten_in_this_turn_is_not_called(selector: Selector, pair: Pair) -> None:
    called: list[str] = []

    def read() -> None:
        called.append("read")
        selector.forget(pair[0])

    selector.on_readable(pair[0], read)
    selector.on_writable(pair[0], lambda: called.append("write"))
    pair[1].send(b".")
    turn(selector)
    turn(selector)
    assert called == ["read"]


def test_forgetting_twice_or_closed_does_nothing(selector: Selector, pair: Pair) -> None:
    selector.on_readable(pair[0], lambda: None)
    selector.forget(pair[0])
    selector.forget(pair[0])
    pair[0].close()
    selector.forget(pair[0])
    turn(selector)


def test_another_thread_ends_the_wait(selector: Selector) -> None:
    selector.asleep = True
    waker = threading.Thread(target=selector.wake)
    waker.start()
    selector.wait(None)
    waker.join()
    assert not selector.asleep


def test_a_wake_before_the_wait_is_not_lost(selector: Selector) -> None:
    selector.asleep = True
    selector.wake()
    selector.wait(None)


def test_it_does_not_wait_when_not_asleep(selector: Selector) -> None:
    selector.asleep = False
    selector.wait(None)


def test_the_clock_is_set_before_anything_is_called(selector: Selector, pair: Pair) -> None:
    """What is heard after a long wait is dated by its end, not by its beginning."""
    order: list[str] = []
    selector.on_readable(pair[0], lambda: order.append("heard"))
    pair[1].send(b"x")
    selector.asleep = True
    selector.wait(None, lambda: order.append("woke"))
    selector.forget(pair[0])
    assert order == ["woke", "heard"]


def test_waking_one_that_is_awake_costs_nothing(selector: Selector, pair: Pair) -> None:
    selector.wake()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(selector._bell)

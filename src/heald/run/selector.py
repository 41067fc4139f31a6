"""Waits for many descriptors at once, and lets other threads interrupt the wait."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from select import EPOLLIN, EPOLLOUT, epoll
from typing import Protocol

_Act = Callable[[], object]


class Channel(Protocol):
    """Something open: a socket, of the system or of ZeroMQ."""

    def fileno(self) -> int:
        """Its descriptor, negative once it is closed."""


class Selector:
    """Calls a function for each descriptor that is ready. Only `wake` may be called from other threads."""

    def __init__(self) -> None:
        self._poll = epoll()  # itself: the module `selectors` around it costs as much again, twice a round trip
        self._acts: dict[int, list[_Act | None]] = {}  # descriptor -> [readable, writable]
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Not before the last who might ring it is gone: by then the number may be that of another's file.
        weakref.finalize(self, os.close, self._bell).atexit = False
        self._poll.register(self._bell, EPOLLIN)
        self.asleep = False

    def on_readable(self, channel: Channel, act: _Act | None) -> None:
        """Call `act` whenever there is something to read; None to stop."""
        self._set(channel.fileno(), 0, act)

    def on_writable(self, channel: Channel, act: _Act | None) -> None:
        """Call `act` whenever there is room to write; None to stop."""
        self._set(channel.fileno(), 1, act)

    def forget(self, channel: Channel) -> None:
        """Stop both."""
        if channel.fileno() >= 0:
            self._set(channel.fileno(), 0, None)
            self._set(channel.fileno(), 1, None)

    def _set(self, descriptor: int, place: int, act: _Act | None) -> None:
        acts = self._acts.get(descriptor, [None, None])
        known = descriptor in self._acts
        acts[place] = act
        mask = (EPOLLIN if acts[0] else 0) | (EPOLLOUT if acts[1] else 0)
        if not mask:
            if known:
                self._poll.unregister(descriptor)
                del self._acts[descriptor]
            return
        self._acts[descriptor] = acts
        if known:
            self._poll.modify(descriptor, mask)
        else:
            self._poll.register(descriptor, mask)

    def wake(self) -> None:
        """End the wait that is going on, if one is."""
        if self.asleep:
            self.asleep = False
            os.eventfd_write(self._bell, 1)

    def wait(self, timeout: float | None, woke: _Act | None = None) -> None:
        """Wait until something is ready, at most `timeout` seconds, call `woke`, and then what there is to call.

        Set `asleep` before the last look at what other threads may have left, and call this then.
        """
        if not self.asleep:
            timeout = 0
        elif timeout is not None:
            timeout = math.ceil(timeout * 1000) / 1000  # it would round down, and wake too soon again and again
        ready = self._poll.poll(timeout)
        self.asleep = False
        if woke is not None:
            woke()
        for descriptor, mask in ready:
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
                continue
            for place, other in ((0, EPOLLOUT), (1, EPOLLIN)):  # the end of a channel is told to both
                acts = self._acts.get(descriptor)
                if mask & ~other and acts is not None and (act := acts[place]) is not None:
                    act()

    def close(self) -> None:
        """Wait no more. Others may still call `wake`."""
        self._poll.close()

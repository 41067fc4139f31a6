"""Waits for many descriptors at once, and lets other threads interrupt the wait."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable

_Act = Callable[[], None]


class Selector:
    """Calls a function for each descriptor that is ready. Only `wake` may be called from other threads."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._acts: dict[int, list[_Act | None]] = {}  # descriptor -> [readable, writable]
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self.asleep = False

    def on_readable(self, channel: socket.socket, act: _Act | None) -> None:
        """Call `act` whenever there is something to read; None to stop."""
        self._set(channel.fileno(), 0, act)

    def on_writable(self, channel: socket.socket, act: _Act | None) -> None:
        """Call `act` whenever there is room to write; None to stop."""
        self._set(channel.fileno(), 1, act)

    def forget(self, channel: socket.socket) -> None:
        """Stop both."""
        if channel.fileno() >= 0:
            self._set(channel.fileno(), 0, None)
            self._set(channel.fileno(), 1, None)

    def _set(self, descriptor: int, place: int, act: _Act | None) -> None:
        acts = self._acts.get(descriptor, [None, None])
        known = descriptor in self._acts
        acts[place] = act
        mask = (selectors.EVENT_READ if acts[0] else 0) | (selectors.EVENT_WRITE if acts[1] else 0)
        if not mask:
            if known:
                self._selector.unregister(descriptor)
                del self._acts[descriptor]
            return
        self._acts[descriptor] = acts
        if known:
            self._selector.modify(descriptor, mask)
        else:
            self._selector.register(descriptor, mask)

    def wake(self) -> None:
        """End the wait that is going on, if one is."""
        if self.asleep:
            self.asleep = False
            os.eventfd_write(self._bell, 1)

    def wait(self, timeout: float | None, woke: _Act | None = None) -> None:
        """Wait until something is ready, at most `timeout` seconds, call `woke`, and then what there is to call.

        Set `asleep` before the last look at what other threads may have left, and call this then.
        """
        ready = self._selector.select(timeout if self.asleep else 0)
        self.asleep = False
        if woke is not None:
            woke()
        for key, mask in ready:
            if key.fd == self._bell:
                os.eventfd_read(self._bell)
                continue
            for place, bit in ((0, selectors.EVENT_READ), (1, selectors.EVENT_WRITE)):
                acts = self._acts.get(key.fd)
                if mask & bit and acts is not None and (act := acts[place]) is not None:
                    act()

    def close(self) -> None:
        """Close what it opened itself."""
        self._selector.close()
        os.close(self._bell)

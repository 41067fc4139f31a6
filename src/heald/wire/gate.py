"""Lets in who has the key: ZeroMQ asks it about every connection that somebody makes (ZAP)."""

from __future__ import annotations

from typing import Any

import zmq
from zmq.utils import z85

_ZAP = "inproc://zeromq.zap.01"  # where ZeroMQ asks (https://rfc.zeromq.org/spec/27/)


class Gate:
    """The gate of all sockets of a context, for who has the secret of the `allowed` public key."""

    def __init__(self, context: zmq.Context[Any], allowed: str) -> None:
        self._allowed = allowed
        self.socket: Any = context.socket(zmq.REP)
        self.socket.bind(_ZAP)

    def admit(self) -> None:
        """Answer all that is asked. To be called whenever its socket is readable."""
        while self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            version, request, _domain, _address, _identity, mechanism, *credentials = self.socket.recv_multipart()
            right = mechanism == b"CURVE" and credentials and z85.encode(credentials[0]).decode() == self._allowed
            status = [b"200", b"OK", b"agent", b""] if right else [b"400", b"not a key of this run", b"", b""]
            self.socket.send_multipart([version, request, *status])

    def close(self) -> None:
        """Let nobody in any more."""
        self.socket.close(0)

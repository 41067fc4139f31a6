"""Records to bytes and back (msgpack), strictly typed: what does not fit the record is refused.

The journal and every connection use these; there is no second shape of anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from heald.core.event import Event

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Event]).decode


def encode(events: Sequence[Event]) -> bytes:
    """Bytes of some events, to be appended together."""
    return _encode(events)


def decode(frame: bytes | memoryview) -> list[Event]:
    """The events in a frame. Raises `msgspec.DecodeError` when it is no such thing."""
    return _decode(frame)

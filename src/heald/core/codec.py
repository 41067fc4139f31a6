"""Records to bytes and back (msgpack), strictly typed: what does not fit the record is refused.

The journal and every connection use these; there is no second shape of anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from heald.core.event import Event, Expanded, Finished, Submitted
from heald.core.ref import Ref
from heald.core.task import Payload

_LIGHT = 1000  # bytes of an event that anybody may keep in memory
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Event]).decode


def encode(events: Sequence[Event]) -> bytes:
    """Bytes of some events, to be appended together."""
    return _encode(events)


def decode(frame: bytes | memoryview) -> list[Event]:
    """The events in a frame. Raises `msgspec.DecodeError` when it is no such thing."""
    return _decode(frame)


def outline(frame: bytes) -> list[Event]:
    """The events in a frame, for whoever only looks at a run: of large values they say how large, and no more.

    So a run of a million tasks takes the same memory whatever its tasks return. Raises as `decode` does.
    """
    events = _decode(frame)
    if len(frame) <= _LIGHT * len(events):  # most frames: there is nothing to gain from looking at each event
        return events
    return [_outlined(event) for event in events]


def _outlined(event: Any) -> Any:
    if isinstance(event, Submitted):
        return replace(event, record=replace(event.record, arguments=_elsewhere(event.record.arguments)))
    if isinstance(event, Expanded):
        return replace(event, shape=_elsewhere(event.shape))
    if not isinstance(event, Finished):
        return event
    if isinstance(event.outcome, Payload):
        return replace(event, outcome=_elsewhere(event.outcome))
    return replace(event, outcome=replace(event.outcome, exception=_elsewhere(event.outcome.exception)))


def _elsewhere(value: Any) -> Any:
    """In the place of a large value, one that says where it is."""
    if value is None or (len(value.data) <= _LIGHT and not value.inputs):
        return value
    return Payload(b"", (Ref("journal:", value.size),))

"""The three shapes of a value between tasks, and the one that travels.

A Payload is pickled; a Joined is the frame of a join with values in its gaps; a Live never left this process.
"""

from __future__ import annotations

from typing import Any

import msgspec

from heald.core.graph import Joined
from heald.core.task import Payload
from heald.data.payload import pack
from heald.run.outcome import Live


def payload_of(value: Any) -> Payload:
    """The value as a Payload. Raises NotPicklable for a live value that cannot travel."""
    if isinstance(value, Payload):
        return value
    if isinstance(value, Joined):
        return msgspec.structs.replace(value.shape, inputs=tuple(map(payload_of, value.values)))
    if isinstance(value, Live):
        content = value.value() if value.lazy else value.value
        return pack(content, None, subject="the value of a task that ran in this process")[0]
    raise TypeError(f"{type(value).__name__} is no value")

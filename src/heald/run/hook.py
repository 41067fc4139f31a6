"""Users' own word on whether a failed attempt is tried again: `retry_if` of a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from heald.core.event import Failure

Hook = Callable[[Failure, int], Any]


def judged(hook: Hook, failure: Failure, attempt: int) -> Failure:
    """The failure as it was when the user wants another try, else as one that is final.

    >>> judged(lambda failure, attempt: attempt < 3, Failure("user", "ValueError: no"), 3).final
    True
    """
    try:
        again = hook(failure, attempt)
    except BaseException as raised:  # sys.exit too: this is the engine's thread, which serves all tasks
        message = f"{failure.message}; its retry hook raised {type(raised).__name__}: {raised}"
        return msgspec.structs.replace(failure, message=message, final=True)
    return failure if again else msgspec.structs.replace(failure, final=True)

"""Round numbers along an axis of time."""

from __future__ import annotations

import math

from heald.core.quantity import duration

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS = (1, 2, 5, 10, 15, 30, *(_MINUTE * n for n in (1, 2, 5, 10, 15, 30)), *(_HOUR * n for n in (1, 2, 3, 6, 12)))


def ticks(seconds: float, most: int) -> list[tuple[float, str]]:
    """Where to mark an axis that is `seconds` long, as shares of it, with labels; at most `most` and one.

    >>> ticks(10, 5)
    [(0.0, '0 s'), (0.2, '2 s'), (0.4, '4 s'), (0.6, '6 s'), (0.8, '8 s'), (1.0, '10 s')]
    >>> [label for _, label in ticks(0.03, 3)], [label for _, label in ticks(400, 4)]
    (['0 s', '10 ms', '20 ms', '30 ms'], ['0 s', '2m 00s', '4m 00s', '6m 00s'])
    """
    if seconds <= 0:
        return []
    step = _step(seconds / most)
    count = math.floor(seconds / step + 1e-9)
    return [(number * step / seconds, _label(number * step, seconds)) for number in range(count + 1)]


def _step(least: float) -> float:
    if least < 1:
        magnitude: float = 10 ** math.floor(math.log10(least))
        return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= least * (1 - 1e-9))
    return next((float(step) for step in _STEPS if step >= least), math.ceil(least / _DAY) * float(_DAY))


def _label(seconds: float, longest: float) -> str:
    return f"{seconds:.3g} s" if longest >= 1 and seconds < _MINUTE else duration(seconds)  # 0.5 s beside 1 s

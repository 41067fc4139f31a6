"""Durations and sizes as people read them; the opposite direction is `core.resources`."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def duration(seconds: float) -> str:
    """A duration in its two largest units.

    >>> duration(0.000456), duration(0.25), duration(12.34), duration(125), duration(7380), duration(200_000)
    ('0.46 ms', '250 ms', '12.3 s', '2m 05s', '2h 03m', '2d 08h')
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.{3 if seconds >= 0.001 else 2}g} ms" if seconds else "0 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}h {minutes % 60:02}m"
    hours = round(seconds / 3600)
    return f"{hours // 24}d {hours % 24:02}h"


def amount(size: int) -> str:
    """A size in bytes.

    >>> amount(0), amount(999), amount(1000), amount(123_456_789), amount(4_500_000_000)
    ('0 B', '999 B', '1 kB', '123 MB', '4.5 GB')
    """
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}"

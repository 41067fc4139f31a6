"""Durations, sizes and times as people read them; the opposite direction is `core.resources`."""

from __future__ import annotations

from datetime import datetime

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_DAY = 86400


def duration(seconds: float) -> str:
    """A duration in its two largest units.

    >>> duration(0.0004), duration(0.25), duration(12.34), duration(125), duration(7380), duration(200_000)
    ('0.4 ms', '250 ms', '12.3 s', '2m 05s', '2h 03m', '2d 08h')
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms" if seconds else "0 s"
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


def moment(time: datetime | None, now: datetime) -> str:
    """A time on this machine's clock, with the date when it is not today's; empty for none.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 5, 4, 12, tzinfo=UTC).astimezone()
    >>> moment(noon, noon) == f"{noon:%H:%M:%S}", moment(noon.replace(day=3), noon) == f"{noon:2026-05-03 %H:%M}"
    (True, True)
    """
    if time is None:
        return ""
    local, today = time.astimezone(), now.astimezone()
    return f"{local:%H:%M:%S}" if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M}"

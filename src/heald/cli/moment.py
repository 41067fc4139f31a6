"""Times as people read them."""

from __future__ import annotations

from datetime import datetime


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

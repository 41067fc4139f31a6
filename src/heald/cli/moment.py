"""Times as people read them."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache


def moment(time: datetime | None, now: datetime) -> str:
    """A time on this machine's clock, with the date when it is not today's; empty for none.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 5, 4, 12, tzinfo=UTC).astimezone()
    >>> moment(noon, noon) == f"{noon:%H:%M:%S}", moment(noon.replace(day=3), noon) == f"{noon:2026-05-03 %H:%M}"
    (True, True)
    """
    return "" if time is None else _clock(time.replace(microsecond=0), now)


@lru_cache(1024)  # the rows of a long table share their seconds
def _clock(time: datetime, now: datetime) -> str:
    local, today = time.astimezone(), now.astimezone()
    return f"{local:%H:%M:%S}" if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M}"

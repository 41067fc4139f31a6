from __future__ import annotations

from datetime import UTC, datetime, timedelta

from heald.cli.moment import moment

NOON = datetime(2026, 5, 4, 12, 30, 1, tzinfo=UTC).astimezone().replace(hour=12)


def test_today_needs_no_date() -> None:
    assert moment(NOON.astimezone(UTC), NOON) == f"{NOON:%H:%M:%S}"


def test_other_days_have_one() -> None:
    assert moment(NOON - timedelta(days=400), NOON).startswith("2025-03-")


def test_nothing_for_what_has_not_happened() -> None:
    assert moment(None, NOON) == ""

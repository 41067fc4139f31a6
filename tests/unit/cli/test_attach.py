"""`heald attach`, of runs that are over; `tests/live/test_detach.py` has those that go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heald.cli import follow


def test_of_a_run_in_a_terminal_it_says_whether_all_is_done(heald: Callable[..., Any], study: Path) -> None:
    result = heald("attach", "run.heald")
    assert result.exit_code == 1, "three tasks failed"
    assert "run.heald was not started by heald run --detach" in result.stderr
    assert result.stdout == ""


def test_an_interrupt_says_how_to_come_back(heald: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(run: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow, "follow", interrupt)
    result = heald("attach", "run.heald")
    assert result.exit_code == 130
    assert "run.heald goes on: heald attach run.heald shows it again" in result.stderr


def test_one_that_there_is_not_is_an_error(heald: Callable[..., Any]) -> None:
    assert "nothing.heald is no run" in heald("attach", "nothing.heald").stderr

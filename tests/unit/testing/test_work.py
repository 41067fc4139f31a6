from __future__ import annotations

from pathlib import Path

import pytest

from heald.testing.work import fail, held, make_generator, touch


def test_fail_raises_the_very_exception() -> None:
    broken = ValueError("broken")
    with pytest.raises(ValueError) as raised:
        fail(broken)
    assert raised.value is broken


def test_touch_gives_the_name(tmp_path: Path) -> None:
    assert touch(tmp_path / "x") == "x"
    assert (tmp_path / "x").exists()


def test_held_goes_on_at_an_open_gate(tmp_path: Path) -> None:
    touch(tmp_path / "gate")
    assert held(tmp_path / "gate") == "let go"


def test_generators_are_fresh() -> None:
    assert list(make_generator()) == list(make_generator()) == [0, 1, 2]

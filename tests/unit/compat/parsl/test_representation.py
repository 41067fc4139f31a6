from __future__ import annotations

import pytest

from heald.compat.parsl.representation import RepresentationMixin, retired


@retired("colour", horizontal="x")
class Point(RepresentationMixin):
    def __init__(self, x: int, y: int = 2, *, name: str = "p") -> None:
        self.x, self.y, self.name = x, y, name


def test_code() -> None:
    assert repr(Point(1)) == "Point(1, name='p', y=2)"
    assert repr(eval(repr(Point(1, name="a" * 90)))) == repr(Point(1, name="a" * 90))


def test_retired() -> None:
    assert repr(Point(horizontal=3, colour="red")) == "Point(3, name='p', y=2)"  # type: ignore[call-arg]


def test_attributes_are_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RepresentationMixin, "_validate_repr", True)
    point = Point(1)
    del point.y
    with pytest.raises(AttributeError, match="uses y"):
        repr(point)

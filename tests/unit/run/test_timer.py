from __future__ import annotations

from heald.run.timer import Timers


def test_what_is_due_is_done_in_order() -> None:
    timers, done = Timers(), list[int]()
    for number in range(3):
        timers.add(0.0, lambda number=number: done.append(number))  # type: ignore[misc]
    timers.ring()
    assert done == [0, 1, 2]
    assert timers.wait is None


def test_what_is_not_due_waits() -> None:
    timers, done = Timers(), list[int]()
    timers.add(3600.0, lambda: done.append(1))
    timers.ring()
    assert done == []
    assert timers.wait is not None
    assert 3500 < timers.wait <= 3600


def test_an_act_may_add_another() -> None:
    timers, done = Timers(), list[str]()

    def first() -> None:
        done.append("first")
        timers.add(0.0, lambda: done.append("second"))

    timers.add(0.0, first)
    timers.ring()
    assert done == ["first", "second"]

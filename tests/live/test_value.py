"""Values on their way: what cannot travel is named, at the right task; what is large or many arrives whole."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

import heald

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.live


def triple(x: int) -> int:
    return 3 * x


def same(value: Any) -> Any:
    return value


def still_works(session: heald.Session) -> bool:
    return [session.submit(triple, x).result(10) for x in range(5)] == [0, 3, 6, 9, 12]


# -- what cannot travel ----------------------------------------------------------------------------------------------


def test_a_function_that_cannot_travel(session: heald.Session) -> None:
    lock = threading.Lock()

    def guarded() -> None:
        with lock:
            pass

    with pytest.raises(heald.NotPicklable, match=r"the function guarded cannot be pickled: .*lock") as caught:
        session.submit(guarded)
    assert "inside the function" in caught.value.hint
    assert still_works(session)


def test_an_argument_that_cannot_travel(session: heald.Session) -> None:
    with pytest.raises(
        heald.NotPicklable, match=r"argument 2 of max cannot be pickled: its part \['x'\]\[1\] \(a .*lock"
    ):
        session.submit(max, 1, {"x": [0, threading.Lock()]})
    with pytest.raises(heald.NotPicklable, match=r"argument where of triple cannot be pickled"):
        session.submit(triple, where=(x for x in "generator"))
    assert still_works(session)


def test_a_result_that_cannot_travel(session: heald.Session) -> None:
    def lock() -> Any:
        import threading

        return {"a": 1, "b": [threading.Lock()]}

    with pytest.raises(
        heald.ResultError, match=r"the value that lock returned cannot be pickled: its part \['b'\]\[0\]"
    ):
        session.submit(lock).result(10)
    assert still_works(session)


def test_a_result_that_cannot_be_loaded_fails_its_future_only(session: heald.Session) -> None:
    def make(kind: str) -> Any:
        import sys
        import types

        class Late:
            def __reduce__(self) -> Any:
                return exec, ("raise ValueError('mine')",)

        if kind == "ValueError":
            return Late()
        module = sys.modules["only_in_the_worker"] = types.ModuleType("only_in_the_worker")
        exec("class Stranger: pass", vars(module))
        return module.Stranger()

    before = [session.submit(triple, x) for x in range(10)]
    futures = {error: session.submit(make, error) for error in ("ValueError", "ModuleNotFoundError")}
    after = [session.submit(triple, x) for x in range(10)]
    for error, future in futures.items():
        with pytest.raises(heald.ResultError, match="the value cannot be unpickled here") as caught:
            future.result(10)
        assert type(caught.value.__cause__).__name__ == error
        assert isinstance(future.exception(0), heald.ResultError)
    assert [one.result(10) for one in (*before, *after)] == [*range(0, 30, 3)] * 2
    dependent = session.submit(same, futures["ValueError"])
    with pytest.raises(ValueError, match="mine"):
        dependent.result(10)
    assert still_works(session)


def test_an_argument_that_cannot_be_loaded_fails_its_task_only(session: heald.Session) -> None:
    class Late:
        def __reduce__(self) -> Any:
            return exec, ("raise ValueError('mine')",)

    with pytest.raises(ValueError, match="mine"):
        session.submit(same, Late()).result(10)
    assert still_works(session)


# -- exceptions ------------------------------------------------------------------------------------------------------


def test_an_exception_comes_back_as_it_was(session: heald.Session) -> None:
    def fail() -> None:
        try:
            dict[str, int]()["missing"]
        except KeyError as error:
            raise ValueError("mine", 3) from error

    with pytest.raises(ValueError, match="mine") as caught:
        session.submit(fail).result(10)
    assert caught.value.args == ("mine", 3)
    assert isinstance(caught.value.__cause__, KeyError)
    functions = [entry.name for entry in caught.traceback]
    assert functions[-1] == "fail", "the remote traceback is a real one"
    assert any("in task fail#1" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("kind", ["lock", "constructor", "str", "local"])
def test_an_exception_that_cannot_travel_is_told(kind: str, session: heald.Session) -> None:
    def fail(kind: str) -> None:
        import threading

        class LocalError(Exception):
            def __init__(self, *given: Any) -> None:
                super().__init__("the message")
                if kind == "constructor" and given == ("the message",):
                    raise TypeError("it is made from its message when it is loaded, and wants something else")
                self.held = threading.Lock() if kind == "lock" else None

            def __str__(self) -> str:
                if kind == "str":
                    raise RuntimeError("no words")
                return "the message"

        raise LocalError(1, 2)

    future = session.submit(fail, kind)
    raised = future.exception(10)
    assert raised is not None
    shown = "\n".join([f"{type(raised).__name__}: {raised!r}", *getattr(raised, "__notes__", ())])
    assert "LocalError" in shown
    assert "fail" in shown
    assert kind == "str" or "the message" in shown
    assert isinstance(raised, heald.TaskError) == (kind == "lock")
    assert still_works(session)


def test_an_exception_with_much_in_it(session: heald.Session) -> None:
    def fail() -> None:
        raise ValueError("x" * 10_000_000)

    with pytest.raises(ValueError) as caught:
        session.submit(fail).result(10)
    assert len(caught.value.args[0]) == 10_000_000


# -- many and large --------------------------------------------------------------------------------------------------


def test_ten_thousand_arguments(session: heald.Session) -> None:
    def count(*args: int, **kwargs: int) -> int:
        return sum(args) + sum(kwargs.values())

    ones = {f"x{number}": 1 for number in range(10_000)}
    assert session.submit(count, *([1] * 10_000), **ones).result(10) == 20_000


def test_ten_thousand_futures_as_arguments(session: heald.Session) -> None:
    def total(values: list[int]) -> int:
        return sum(values)

    assert session.submit(total, [session.submit(triple, 1) for _ in range(10_000)]).result(30) == 30_000


def test_deep_nesting(session: heald.Session) -> None:
    def nest(depth: int) -> Any:
        value: Any = "core"
        for _ in range(depth):
            value = [value]
        return value

    assert session.submit(same, nest(200)).result(10) == nest(200)
    with pytest.raises(heald.NotPicklable, match=r"argument 1 of same cannot be pickled: it is nested too deeply"):
        session.submit(same, nest(100_000))
    with pytest.raises(
        heald.ResultError, match=r"the value that nest returned cannot be pickled: it is nested too deeply"
    ):
        session.submit(nest, 100_000).result(10)
    assert still_works(session)


@pytest.mark.parametrize("kind", ["bytes", "array", "list"])
def test_huge_values(kind: str, session: heald.Session) -> None:
    def grow(value: Any) -> Any:
        return np.concatenate([value, value]) if hasattr(value, "dtype") else value + value

    value: Any = {"bytes": b"x" * 100_000_000, "array": np.ones(12_500_000), "list": [b"x" * 1000] * 100_000}[kind]
    result = session.submit(grow, value).result(60)
    assert len(result) == 2 * len(value)
    assert type(result) is type(value)
    if kind == "array":
        assert result.sum() == 25_000_000
    else:
        assert result[-1] == value[-1]


# -- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_an_array_can_be_written_to_on_both_sides(size: int, session: heald.Session) -> None:
    def change(array: Any) -> Any:
        array[:] += 1
        return array

    mine = np.zeros(size)
    changed = session.submit(change, mine).result(10)
    assert mine.sum() == 0, "the caller's own is as it was"
    changed[:] *= 2
    assert changed.sum() == 2 * size
    assert session.submit(change, changed).result(10).sum() == 3 * size


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_an_array_counts_as_it_was_at_submit(size: int, session: heald.Session) -> None:
    def total(array: Any, *_: Any) -> float:
        return float(array.sum())

    def wait(seconds: float) -> None:
        import time

        time.sleep(seconds)

    array = np.ones(size)
    late = session.submit(total, array, session.submit(wait, 0.2))
    array[:] = 5
    assert late.result(10) == size
    assert session.submit(total, array).result(10) == 5 * size


def test_what_one_task_writes_into_an_array_no_other_sees(session: heald.Session) -> None:
    def change(array: Any, number: int) -> tuple[float, float]:
        before = float(array.sum())
        array[:] = number
        return before, float(array.sum())

    array = np.ones(1_000_000)
    shared = session.submit(same, array)
    for given in (array, shared):
        results = [session.submit(change, given, number).result(10) for number in range(2, 12)]
        assert results == [(1_000_000, 1_000_000 * number) for number in range(2, 12)]
    assert shared.result(10).sum() == 1_000_000


def test_one_array_for_many_tasks(session: heald.Session) -> None:
    def part(array: Any, number: int) -> float:
        return float(array[number])

    array = np.arange(5_000_000.0)
    assert [one.result(30) for one in [session.submit(part, array, x) for x in range(100)]] == [*map(float, range(100))]


def test_an_array_that_a_task_keeps_stays_whole(session: heald.Session) -> None:
    """Memory that came with an attempt is reused only when nothing looks at it any more."""

    def keep(array: Any) -> int:
        import sys

        kept = sys.modules.setdefault("kept_by_the_test", {})  # type: ignore[arg-type]
        wrong = sum(1 for number, old in kept.items() if old[0] != number or old[-1] != number)
        kept[int(array[0])] = array
        return wrong

    assert [session.submit(keep, np.full(300_000, float(x))).result(10) for x in range(60)] == [0] * 60


def test_a_value_outlives_its_session() -> None:
    def make() -> Any:
        import numpy as np

        return np.ones(1_000_000)

    with heald.Session([heald.ProcessExecutor(workers=1)], memo=None) as session:
        first, second = session.submit(make), session.submit(make)
        array = first.result(10)
    assert array.sum() == 1_000_000
    assert second.result(0).sum() == 1_000_000
    array[:] = 2
    assert array.sum() == 2_000_000


def test_values_of_every_kind_of_array(session: heald.Session) -> None:
    arrays = [
        np.arange(200_000).reshape(400, 500).T,
        np.arange(200_000)[::7],
        np.array(["text", "mehr"], dtype=object),
        np.zeros(0),
        np.array(3.0),
        np.zeros(100_000, dtype=[("x", "f8"), ("y", "i4")]),
        np.asfortranarray(np.ones((300, 400))),
    ]
    for array, back in zip(arrays, session.submit(same, arrays).result(10), strict=True):
        assert back.dtype == array.dtype
        assert np.array_equal(back, array)


# -- ways to ask -----------------------------------------------------------------------------------------------------


def test_a_failure_is_the_same_however_it_is_asked_for(session: heald.Session) -> None:
    def fail() -> Any:
        raise ValueError("mine")

    future = session.submit(fail)

    async def ask() -> Any:
        return await future

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(ask())
    assert isinstance(future.exception(10), ValueError)
    alone: Any = [future]
    assert list(heald.as_completed(alone)) == [future]
    with pytest.raises(ValueError, match="mine"):
        future["item"].result(10)


def test_a_file_where_a_value_was_expected(session: heald.Session, tmp_path: Path) -> None:
    with pytest.raises(heald.StagingError, match="nowhere"):
        session.submit(same, heald.File(tmp_path / "nowhere")).result(10)
    assert still_works(session)

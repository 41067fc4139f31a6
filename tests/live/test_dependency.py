"""Futures as arguments: wherever they stand, whatever becomes of them, and whoever made them."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import heald

pytestmark = pytest.mark.live

EXECUTORS = [heald.ProcessExecutor(workers=1), heald.ThreadExecutor(workers=1)]


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True)
class Settings:
    name: str
    size: Any


def triple(x: int) -> int:
    return 3 * x


def same(value: Any) -> Any:
    return value


def fail(text: str = "mine") -> Any:
    raise ValueError(text)


def add(*values: Any) -> Any:
    return sum(values)


# -- where they stand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", EXECUTORS, ids=lambda one: one.label)
def test_futures_in_every_container(executor: Any) -> None:
    with heald.Session([executor], memo=None) as session:
        one, two = session.submit(triple, 1), session.submit(triple, 2)
        given = {
            "list": [one, [two]],
            "tuple": (one, (two, 0)),
            "set": {one, 5},
            "frozenset": frozenset([two]),
            "dict": {"a": one, one: "key"},
            "named": Pair(one, [two]),
            "dataclass": Settings("x", one),
            "same": [one, one],
        }
        assert session.submit(same, given).result(10) == {
            "list": [3, [6]],
            "tuple": (3, (6, 0)),
            "set": {3, 5},
            "frozenset": frozenset([6]),
            "dict": {"a": 3, 3: "key"},
            "named": Pair(3, [6]),
            "dataclass": Settings("x", 3),
            "same": [3, 3],
        }
        assert session.submit(add, one, *[two, 1]).result(10) == 10
        assert session.submit(same, value=one).result(10) == 3


def test_what_the_caller_gave_stays_the_callers(session: heald.Session) -> None:
    """Parsl puts values into the caller's own `inputs` list, and sees what is appended to it after the call."""

    @heald.task
    def total(inputs: list[Any]) -> Any:
        return sum(inputs)

    one, two = session.submit(triple, 1), session.submit(triple, 2)
    inputs: list[Any] = [one, two]
    late = total.submit(inputs=inputs)
    inputs.append(100)
    assert late.result(10) == 9
    assert inputs[:2] == [one, two]


def test_items_of_a_value_that_is_not_there_yet(session: heald.Session) -> None:
    def table() -> dict[str, Any]:
        return {"rows": [1, 2, {"x": 5}], "name": "n"}

    future = session.submit(table)
    assert session.submit(triple, future["rows"][2]["x"]).result(10) == 15
    assert future["name"].result(10) == "n"
    with pytest.raises(KeyError, match="nmae"):
        future["nmae"].result(10)
    with pytest.raises(KeyError, match="nmae"):
        session.submit(triple, future["nmae"]).result(10)
    with pytest.raises(AttributeError):  # a typing error is one at once, not later in another task
        future.resullt  # type: ignore[attr-defined]


def test_a_chain_and_a_fan(session: heald.Session) -> None:
    future = session.submit(same, 0)
    for _ in range(2000):
        future = session.submit(add, 1, future)
    assert future.result(30) == 2000
    assert session.submit(sum, [session.submit(triple, future) for _ in range(500)]).result(30) == 3_000_000


# -- when one fails --------------------------------------------------------------------------------------------------


def test_a_failure_goes_down_the_chain_with_its_names(session: heald.Session, tmp_path: Path) -> None:
    def touch(_: Any, file: str) -> None:
        open(file, "w").close()

    root = session.submit(fail)
    middle = session.submit(same, [root])
    end = session.submit(touch, middle, str(tmp_path / "ran"))
    other = session.submit(triple, 1)
    with pytest.raises(heald.DependencyError, match=r"touch#3: fail#1 failed: ValueError: mine") as caught:
        end.result(10)
    assert caught.value.chain == ("touch#3", "same#2", "fail#1")
    assert any("fail#1 <- same#2 <- touch#3" in note for note in caught.value.__notes__)
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert cause.args == ("mine",)
    assert cause.__traceback__ is not None
    assert isinstance(middle.exception(10), heald.DependencyError)
    assert isinstance(root.exception(10), ValueError)
    assert other.result(10) == 3
    assert not (tmp_path / "ran").exists()


def test_a_task_of_what_has_failed_already_fails_at_once(session: heald.Session) -> None:
    root = session.submit(fail)
    assert isinstance(root.exception(10), ValueError)
    with pytest.raises(heald.DependencyError) as caught:
        session.submit(triple, root).result(10)
    assert caught.value.chain == ("triple#2", "fail#1")
    assert isinstance(caught.value.__cause__, ValueError)


def test_one_of_several_failures_is_told(session: heald.Session) -> None:
    bad, good = session.submit(fail, "one"), session.submit(triple, 1)
    worse = session.submit(fail, "two")
    with pytest.raises(heald.DependencyError, match=r"ValueError: (one|two)"):
        session.submit(add, good, bad, worse).result(10)
    assert good.result(10) == 3


def test_a_long_chain_fails_from_its_root(session: heald.Session) -> None:
    future = session.submit(fail)
    for _ in range(5000):
        future = session.submit(same, future)
    with pytest.raises(heald.DependencyError) as caught:
        future.result(30)
    assert len(caught.value.chain) < 20
    assert caught.value.chain[0] == "same#5001"
    assert caught.value.chain[-1] == "fail#1"
    assert isinstance(caught.value.__cause__, ValueError)


def test_retries_of_a_parent_come_before_the_failure_of_a_child(session: heald.Session, tmp_path: Path) -> None:
    @heald.task(retries=2)
    def third_time(file: str) -> int:
        import os

        with open(file, "a") as stream:
            stream.write("x")
        if os.path.getsize(file) < 3:
            raise ValueError
        return 3

    assert session.submit(triple, third_time.submit(str(tmp_path / "tries"))).result(10) == 9


def test_an_inner_failure_fails_the_join(session: heald.Session) -> None:
    @heald.join
    def inner(deep: int) -> Any:
        return [session.submit(triple, 1), inner.submit(deep - 1) if deep else session.submit(fail)]

    with pytest.raises(heald.DependencyError, match="ValueError: mine") as caught:
        inner.submit(2).result(10)
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.chain[0] == "inner#1"
    assert caught.value.chain[-1].startswith("fail#")


def test_a_join_of_tasks_that_end_when_it_does(session: heald.Session) -> None:
    @heald.join
    def pair(x: int) -> Any:
        one = session.submit(triple, x)
        return [one, session.submit(triple, one)]

    joined = [pair.submit(x) for x in range(300)]
    assert [one.result(20) for one in joined] == [[3 * x, 9 * x] for x in range(300)]


# -- cycles ----------------------------------------------------------------------------------------------------------


def test_a_join_that_returns_what_waits_for_it(session: heald.Session) -> None:
    given: concurrent.futures.Future[Any] = concurrent.futures.Future()

    @heald.join
    def snake() -> Any:
        return [session.submit(triple, 1), given.result(10)]

    head = snake.submit()
    body = session.submit(same, head)
    tail = session.submit(same, body)
    stranger = session.submit(triple, 2)
    given.set_result(tail)
    with pytest.raises(heald.CycleError, match=r"snake#1: it returned the future of same#\d, which waits for it"):
        head.result(10)
    assert isinstance(tail.exception(10), heald.HealdError)
    assert stranger.result(10) == 6


def test_a_join_that_returns_its_own_future(session: heald.Session) -> None:
    own: concurrent.futures.Future[Any] = concurrent.futures.Future()

    @heald.join
    def snake() -> Any:
        return own.result(10)

    future = snake.submit()
    own.set_result(future)
    with pytest.raises(heald.CycleError, match="snake#1"):
        future.result(10)


def test_waiting_inside_of_a_callback_is_an_error(session: heald.Session) -> None:
    heard: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def wait(_: Any) -> None:
        try:
            heard.set_result(session.submit(triple, 2).result())
        except heald.UsageError as error:
            heard.set_exception(error)

    def slow() -> None:
        import time

        time.sleep(0.1)  # so that the callback is there before the end, and runs where it may not wait

    session.submit(slow).add_done_callback(wait)
    with pytest.raises(heald.UsageError, match="inside a callback would never end"):
        heard.result(10)
    assert session.submit(triple, 3).result(10) == 9


def test_a_callback_that_raises_harms_nobody(session: heald.Session, caplog: pytest.LogCaptureFixture) -> None:
    future = session.submit(triple, 1)
    future.add_done_callback(lambda over: 1 / 0)
    assert session.submit(triple, future).result(10) == 9
    assert [session.submit(triple, x).result(10) for x in range(3)] == [0, 3, 6]
    assert "ZeroDivisionError" in caplog.text


def test_a_task_that_submits_tasks_is_told_what_to_do(session: heald.Session) -> None:
    def submit() -> Any:
        import heald

        return heald.task(abs).submit(-1).result()

    with pytest.raises(heald.UsageError, match="a task cannot submit tasks"):
        session.submit(submit).result(10)


# -- futures of others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", EXECUTORS, ids=lambda one: one.label)
def test_a_future_of_another_executor(executor: Any) -> None:
    gate: concurrent.futures.Future[int] = concurrent.futures.Future()
    with concurrent.futures.ThreadPoolExecutor(2) as pool, heald.Session([executor], memo=None) as session:
        late = pool.submit(lambda: triple(gate.result(10)))
        early = pool.submit(triple, 5)
        found = session.submit(add, late, early)
        nested = session.submit(same, {"x": [late, (early,)]})
        assert not found.done()
        assert "future#1" in found.explain()
        gate.set_result(1)
        assert found.result(10) == 18
        assert nested.result(10) == {"x": [3, (15,)]}


def test_a_future_of_another_executor_that_fails(session: heald.Session) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        failed = session.submit(same, pool.submit(fail))
        with pytest.raises(heald.DependencyError, match=r"future#1 failed: ValueError: mine") as caught:
            failed.result(10)
        assert isinstance(caught.value.__cause__, ValueError)
    stuck: concurrent.futures.Future[int] = concurrent.futures.Future()
    cancelled = session.submit(triple, stuck)
    assert stuck.cancel()
    with pytest.raises(heald.TaskCancelled, match="was cancelled: in the executor that it came from"):
        cancelled.result(10)
    assert session.submit(triple, 1).result(10) == 3


def test_a_future_of_another_executor_whose_value_cannot_travel(session: heald.Session) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(heald.ResultError, match="lock"):
        session.submit(same, pool.submit(threading.Lock)).result(10)
    assert session.submit(triple, 1).result(10) == 3


def test_a_join_may_return_futures_of_another_executor(session: heald.Session) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        @heald.join
        def mixed() -> Any:
            return [pool.submit(triple, 1), session.submit(triple, 2), 3]

        @heald.join
        def single() -> Any:
            return pool.submit(triple, 7)

        assert mixed.submit().result(10) == [3, 6, 3]
        assert single.submit().result(10) == 21


def test_a_session_does_not_wait_for_a_future_that_it_cancels() -> None:
    never: concurrent.futures.Future[int] = concurrent.futures.Future()
    session = heald.Session([heald.ProcessExecutor(workers=1)], memo=None).start()
    waiting = session.submit(triple, never)
    session.close(cancel=True)
    assert waiting.cancelled()
    never.set_result(1)  # its callback finds nobody


def test_a_future_of_another_session(session: heald.Session) -> None:
    with heald.Session([heald.ThreadExecutor(workers=1)], memo=None) as other:
        stranger = other.submit(triple, 1)
        with pytest.raises(heald.UsageError, match=r"belongs to another session"):
            session.submit(triple, stranger)
        assert session.submit(triple, stranger.result(10)).result(10) == 9

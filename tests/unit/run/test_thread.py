from __future__ import annotations

import dataclasses
import threading
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import pytest

import heald
from heald.run.future import Future
from heald.run.thread import ThreadExecutor, futures_in, replaced

Pair = namedtuple("Pair", "left right")


@dataclasses.dataclass(frozen=True)
class Deck:
    name: str
    lines: Any
    count: int = dataclasses.field(init=False, default=0)


class Owner:
    logs = None


def future(task: int) -> Future[Any]:
    return Future(Owner(), task, "one")  # type: ignore[arg-type]


def number(one: Any) -> int:
    return int(one.task)


class TestReplaced:
    @pytest.mark.parametrize(
        "value", [3, "text", [1, [2]], {"a": {1}}, Pair(1, 2), Deck("a", [1]), frozenset({1}), Deck]
    )
    def test_what_has_no_future_is_kept(self, value: object) -> None:
        assert replaced(value, number) is value

    def test_futures_anywhere(self) -> None:
        one, two = future(1), future(2)
        value = [one, (two, [one]), {"a": one, two: 5}, {one}, frozenset({two}), Pair(one, 0), Deck("a", (two,))]
        expected = [1, (2, [1]), {"a": 1, 2: 5}, {1}, frozenset({2}), Pair(1, 0), Deck("a", (2,))]
        assert replaced(value, number) == expected
        assert replaced(one, number) == 1

    def test_parts_without_one_are_kept(self) -> None:
        part = [1, 2]
        found = replaced([part, future(1)], number)
        assert found[0] is part

    def test_futures_in(self) -> None:
        one, two = future(1), future(2)
        assert futures_in([one, {"a": two}, one]) == [one, two]
        assert futures_in(7) == []

    def test_a_list_in_itself(self) -> None:
        endless: list[Any] = [future(1)]
        endless.append(endless)
        assert [one.task for one in futures_in(endless)] == [1]


class TestSettings:
    def test_are_kept(self) -> None:
        made = ThreadExecutor(3, label="io")
        assert (made.workers, made.label) == (3, "io")
        assert repr(made) == "heald.ThreadExecutor(workers=3, label='io')"

    @pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2", None])
    def test_that_cannot_be_are_refused(self, workers: Any) -> None:
        with pytest.raises(heald.ConfigurationError, match="workers="):
            ThreadExecutor(workers)


@pytest.fixture
def session() -> Iterator[heald.Session]:
    with heald.Session([ThreadExecutor(2)], memo=None) as session:
        yield session


def test_tasks_run_in_threads_of_this_process(session: heald.Session) -> None:
    found = session.submit(threading.current_thread).result()
    assert found.name.startswith("heald-thread-")
    assert found in threading.enumerate()


def test_no_more_run_at_the_same_time_than_there_are_workers(session: heald.Session) -> None:
    meet = threading.Barrier(2)
    running: list[int] = []
    most: list[int] = []

    def enter(number: int) -> int:
        running.append(number)
        most.append(len(running))
        meet.wait(30)
        running.remove(number)
        return number

    futures = [session.submit(enter, number) for number in range(10)]
    assert [one.result() for one in futures] == list(range(10))
    assert max(most) == 2


def test_where_no_more_threads_can_be_started_one_does_it_all(
    session: heald.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the script has ended, with Python 3.12."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    joined = heald.join(lambda: [session.submit(abs, -number) for number in range(5)]).submit()
    assert joined.result() == [0, 1, 2, 3, 4]
    assert len({session.submit(threading.get_ident).result() for _ in range(5)}) == 1


def test_arguments_that_contain_themselves(session: heald.Session) -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert session.submit(len, endless).result() == 1


def test_a_walltime_is_refused_at_the_call(session: heald.Session) -> None:
    with pytest.raises(heald.UsageError, match="a walltime needs a process"):
        heald.task(walltime=5)(len).submit([])
    with pytest.raises(heald.UsageError, match="a command needs a process"):
        heald.command(lambda: "true").submit()


def test_ranks_are_refused_at_the_call(session: heald.Session) -> None:
    with pytest.raises(heald.UsageError, match="len: ranks=2 needs a process, and executor 'thread' runs threads"):
        heald.task(ranks=2)(len).submit([])


def test_the_thread_of_a_task_that_fails_goes_on(session: heald.Session) -> None:
    def leave() -> None:
        raise SystemExit(3)

    for call in (heald.task(leave), heald.join(leave)):
        with pytest.raises(heald.TaskError, match=r"it called sys.exit\(3\)"):  # and the caller does not end
            call.submit().result()
    assert [session.submit(abs, -1).result() for _ in range(5)] == [1] * 5


class TestJoins:
    def test_a_value_without_futures(self, session: heald.Session) -> None:
        assert heald.join(lambda: {"a": 1}).submit().result() == {"a": 1}

    def test_one_future(self, session: heald.Session) -> None:
        assert heald.join(lambda: session.submit(abs, -1)).submit().result() == 1

    def test_futures_in_a_frame(self, session: heald.Session) -> None:
        def body() -> Any:
            return {"all": [session.submit(abs, -number) for number in range(3)], "none": None}

        assert heald.join(body).submit().result() == {"all": [0, 1, 2], "none": None}

    def test_more_joins_than_threads_may_wait(self, session: heald.Session) -> None:
        def down(depth: int) -> Any:
            return heald.join(down).submit(depth - 1) if depth else session.submit(abs, -7)

        assert heald.join(down).submit(30).result() == 7

    def test_a_body_that_raises(self, session: heald.Session) -> None:
        with pytest.raises(ZeroDivisionError):
            heald.join(lambda: 1 / 0).submit().result()

    def test_what_it_returns_must_travel(self, session: heald.Session) -> None:
        with pytest.raises(heald.NotPicklable, match="what the join returned"):
            heald.join(lambda: [threading.Lock()]).submit().result()

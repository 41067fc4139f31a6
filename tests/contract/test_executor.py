"""The contract of executors, over ours and the standard library's: it is theirs, and ours keep it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import importlib
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests import guest

import heald
from heald.testing.executor import ExecutorContract, Gate
from heald.testing.work import add, echo, fail, held, make_generator, touch


class Awkward(Exception):
    """Its constructor cannot be called with its `args`."""

    def __init__(self, where: str, line: int) -> None:
        super().__init__(f"{where}:{line}")
        self.line = line


class Final(BaseException):
    """Not an Exception, and of a module that no worker can import."""


@dataclasses.dataclass
class Deck:
    name: str
    lines: list[Any]


def give(value: Any) -> Any:
    """Like `echo`, of this module, which no worker can import: it travels by value, and so do its classes."""
    return value


def throw(kind: type[BaseException], *args: Any) -> None:
    raise kind(*args)


class TestThreadPoolExecutor(ExecutorContract):
    test_what_cannot_travel_fails_alone = None  # type: ignore[assignment]  # nothing travels
    test_map_refuses_a_chunksize_below_one = None  # type: ignore[assignment]  # it has no chunks

    @pytest.fixture
    def executor(self) -> Iterator[concurrent.futures.Executor]:
        with concurrent.futures.ThreadPoolExecutor(self.workers) as executor:
            yield executor


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestProcessPoolExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Iterator[concurrent.futures.Executor]:
        # To fork is quicker by far, and safe here: no other thread does anything.
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(self.workers, context) as executor:
            yield executor


class Ours(ExecutorContract):
    """What executors of heald do beyond the standard library."""

    address = ""  # of a cluster that runs already

    @pytest.fixture
    def executor(self) -> Iterator[concurrent.futures.Executor]:
        with self.make() as executor:
            yield executor

    def make(self) -> heald.ThreadExecutor | heald.ProcessExecutor | heald.ClusterExecutor:
        raise NotImplementedError

    def test_futures_stand_for_their_values(self, executor: concurrent.futures.Executor) -> None:
        one = executor.submit(echo, 1)
        nested = {"a": [one, (one,)], "deck": Deck("lj", [one])}
        assert executor.submit(give, nested).result() == {"a": [1, (1,)], "deck": Deck("lj", [1])}
        assert executor.submit(add, one, executor.submit(add, one, one)).result() == 3

    def test_a_failed_argument_fails_the_call(self, executor: concurrent.futures.Executor) -> None:
        failed = executor.submit(fail, ValueError("broken"))
        with pytest.raises(heald.DependencyError, match="broken") as raised:
            executor.submit(echo, [failed]).result()
        assert raised.value.chain == ("echo#2", "fail#1")

    def test_futures_are_awaitable(self, executor: concurrent.futures.Executor) -> None:
        async def use() -> Any:
            return await executor.submit(echo, 1)  # type: ignore[misc]

        assert asyncio.run(use()) == 1

    def test_exceptions_of_any_class_keep_it(self, executor: concurrent.futures.Executor) -> None:
        awkward = executor.submit(throw, Awkward, "deck.in", 3).exception()
        assert type(awkward) is Awkward
        assert awkward.args == ("deck.in:3",)
        assert awkward.line == 3
        assert type(executor.submit(throw, Final, "f").exception()) is Final

    def test_exceptions_keep_their_cause(self, executor: concurrent.futures.Executor) -> None:
        def chained() -> None:
            try:
                fail(KeyError("k"))
            except KeyError as missing:
                raise ValueError("no k") from missing

        found = executor.submit(chained).exception()
        assert isinstance(found, ValueError)
        assert repr(found.__cause__) == "KeyError('k')"

    def test_tasks_find_what_the_program_was_called_with(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def argv() -> list[str]:
            import sys

            return sys.argv

        called = ["study.py", "--steps", "3", os.fsdecode(b"\xff.in")]
        monkeypatch.setattr(sys, "argv", called)
        with self.make() as executor:
            assert executor.submit(argv).result() == called

    def test_modules_are_found_where_the_program_finds_them_by_then(
        self, executor: concurrent.futures.Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def late() -> Any:
            return importlib.import_module("found_late").where()

        assert executor.submit(echo, 1).result() == 1
        (tmp_path / "found_late.py").write_text(
            "def where():\n    return __file__\n\nclass Loom:\n    def __init__(self, n):\n        self.threads = n\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        try:
            assert executor.submit(late).result() == str(tmp_path / "found_late.py")
            found = importlib.import_module("found_late")
            assert executor.submit(found.where).result() == str(tmp_path / "found_late.py")
            assert executor.submit(echo, found.Loom(3)).result().threads == 3, "of all functions, also earlier ones"
        finally:
            sys.modules.pop("found_late")

    def test_a_running_task_says_so(
        self, executor: concurrent.futures.Executor, gate: Callable[[], Gate], wait_until: Callable[..., None]
    ) -> None:
        one = gate()
        future = executor.submit(held, one.path)
        one.wait_entered()
        wait_until(future.running)
        one.open()
        future.result(30)
        assert not future.running()

    def test_a_running_task_can_be_cancelled(
        self, executor: concurrent.futures.Executor, gate: Callable[[], Gate]
    ) -> None:
        one = gate()
        future = executor.submit(held, one.path)
        after = executor.submit(echo, [future])
        one.wait_entered()
        assert future.cancel()
        for over in (future, after):
            with pytest.raises(heald.TaskCancelled):
                over.result(30)

    def test_shutdown_cancels_all_that_waits(self, executor: concurrent.futures.Executor, busy: list[Gate]) -> None:
        pending = [executor.submit(echo, number) for number in range(5)]
        executor.shutdown(wait=False, cancel_futures=True)
        concurrent.futures.wait(pending, 30)
        assert all(future.cancelled() for future in pending)

    def test_waiting_in_a_callback_is_refused(self, executor: concurrent.futures.Executor, busy: list[Gate]) -> None:
        found: list[BaseException] = []
        told = threading.Event()

        def wait_there(_: object) -> None:
            try:
                executor.submit(echo, 1).result()
            except heald.UsageError as refused:
                found.append(refused)
            told.set()

        executor.submit(echo, 1).add_done_callback(wait_there)
        busy[0].open()
        assert told.wait(30)
        assert "would never end" in str(found[0])

    def test_a_callback_that_exits_ends_nothing(self, executor: concurrent.futures.Executor, busy: list[Gate]) -> None:
        executor.submit(echo, 1).add_done_callback(lambda _: sys.exit(1))
        busy[0].open()
        assert executor.submit(echo, 2).result(30) == 2

    def test_only_the_task_sets_its_future(self, executor: concurrent.futures.Executor, busy: list[Gate]) -> None:
        future = executor.submit(echo, 1)
        for act in (
            lambda: future.set_result(2),
            lambda: future.set_exception(ValueError()),
            future.set_running_or_notify_cancel,
        ):
            with pytest.raises(heald.UsageError):
                act()

    def test_it_is_no_session_for_others(self, executor: concurrent.futures.Executor) -> None:
        with heald.Session([heald.ThreadExecutor(1)]) as session:
            executor.submit(echo, 1).result()
            assert heald.current_session() is session

    def test_repr_is_code(self) -> None:
        made = self.make()
        for same in (eval(repr(made), {"heald": heald}), pickle.loads(pickle.dumps(made))):
            assert type(same) is type(made)
            assert repr(same) == repr(made)
            assert same.workers == 2

    def test_settings_travel_without_what_runs(self, executor: concurrent.futures.Executor) -> None:
        executor.submit(echo, 1).result()
        with pickle.loads(pickle.dumps(executor)) as same:
            assert same.submit(echo, 2).result() == 2

    @pytest.mark.parametrize("ending", ["", "executor.shutdown(wait=False)"])
    def test_all_is_run_before_the_interpreter_ends(self, ending: str, tmp_path: Path) -> None:
        made = tmp_path / "made"
        code = (
            f"import heald, pathlib; from heald.testing.work import touch; executor = {self.make()!r}; "
            f"executor.submit(touch, pathlib.Path({str(made)!r})); {ending}"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        assert made.exists()


class TestThreadExecutor(Ours):
    test_what_cannot_travel_fails_alone = None  # type: ignore[assignment]  # nothing travels

    def make(self) -> heald.ThreadExecutor:
        return heald.ThreadExecutor(2)

    def test_values_are_handed_over_as_they_are(self, executor: concurrent.futures.Executor) -> None:
        generator = make_generator()
        assert executor.submit(echo, generator).result() is generator
        assert list(executor.submit(make_generator).result()) == [0, 1, 2]


class TestProcessExecutor(Ours):
    def make(self) -> heald.ProcessExecutor:
        return heald.ProcessExecutor(2, grace="100ms")

    def test_what_cannot_travel_is_named_at_the_call(self, executor: concurrent.futures.Executor) -> None:
        with pytest.raises(heald.NotPicklable, match=r"argument 2 of add .*generator"):
            executor.submit(add, 1, make_generator())
        with pytest.raises(heald.NotPicklable, match=r"argument .*\['x'\].*generator"):
            executor.submit(echo, {"x": make_generator()})
        with pytest.raises(heald.ResultError, match=r"make_generator returned .*generator"):
            executor.submit(make_generator).result()

    def test_to_cancel_ends_the_task(
        self,
        executor: concurrent.futures.Executor,
        gate: Callable[[], Gate],
        tmp_path: Path,
        wait_until: Callable[..., None],
    ) -> None:
        def sleep_on(gate: Path, late: Path) -> None:
            import subprocess

            subprocess.run(["sh", "-c", 'cat "$0"; touch "$1"', gate, late], check=False)

        one, late = gate(), tmp_path / "late"
        future = executor.submit(sleep_on, one.path, late)
        one.wait_entered()
        before = {process.pid for process in psutil.Process().children(recursive=True) if process.name() == "sh"}
        assert before
        assert future.cancel()
        wait_until(lambda: not any(map(psutil.pid_exists, before)))
        one.open()
        assert executor.submit(touch, tmp_path / "next").result(30) == "next"
        assert not late.exists()


class TestClusterExecutor(Ours):
    """On this machine, where a block is a process: the agent, the wire and all between are the real ones."""

    def make(self) -> heald.ClusterExecutor:
        return heald.ClusterExecutor("local", workers=2, grace="100ms")


class TestDaskExecutor(Ours):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def cluster(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with guest.dask(tmp_path_factory.mktemp("dask")) as cluster:
            cls.address = cluster.address
            yield

    def make(self) -> heald.DaskExecutor:
        return heald.DaskExecutor(self.address, workers=2, grace="100ms")


class TestRayExecutor(Ours):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def cluster(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        pytest.importorskip("ray")
        with guest.ray(tmp_path_factory.mktemp("ray")) as cluster, pytest.MonkeyPatch.context() as patch:
            for name, value in cluster.variables.items():
                patch.setenv(name, value)
            cls.address = cluster.address
            yield

    def make(self) -> heald.RayExecutor:
        return heald.RayExecutor(self.address, workers=2, grace="100ms")

from __future__ import annotations

import asyncio
import itertools
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import heald
from heald.core.errors import ConfigurationError, JournalCorrupt, TaskCancelled, UsageError
from heald.core.task import FUNCTION, Payload, Work
from heald.flow.run import Run
from heald.flow.session import Session, content_key


def threads(workers: int = 2, label: str = "thread") -> heald.ThreadExecutor:
    return heald.ThreadExecutor(workers=workers, label=label)


@pytest.fixture
def session() -> Iterator[Session]:
    with Session([threads()], memo=None) as session:
        yield session


class Far(heald.ProcessExecutor):
    """Stands in for one whose workers see no file of this machine."""

    far = "me@there"


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"executors": []}, "a session needs an executor"),
        ({"executors": ["process"]}, "'process' is no executor of heald"),
        ({"executors": heald.ThreadExecutor()}, "executors must be a list"),
        ({"executors": [threads(), threads()]}, "executors need labels of their own"),
        ({"sync": "sometimes"}, "sync='sometimes'"),
        ({"limit": 0}, "limit=0"),
        ({"limit": True}, "limit=True"),
        ({"limit": 1.5}, "limit=1.5"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Session(**settings)
    assert words in refused.value.message


SETTINGS: list[dict[str, Any]] = [
    {},
    {"executors": [threads(3, "io")]},
    {
        "executors": [
            heald.ProcessExecutor(workers=2, label="cores", gpus=2, memory="4GB", grace="1m"),
            heald.ProcessExecutor(workers=1, gpus=["a", "b"], bind=True),
        ]
    },
    {"journal": "run.heald", "sync": "each", "memo": None, "progress": False, "limit": 10},
    {"journal": Path("run.heald"), "memo": Path("memo"), "progress": True},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: ",".join(settings) or "none")
def test_printed_it_is_the_code_that_makes_it(settings: dict[str, Any]) -> None:
    session = Session(**settings)
    again = eval(repr(session), {"heald": heald})
    names = ("journal", "sync", "memo", "progress", "limit")
    assert [getattr(again, name) for name in names] == [getattr(session, name) for name in names]
    assert [vars_of(executor) for executor in again.executors] == [vars_of(executor) for executor in session.executors]
    assert repr(again) == repr(session)


def vars_of(executor: Any) -> tuple[type, dict[str, Any]]:
    return type(executor), executor._arguments()


# -- opening and closing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [threads(), heald.ProcessExecutor(workers=1)], ids=repr)
def test_opened_again_after_it_was_closed(executor: Any) -> None:
    session = Session([executor], memo=None)
    for number in range(2):
        session.start()
        assert session.submit(abs, -number).result() == number
        session.close()
    session.close()


def test_open_session_is_not_opened_twice(session: Session) -> None:
    with pytest.raises(UsageError, match="open already"):
        session.start()


def test_closed_session_takes_no_tasks() -> None:
    session = Session([threads()])
    for _ in range(2):
        with pytest.raises(UsageError, match="the session is closed"):
            session.submit(abs, -1)
        with pytest.raises(UsageError, match="the session is closed"):
            session.tally
        with session:
            pass


def test_the_innermost_session_is_the_current_one(session: Session) -> None:
    @heald.task
    def label() -> str:
        return threading.current_thread().name

    assert heald.current_session() is session
    with Session([threads(label="inner")], memo=None) as inner:
        assert heald.current_session() is inner
        assert "inner" in label.submit().result()
        assert "thread" in session.submit(label).result()
    assert heald.current_session() is session
    assert "thread" in label.submit().result()


def test_sessions_closed_in_any_order(session: Session) -> None:
    first, second = (Session([threads(label=name)], memo=None).start() for name in "ab")
    first.close()
    assert heald.current_session() is second
    second.close()
    assert heald.current_session() is session


def test_session_beside_the_current_one(session: Session) -> None:
    other = Session([threads()], memo=None).start(current=False)
    assert heald.current_session() is session
    assert other.submit(abs, -1).result() == 1
    other.close()


def test_async_with_and_await() -> None:
    async def main() -> list[int]:
        async with Session([threads()], memo=None) as session:
            futures = [session.submit(abs, -number) for number in range(3)]
            return [await futures[0], *await asyncio.gather(*futures[1:])]

    assert asyncio.run(main()) == [0, 1, 2]


def test_async_with_cancels_when_it_is_left_by_an_exception() -> None:
    held = threading.Event()
    futures: list[heald.Future[Any]] = []

    async def main() -> None:
        async with Session([threads(1)], memo=None) as session:
            futures.extend(session.submit(held.wait) for _ in range(3))
            raise KeyError("enough")

    with pytest.raises(KeyError):
        asyncio.run(main())
    held.set()
    assert all(future.cancelled() for future in futures)


def test_end_of_the_block_waits_for_all_tasks() -> None:
    gate, ended = threading.Event(), []

    def work(number: int) -> None:
        gate.wait()
        ended.append(number)

    with Session([threads()], memo=None) as session:
        for number in range(5):
            session.submit(work, number)
        session.submit(gate.set)
        gate.set()
    assert sorted(ended) == [0, 1, 2, 3, 4]


def test_exception_in_the_block_cancels_what_is_open() -> None:
    held = threading.Event()
    with pytest.raises(KeyError), Session([threads(1)], memo=None) as session:
        futures = [session.submit(held.wait) for _ in range(3)]
        raise KeyError("enough")
    held.set()
    assert all(future.cancelled() for future in futures)
    with pytest.raises(TaskCancelled, match="the session was closed"):
        futures[-1].result()


def test_close_that_does_not_wait_any_longer() -> None:
    held = threading.Event()
    session = Session([threads()], memo=None).start()
    future = session.submit(held.wait)
    session.close(timeout=0.01)
    held.set()
    assert future.cancelled()


def test_waiting_tasks_are_cancelled_and_running_ones_go_on(session: Session) -> None:
    begun, held = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        held.wait()
        return "done"

    futures = [session.submit(work) for _ in range(4)]
    begun.wait()
    after = session.submit(len, futures)
    session.cancel_waiting()
    with pytest.raises(TaskCancelled):
        after.result()
    held.set()
    done = [future for future in futures if not future.cancelled() and future.result() == "done"]
    assert 1 <= len(done) <= 2


# -- tasks -----------------------------------------------------------------------------------------------------------


def test_future_of_another_session_is_refused(session: Session) -> None:
    with Session([threads()], memo=None) as other:
        stranger = other.submit(abs, -1)
        for argument in (stranger, [{"x": stranger}], stranger["a"]):
            with pytest.raises(UsageError, match="belongs to another session") as refused:
                session.submit(abs, argument)
        assert "result()" in refused.value.hint


def test_executor_is_chosen_by_its_label() -> None:
    @heald.task(executor="second")
    def where() -> str:
        return threading.current_thread().name

    with Session([threads(label="first"), threads(label="second")], memo=None):
        assert "second" in where.submit().result()
        assert "first" in where.options(executor="").submit().result()
        with pytest.raises(UsageError, match="where: there is no executor 'third'") as refused:
            where.options(executor="third").submit()
        assert refused.value.hint == "there are: first, second"


def test_processes_and_threads_side_by_side() -> None:
    lock = threading.Lock()

    @heald.task(executor="beside")
    def same(value: Any) -> bool:
        return value is lock

    with Session([heald.ProcessExecutor(workers=1), threads(label="beside")], memo=None) as session:
        assert same.submit(lock).result()
        assert session.submit(str.upper, "a").result() == "A"


def test_threads_take_neither_commands_nor_walltimes(session: Session) -> None:
    with pytest.raises(UsageError, match="a walltime needs a process"):
        heald.task(walltime=1)(abs).submit(-1)
    with pytest.raises(UsageError, match="a notice needs a process"):
        session.submit(heald.task(notice="1m")(len), "x")
    with pytest.raises(UsageError, match="a command needs a process"):
        heald.command(lambda: "ls").submit()


def test_no_more_tasks_are_open_than_the_limit_says() -> None:
    with Session([threads(1)], memo=None, limit=5) as session:
        opened = [future.result() for future in [session.submit(lambda: session.tally.open) for _ in range(50)]]
    assert max(opened) <= 6  # the one that waits to be let in among them


def test_joins_may_submit_beyond_the_limit() -> None:
    @heald.task
    def one() -> int:
        return 1

    @heald.join
    def many() -> list[heald.Future[int]]:
        return [one.submit() for _ in range(20)]

    with Session([threads()], memo=None, limit=2):
        assert sum(many.submit().result(timeout=30)) == 20


def test_tally_counts_each_sort(session: Session) -> None:
    def fails() -> None:
        raise ValueError("no")

    held = threading.Event()
    for _ in range(2):
        session.submit(held.wait)
    session.submit(fails)
    session.submit(abs, session.submit(fails))
    session.submit(abs, -1).cancel()
    held.set()
    tally = session.tally
    session.close()
    assert (tally.done, tally.failed, tally.cancelled, tally.recalled) == (2, 3, 1, 0)
    assert (tally.submitted, tally.open) == (6, 0)


# -- a journal -------------------------------------------------------------------------------------------------------


@heald.task
def step(folder: Path, number: int, *parents: int) -> int:
    with open(folder / "ran", "a") as ran:
        ran.write(f"{number}\n")
    if number < 0 and not (folder / "mended").exists():
        raise ValueError("not yet")
    return abs(number)


def ran(folder: Path) -> list[int]:
    file = folder / "ran"
    numbers = sorted(map(int, file.read_text().split())) if file.exists() else []
    file.unlink(missing_ok=True)
    return numbers


def workflow(folder: Path, journal: Path) -> list[Any]:
    with Session([threads()], journal=journal, memo=None) as session:
        good = [step.submit(folder, number) for number in (1, 2)]
        bad = step.submit(folder, -3)
        futures = [*good, bad, step.submit(folder, 4, *good), step.submit(folder, 5, bad)]
        heald.wait(futures)
        values = [future.exception() or future.result() for future in futures]
        assert session.tally.open == 0
    return values


def test_run_is_taken_up_where_it_was(tmp_path: Path) -> None:
    journal = tmp_path / "run.heald"
    values = workflow(tmp_path, journal)
    assert [type(value) for value in values] == [int, int, ValueError, int, heald.DependencyError]
    assert ran(tmp_path) == [-3, 1, 2, 4]
    tmp_path.joinpath("mended").touch()
    assert workflow(tmp_path, journal) == [1, 2, 3, 4, 5]
    assert ran(tmp_path) == [-3, 5]  # only what had failed, and what needed it
    assert workflow(tmp_path, journal) == [1, 2, 3, 4, 5]
    assert ran(tmp_path) == []


def test_run_that_was_killed_is_taken_up(tmp_path: Path) -> None:
    """The journal of a run that goes on, as a kill at that moment would leave it."""
    journal, copy = tmp_path / "run.heald", tmp_path / "copy.heald"
    begun, held = threading.Event(), threading.Event()

    def slow(folder: Path, number: int) -> int:
        if copy.exists():
            return step(folder, number)
        begun.set()
        held.wait()
        return -1

    work = heald.task(name="slow")(slow)
    with Session([threads()], journal=journal, memo=None):
        done = step.submit(tmp_path, 1)
        assert done.result() == 1
        cut = work.submit(tmp_path, 2)
        begun.wait()
        shutil.copytree(journal, copy)
        held.set()
        assert cut.result() == -1
    (copy / "owner").unlink()
    assert ran(tmp_path) == [1]
    for expected in ([2], []):
        with Session([threads()], journal=copy, memo=None):
            assert [step.submit(tmp_path, 1).result(), work.submit(tmp_path, 2).result()] == [1, 2]
        assert ran(tmp_path) == expected
    records = Run(copy).history().records
    assert [(record.state.name, record.attempt) for record in records.values()] == [("done", 1), ("done", 2)]


def test_session_that_cannot_open_leaves_the_run_to_others(tmp_path: Path) -> None:
    journal = tmp_path / "run.heald"
    with Session([threads()], journal=journal, memo=None) as session:
        session.submit(abs, -1).result()
        session.submit(abs, -2).result()
    (file,) = [one for one in journal.iterdir() if one.name.startswith("journal")]
    kept = file.read_bytes()
    file.write_bytes(kept[:40] + bytes(8) + kept[48:])
    session = Session([threads()], journal=journal, memo=None)
    with pytest.raises(JournalCorrupt):
        session.start()
    assert heald.flow.current.sessions == []
    file.write_bytes(kept)
    with session:
        assert session.submit(abs, -1).result() == 1


class Unwilling(heald.ThreadExecutor):
    """Cannot start the first time."""

    tried = 0

    def pool(self, host: Any) -> Any:
        self.tried += 1
        found = super().pool(host)
        if self.tried == 1:
            found.start = self.fail  # type: ignore[method-assign]
        return found

    def fail(self) -> None:
        raise OSError("no more processes")


def test_session_whose_executor_cannot_start_leaves_the_run_to_others(tmp_path: Path) -> None:
    session = Session([Unwilling()], journal=tmp_path / "run.heald", memo=None)
    with pytest.raises(OSError, match="no more processes"):
        session.start()
    assert not (tmp_path / "run.heald" / "owner").exists()
    with session:
        assert session.submit(abs, -1).result() == 1


# -- keys ------------------------------------------------------------------------------------------------------------

WORK = Work("f", FUNCTION, b"function", b"code")


def key(*args: Any, needed: Any = (), work: Work = WORK, pickled: bytes = b"", **kwargs: Any) -> bytes:
    return content_key(work, args, kwargs, needed, Payload(pickled))


def test_key_names_a_call_by_its_content() -> None:
    assert key(1, {"b", "a"}, x=[2.5]) == key(1, {"a", "b"}, x=[2.5], pickled=b"another pickle of the same")
    others = [key(1), key(2), key("1"), key(x=1), key([1]), key(1, work=Work("g", FUNCTION, b"", b"code"))]
    others.append(key(1, work=Work("f", FUNCTION, b"", b"other code")))
    assert len(set(others)) == len(others)
    assert key(1, work=Work("f", FUNCTION, b"pickled otherwise", b"code", priority=3)) == key(1)


def test_futures_count_by_their_place_and_outputs_by_their_names(session: Session) -> None:
    first, second, third = (session.submit(dict, a=1) for _ in range(3))
    assert key(first, second, needed=[first, second]) == key(second, third, needed=[second, third])
    assert key(first, second, needed=[first, second]) != key(second, first, needed=[first, second])
    assert key(first["a"], needed=[first]) != key(first["b"], needed=[first]) != key(first, needed=[first])
    assert key(outputs=[heald.File("a")]) == key(outputs=(heald.File("a"),)) != key(outputs=[heald.File("b")])


def test_argument_that_has_no_digest_counts_by_its_pickle() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert key(itertools.count(), pickled=b"a") == key(itertools.count(), pickled=b"a")
        assert key(threading.Lock(), pickled=b"a") != key(threading.Lock(), pickled=b"b")
    with pytest.warns(UserWarning, match="f is run without its memo"):
        assert key(threading.Lock(), work=Work("f", FUNCTION, b"", memo=True)) == b""


@pytest.mark.parametrize("outputs", ["a.csv", ["a.csv"], [Path("a.csv")], heald.File("a.csv"), 5])
def test_outputs_are_a_list_of_files(outputs: Any) -> None:
    with Session([heald.ThreadExecutor(1)], memo=None) as session:
        with pytest.raises(UsageError, match=r"outputs=.*: must be a list of files"):
            session.submit(dict, outputs=outputs)
        assert [session.submit(dict, outputs=none).result() for none in ([], (), None)] == [
            {"outputs": []},
            {"outputs": ()},
            {"outputs": None},
        ]


def test_folders_have_names_that_records_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"journal='a\\udcff': has bytes that are no UTF-8"):
        Session([heald.ThreadExecutor(1)], journal="a\udcff")
    odd = tmp_path / "a\udcff"
    odd.mkdir()
    monkeypatch.chdir(odd)
    with pytest.raises(UsageError, match=r"current folder=.*: has bytes that are no UTF-8"):
        Session([heald.ThreadExecutor(1)]).start()


def test_a_current_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigurationError, match="the current folder is gone"):
        Session([heald.ThreadExecutor(1)]).start()


def test_logs_are_in_its_folder(tmp_path: Path) -> None:
    session = Session([heald.ThreadExecutor(1)], journal=tmp_path / "run.heald", memo=None)
    with pytest.raises(UsageError, match="not opened yet"):
        session.logs
    with session:
        assert session.logs == tmp_path / "run.heald" / "logs"


def test_the_warning_of_no_memo_says_which_argument() -> None:
    with Session([heald.ThreadExecutor(1)]) as session:
        held = heald.task(memo=True)(lambda deck, lock: None)
        with pytest.warns(UserWarning, match=r"is run without its memo: \['lock'\]: a _thread.lock cannot be digested"):
            session.call(held, (1,), {"lock": threading.Lock()}).result()


# -- files that are seen by nobody there -------------------------------------------------------------------------------


def test_a_file_of_this_machine_is_refused_where_none_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parted: list[bool] = []
    monkeypatch.setattr("heald.flow.session.send_own_modules", lambda: parted.append(True))
    deck = heald.File(tmp_path / "in.lj")
    words = r"len: .*in.lj is a file of this machine, and the task would run behind me@there"
    with Session([Far(workers=1), heald.ProcessExecutor(workers=1, label="here")], memo=None) as session:
        for wrong in ((deck,), ([{"deck": deck}],)):
            with pytest.raises(UsageError, match=words) as refused:
                session.submit(len, *wrong)
            assert "file.read_bytes()" in refused.value.hint
        with pytest.raises(UsageError, match=r"sort: .* file of this machine"):
            session.submit(heald.command(_sort), outputs=[deck])
        session.submit(len, [heald.File("https://example.org/a")]).cancel()  # of which nobody wants to see the end
        assert session.submit(len, [str(deck)]).result() == 1
        assert session.submit(heald.task(executor="here")(_name), heald.File(__file__)).result() == "test_session.py"
        assert session.submit(heald.join(_joined), deck).result() == "in.lj"
    assert parted


def _sort(outputs: Any = ()) -> str:
    return "sort"


def _name(file: heald.File) -> str:
    return file.name


def _joined(file: heald.File) -> Any:
    return heald.task(str).submit(file.name)

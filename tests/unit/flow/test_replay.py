"""Replaying traces in threads of this process; with workers it is tried in tests/live."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

import heald
from heald.core.errors import UsageError
from heald.flow.replay import Replay, Timing, _follows, perform
from heald.flow.run import Run
from heald.flow.trace import Trace, TracedTask


@pytest.fixture
def session() -> Iterator[heald.Session]:
    with heald.Session([heald.ThreadExecutor(workers=2)], memo=None) as session:
        yield session


def diamond(seconds: float = 1.0, cores: int = 1) -> Trace:
    tasks = (
        TracedTask("a", "make_1", (), seconds, cores, ("given",), ("x", "y")),
        TracedTask("b", "use_1", ("a",), seconds, cores, ("x",), ("z",)),
        TracedTask("c", "use_2", ("a",), 2 * seconds, cores, ("y",)),
        TracedTask("d", "join_1", ("b", "c"), seconds, cores, ("z", "given")),
    )
    return Trace("diamond", "1.5", tasks, {"given": 3_000_000, "x": 10, "y": 0, "z": 2_000_000}, makespan=9.0)


def test_figures_are_of_the_scaled_trace(session: heald.Session) -> None:
    found = diamond().replay(session, speed=0.01)
    assert (found.tasks, found.dependencies, found.broken) == (4, 4, ())
    assert found.critical_path == pytest.approx(0.04)
    assert found.work == pytest.approx(0.05)
    assert found.makespan >= found.critical_path
    assert found.speed_up == pytest.approx(found.work / found.makespan)
    assert found.efficiency == pytest.approx(found.work / (found.makespan * 2))
    assert (found.bytes_read, found.bytes_written) == (0, 0)


def test_every_task_tells_its_times(session: heald.Session) -> None:
    found = diamond().replay(session, speed=0.01)
    times = {one.id: one for one in found.times}
    assert list(times) == ["a", "b", "c", "d"]
    assert times["a"].start >= 0
    assert times["d"].end == pytest.approx(found.makespan)
    assert times["c"].end - times["c"].start >= 0.02


def test_empty_tasks_have_no_efficiency(session: heald.Session) -> None:
    found = diamond().replay(session, speed=0)
    assert (found.work, found.efficiency) == (0.0, 0.0)
    assert "efficiency" not in found.table()


def test_files_are_really_written_and_read(session: heald.Session) -> None:
    found = diamond().replay(session, speed=0, size=0.5)
    assert found.bytes_read == 1_500_000 + 5 + 0 + 1_000_000 + 1_500_000
    assert found.bytes_written == 5 + 1_000_000
    assert "4 MB read, 1 MB written" in found.table()


def test_tasks_get_their_cores_or_as_many_as_there_are(session: heald.Session) -> None:
    assert {one.cores for one in diamond(cores=2).replay(session, speed=0, cores=True).times} == {2}
    wide = diamond(cores=48).replay(session, speed=0.001, cores=True)
    assert {one.cores for one in wide.times} == {2}
    assert wide.work == pytest.approx(0.01)
    assert "4 tasks had 2, and asked for more" in wide.table()


def test_opens_a_session_of_its_own() -> None:
    assert not diamond().replay(speed=0).broken


def test_tasks_are_named_by_their_kind(tmp_path: Path) -> None:
    with heald.Session([heald.ThreadExecutor(workers=1)], memo=None, journal=tmp_path / "run.heald") as session:
        diamond().replay(session, speed=0)
    history = Run(tmp_path / "run.heald").history()
    assert [history.work(record).name for record in history.records.values()] == ["make", "use", "use", "join"]


def test_can_be_written_as_json(session: heald.Session) -> None:
    found = diamond().replay(session, speed=0)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(found)), Replay) == found


def test_broken_dependencies_are_told() -> None:
    found = Replay(
        trace="t", version="", speed=1, size=0, cores=1, tasks=2, dependencies=1, broken=(("a", "b"),), makespan=1.0,
        critical_path=1.0, work=1.0, speed_up=1.0, efficiency=1.0, traced_makespan=0.0, bytes_read=0, bytes_written=0,
        narrowed=0, times=(Timing("a", "a", 0, 1, 1),),
    )  # fmt: skip
    assert "1, 1 BROKEN, the first: a -> b" in found.table()


@pytest.mark.parametrize("factor", [-1, float("inf"), float("nan"), "fast", True])
@pytest.mark.parametrize("name", ["speed", "size"])
def test_factors_must_be_numbers(session: heald.Session, name: str, factor: object) -> None:
    with pytest.raises(UsageError, match=f"{name}=.*: must be a number, at least 0"):
        diamond().replay(session, **{name: factor})  # type: ignore[arg-type]


def test_files_must_fit_on_the_disk(session: heald.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UsageError, match=r"the files of diamond are 5 MB at size=1; .* has 1 kB left"):
        diamond().replay(session, speed=0, size=1)


def test_a_trace_without_sizes_has_no_files_to_write(session: heald.Session) -> None:
    with pytest.raises(UsageError, match="tells no sizes"):
        msgspec.structs.replace(diamond(), sizes={}).replay(session, speed=0, size=1)


def test_a_failing_task_ends_the_replay(session: heald.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heald.flow.replay.perform", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        diamond().replay(session, speed=0)


def test_a_stand_in_takes_its_time() -> None:
    start, end, read, written = perform(0.01, [], [], [])
    assert end - start >= 0.01
    assert (read, written) == (0, 0)


def test_who_follows_whom() -> None:
    parents: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",), "c": ("b",), "x": ()}
    assert _follows("c", {"a"}, parents)
    assert not _follows("c", {"x"}, parents)
    assert not _follows("a", {"a"}, parents)

"""Traces replayed with real workers: dependencies kept, files really there, cores really taken."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

import heald
from heald.flow.run import Run
from heald.flow.trace import Trace, TracedTask

pytestmark = pytest.mark.live


def mosaic(width: int, *, wide: int = 1) -> Trace:
    """Images that are projected, compared with their neighbours, and added; `wide`: cores of each comparison."""
    images = [TracedTask(f"project_{n}", "project", (), 0.5, 1, ("sky",), (f"image {n}",)) for n in range(width)]
    compared = [
        TracedTask(
            f"compare_{n}",
            "compare",
            (f"project_{n}", f"project_{n + 1}"),
            0.2,
            wide,
            (f"image {n}", f"image {n + 1}"),
            (f"s3://bucket/{n}/../difference",),
        )
        for n in range(width - 1)
    ]
    last = TracedTask(
        "add", "add", tuple(one.id for one in compared), 1.0, 1, tuple(one.writes[0] for one in compared), ("mosaic",)
    )
    tasks = (*images, *compared, last)
    sizes = dict.fromkeys(("sky", *(file for task in tasks for file in task.writes)), 200_000)
    return Trace("mosaic", "1.5", tasks, sizes, makespan=9.0)


def test_dependencies_are_kept_among_hundreds(session: heald.Session) -> None:
    found = mosaic(200).replay(session, speed=0.005)
    assert (found.tasks, found.dependencies, found.broken) == (400, 597, ())
    assert found.cores == 2
    assert found.work == pytest.approx((200 * 0.5 + 199 * 0.2 + 1.0) * 0.005)
    assert found.critical_path <= found.makespan
    assert 0 < found.efficiency <= 1


def test_files_go_from_task_to_task(session: heald.Session) -> None:
    found = mosaic(20).replay(session, speed=0, size=0.5)
    assert found.bytes_written == 40 * 100_000
    assert found.bytes_read == (20 + 2 * 19 + 19) * 100_000
    assert not found.broken


def test_wide_tasks_have_the_machine_to_themselves(session: heald.Session) -> None:
    found = mosaic(8, wide=2).replay(session, speed=0.02, cores=True)
    alone = [one for one in found.times if one.cores == 2]
    assert len(alone) == 7
    for one, other in combinations(found.times, 2):
        if 2 in (one.cores, other.cores):
            assert one.end <= other.start or other.end <= one.start, f"{one} and {other} ran at the same time"


def test_a_replay_is_a_run_like_others(tmp_path: Path) -> None:
    with heald.Session([heald.ProcessExecutor(workers=2)], memo=None, journal=tmp_path / "run.heald") as session:
        mosaic(4).replay(session, speed=0)
    history = Run(tmp_path / "run.heald").history()
    names = [history.work(record).name for record in history.records.values()]
    assert names == ["project"] * 4 + ["compare"] * 3 + ["add"]

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from heald.cli.view import attempt_view, counts, needs, run_view, size_of, task_view
from heald.core.attempt import Attempt
from heald.core.event import Event, Failure, Finished, Placed, Started, Submitted, Usage
from heald.core.graph import Joined
from heald.core.history import History
from heald.core.ref import Ref
from heald.core.resources import Resources
from heald.core.task import Payload, Task, Work
from heald.flow.run import Run

WORK = Work("simulate", "function", b"", tags=(("phase", "liquid"),))


def history(*events: Event) -> History:
    """What one task, number 1, has come to."""
    found = History()
    found.works[b"w"] = WORK
    found.extend([Submitted(1, 10.0, Task(1, b"w", Payload(b"arguments"))), *events])
    return found


def test_a_task_that_waits_for_a_place() -> None:
    found = history()
    view = task_view(found.records[1], found, 99.0)
    assert (view.id, view.name, view.state, view.tags) == (1, "simulate", "ready", {"phase": "liquid"})
    assert view.submitted == datetime.fromtimestamp(10, UTC)
    assert (view.started, view.ended, view.seconds, view.cpu, view.failure) == (None,) * 5


def test_a_task_that_runs_counts_its_seconds_so_far() -> None:
    found = history(Placed(1, 11.0, 1, "process", "worker-4"), Started(1, 12.0, 1, 4711))
    view = task_view(found.records[1], found, 15.0)
    assert (view.state, view.worker, view.pid, view.seconds, view.cpu) == ("running", "worker-4", 4711, 3.0, None)


def test_a_task_that_failed() -> None:
    failure = Failure("user", "ValueError: no", hint="look", stderr="/logs/1.1.err")
    usage = Usage(started=11.5, seconds=2.0, cpu=1.5, memory=10**6, exit=1)
    found = history(Placed(1, 11.0, 1, "process", "worker-1"), Finished(1, 14.0, 1, failure, usage))
    view = task_view(found.records[1], found, 99.0)
    assert (view.seconds, view.cpu, view.memory, view.exit) == (2.0, 1.5, 10**6, 1)
    assert view.failure == {
        "kind": "user", "message": "ValueError: no", "hint": "look", "code": "", "exit": 0, "chain": ("simulate#1",),
        "stdout": "", "stderr": "/logs/1.1.err", "traceback": "",
    }  # fmt: skip


def test_a_recalled_task_used_nothing() -> None:
    found = history(Finished(1, 11.0, 0, Payload(b"value"), recalled=True))
    view = task_view(found.records[1], found, 99.0)
    assert (view.state, view.recalled, view.seconds, view.memory) == ("done", True, None, None)


def test_an_attempt() -> None:
    view = attempt_view(Attempt(2, "process", "worker-1", 5.0, usage=Usage(started=6.0, seconds=1.0)))
    assert (view.number, view.seconds, view.started, view.failure) == (2, 1.0, None, None)


def test_counts_are_in_the_order_of_a_life() -> None:
    assert list(counts(history().records.values()).items())[:2] == [("waiting", 0), ("ready", 1)]


def test_a_run(study: Path) -> None:
    view = run_view(Run(study))
    assert (view.run, view.state, view.command) == (str(study), "ended", "study.py")
    assert view.counts is not None
    assert (sum(view.counts.values()), view.counts["failed"]) == (7, 3)
    assert view.started is not None
    assert view.ended is not None
    assert view.started < view.ended


def test_a_run_without_a_journal(tmp_path: Path) -> None:
    view = run_view(Run(tmp_path))
    assert (view.state, view.counts, view.command) == ("ended", None, "")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Resources(), "1 core"),
        (Resources(cpus=4, gpus=0.5), "4 cores, 0.5 GPU"),
        (Resources(cpus=1, ranks=8, nodes=2, gpus=1), "8 ranks, 1 core each, 1 GPU each, on 2 nodes"),
        (Resources(memory=4 * 10**9, walltime=90), "1 core, 4 GB of memory, at most 1m 30s"),
        (Resources(notice=90), "1 core, told 1m 30s before its end"),
        (Resources(hosts=("n3", "n4"), tasks_per_node=2), "1 core, on 1 node of n3, n4, 2 such tasks on a node"),
    ],
)
def test_needs_in_words(asked: Resources, words: str) -> None:
    assert needs(asked) == words


def test_size_of_a_value() -> None:
    small = Payload(b"12345")
    assert size_of(Payload(b"123", (Ref("object:x", 1000),), (small,))) == 1008
    assert size_of(Joined(small, (small, small))) == 10
    assert size_of(None) == 0

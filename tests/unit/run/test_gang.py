"""A gang as a worker has it: real ranks, beside an MPI that does nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from heald.core.event import Failure
from heald.core.resources import Resources
from heald.core.retry import OUT_OF_MEMORY, REFUSED, USER, WORKER_LOST
from heald.core.task import Work
from heald.data.payload import pack, unpack
from heald.run.function import importable
from heald.run.gang import Gang, failure_file
from heald.run.usage import Kills


class NoKills(Kills):
    """The system has killed nothing, or just now something."""

    def __init__(self, *, killed: bool = False) -> None:
        self.killed = killed

    def new(self) -> bool:
        return self.killed


@pytest.fixture
def gang(tmp_path: Path) -> Gang:
    return Gang(tmp_path / "ranks" / "7" / "1", Work("simulate", "function", b"f", resources=Resources(ranks=3)))


@pytest.fixture
def run(gang: Gang, mpi4py: Path) -> Callable[..., Any]:
    """Runs a call on three ranks one after another: their values, or the Failure."""
    importable(__name__)

    def start(function: Any, *args: Any, size: int = 3, killed: bool = False) -> Any:
        command, variables = gang.tell(cloudpickle.dumps(function), (args, {}), {}, b"")
        environment = {**os.environ, **variables, "FAKE_SIZE": str(size)}
        environment["PYTHONPATH"] = os.pathsep.join([str(mpi4py), environment["PYTHONPATH"]])
        status = 0
        for rank in range(3):
            done = subprocess.run(command, env={**environment, "FAKE_RANK": str(rank)}, capture_output=True, timeout=30)
            status = status or done.returncode
        found = gang.answers(status, NoKills(killed=killed))
        return found if isinstance(found, Failure) else unpack(pack(found, None, subject="them")[0])

    return start


def number() -> int:
    from mpi4py import MPI

    rank: int = MPI.COMM_WORLD.Get_rank()
    return rank


def test_values_come_in_the_order_of_ranks(run: Callable[..., Any]) -> None:
    assert run(lambda x: (number(), x), "a") == [(0, "a"), (1, "a"), (2, "a")]


def test_large_arguments_and_values(run: Callable[..., Any]) -> None:
    found = run(lambda array: array * number(), np.ones(200_000))
    assert [float(part.sum()) for part in found] == [0.0, 200_000.0, 400_000.0]


def test_the_lowest_rank_that_failed_speaks(run: Callable[..., Any]) -> None:
    found = run(lambda: 1 // (number() == 0))
    assert (found.kind, found.message) == (USER, "rank 1 of 3: ZeroDivisionError: integer division or modulo by zero")


def test_a_rank_that_died_is_named(run: Callable[..., Any]) -> None:
    found = run(lambda: os._exit(5) if number() == 1 else None)
    assert found.kind == WORKER_LOST
    assert found.message == "rank 1 of 3 left no value: what started them exited with status 5"


def test_a_rank_that_crashed_is_named_with_its_last_words(run: Callable[..., Any]) -> None:
    def crash() -> None:
        import ctypes

        if number() == 2:
            ctypes.string_at(0)

    found = run(crash)
    assert found.kind == WORKER_LOST
    assert found.message == "rank 2 of 3 crashed: Segmentation fault"
    assert "in string_at" in found.traceback


def test_ranks_that_the_system_killed(run: Callable[..., Any]) -> None:
    found = run(lambda: os.kill(os.getpid(), 9), killed=True)
    assert found.kind == OUT_OF_MEMORY
    assert found.message == "the system ran out of memory and killed ranks 0, 1, 2 of 3"


def test_singletons(run: Callable[..., Any]) -> None:
    assert run(number, size=1).kind == REFUSED


def test_ranks_that_never_began(gang: Gang) -> None:
    gang.tell(b"", (), {}, b"")
    found = gang.answers(16, NoKills())
    assert isinstance(found, Failure)
    assert (found.kind, found.exit) == (USER, 16)
    assert found.message == "no rank came as far as to know its number: what started them exited with status 16"


def test_ranks_that_fail_when_all_is_done(run: Callable[..., Any], gang: Gang) -> None:
    assert run(number) == [0, 1, 2]
    found = gang.answers(1, NoKills())
    assert isinstance(found, Failure)
    assert found.message == "the ranks left their values and then failed: what started them exited with status 1"


def test_of_many_only_some_are_named(gang: Gang) -> None:
    assert gang._words(list(range(20))) == "ranks 0, 1, 2, 3, 4, 5, 6, 7, … of 3"


def test_it_leaves_nothing(gang: Gang) -> None:
    gang.tell(b"", (), {}, b"")
    failure_file(gang.folder, 1).touch()
    gang.disband()
    assert not gang.folder.parent.exists()
    gang.disband()


def test_what_an_attempt_before_left_is_removed(gang: Gang) -> None:
    gang.tell(b"", (), {}, b"")
    again = Gang(gang.folder.with_name("2"), Work("simulate", "function", b"f", resources=Resources(ranks=3)))
    again.tell(b"", (), {}, b"")
    assert [path.name for path in gang.folder.parent.iterdir()] == ["2"]
    gang.disband()
    assert again.folder.exists()

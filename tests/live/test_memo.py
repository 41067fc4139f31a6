"""Results that are found again: in the next run, by twins at the same time, and never when what matters changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import heald

pytest.importorskip("numpy")
pytestmark = pytest.mark.live

Wait = Callable[..., None]

# A script of a user. Each run of a task appends a line to `ran`; the script prints what it got, and how much was known.
SCRIPT = """
import dataclasses, sys
import numpy as np
import heald

FACTOR = 2

@dataclasses.dataclass
class Model:
    name: str
    weights: object

def scale(x):
    return FACTOR * x

@heald.task(memo=True)
def compute(label, value, *, outputs=()):
    with open("ran", "a") as file:
        file.write(f"{label}\\n")
    return scale(1), type(value).__name__

@heald.task(memo=True)
def follow(value):
    with open("ran", "a") as file:
        file.write("follow\\n")
    return [value[0] + 1, np.full(100_000, value[0])]

@heald.command(memo=True)
def write(text, *, outputs):
    return f"echo write >> ran; echo {text} > {outputs[0]}"

VALUES = [None, 1, 1.5, True, "text", b"bytes", (1, 2), [1, {"a": 2}], {3, 1, 2}, frozenset("abc"),
          {"b": 1, "a": 2}, np.arange(10.0), np.ones(100_000), Model("m", np.ones(3)), heald.File("data"), 1 + 2j]

if __name__ == "__main__":
    with heald.Session([heald.ProcessExecutor(workers=2)], memo="memo") as session:
        found = [compute.submit(f"value {number}", value) for number, value in enumerate(VALUES)]
        chained = follow.submit(found[0])
        written = write.submit("hello", outputs=[heald.File("out.txt")])
        print(*[future.result()[0] for future in found], chained.result()[0], chained.result()[1].sum(), sep=",")
        print(written.result().returncode, written.outputs[0].result().read_text().strip(), sep=",")
        print("known", session.tally.recalled)
"""
COUNT = 18  # tasks in it


class Again:
    """The script, and what a run of it did."""

    def __init__(self, scripts: Any, folder: Path) -> None:
        self.scripts = scripts
        self.folder = folder
        self.source = SCRIPT
        (folder / "data").write_text("data")

    def run(self, factor: int = 2) -> list[str]:
        """Run it; the tasks that ran."""
        ran = self.folder / "ran"
        ran.write_text("")
        printed = self.scripts.run(self.source).splitlines()
        lines = ran.read_text().splitlines()
        assert printed[0] == ",".join([str(factor)] * 16 + [str(factor + 1), f"{factor * 100_000}"])
        assert printed[1] == "0,hello"
        assert printed[2] == f"known {COUNT - len(lines)}"
        return lines


@pytest.fixture
def again(scripts: Any, tmp_path: Path) -> Again:
    return Again(scripts, tmp_path)


def test_a_second_run_runs_nothing(again: Again) -> None:
    assert len(again.run()) == COUNT
    assert again.run() == []
    assert again.run() == []


def test_what_does_not_matter_changes_nothing(again: Again) -> None:
    again.run()
    again.source = "# a comment\n\n" + SCRIPT.replace("def scale(x):", "def scale(x):\n    # another\n")
    assert again.run() == []


def test_edited_code_is_run_again(again: Again) -> None:
    again.run()
    again.source = SCRIPT.replace("return FACTOR * x", "return x * FACTOR * 2")  # of a function that it calls
    assert len([line for line in again.run(factor=4) if line.startswith("value")]) == 16
    again.source = SCRIPT.replace("FACTOR = 2", "FACTOR = 7")  # a variable that it reads
    assert len([line for line in again.run(factor=7) if line.startswith("value")]) == 16
    again.source = SCRIPT
    assert again.run() == []


def test_changed_arguments_are_run_again(again: Again) -> None:
    again.run()
    (again.folder / "data").write_text("other data")
    assert again.run() == ["value 14"]
    again.source = SCRIPT.replace("np.ones(100_000)", "np.zeros(100_000)")
    assert again.run() == ["value 12"]


def test_outputs_that_are_gone_are_written_again(again: Again) -> None:
    again.run()
    (again.folder / "out.txt").unlink()
    assert again.run() == ["write"]
    assert again.run() == []


def test_a_damaged_memo_costs_results_only(again: Again) -> None:
    again.run()
    chance = random.Random(5)
    entries = sorted(path for path in (again.folder / "memo").rglob("*") if path.is_file())
    assert len(entries) == COUNT
    for path in entries:
        data = bytearray(path.read_bytes())
        kind = chance.choice(["flip", "cut", "empty", "noise"])
        if kind == "flip":
            data[chance.randrange(len(data))] ^= 0xFF
        damaged = {"flip": data, "cut": data[: len(data) // 2], "empty": bytearray(), "noise": chance.randbytes(100)}
        path.write_bytes(bytes(damaged[kind]))
    assert len(again.run()) == COUNT
    assert again.run() == []


def test_a_memo_that_cannot_be_written_costs_results_only(again: Again) -> None:
    (again.folder / "memo").write_text("a file in its place")
    again.scripts.run(SCRIPT)
    assert len((again.folder / "ran").read_text().splitlines()) == COUNT


def test_twins_at_the_same_time_run_once(tmp_path: Path, wait_until: Wait) -> None:
    @heald.task(memo=True)
    def slow(folder: str, number: int) -> Any:
        import os
        import time

        with open(f"{folder}/ran", "a") as file:
            file.write(f"{number}\n")
        while not os.path.exists(f"{folder}/gate"):
            time.sleep(0.01)
        return [number]

    def touch(file: str) -> None:
        open(file, "w").close()

    with heald.Session([heald.ProcessExecutor(workers=3)], memo=tmp_path / "memo") as session:
        twins = [slow.submit(str(tmp_path), number) for number in (1, 2) for _ in range(10)]
        wait_until(lambda: (tmp_path / "ran").exists() and len((tmp_path / "ran").read_text().split()) == 2)
        session.submit(touch, str(tmp_path / "gate")).result(10)
        assert [one.result(10) for one in twins] == [[1]] * 10 + [[2]] * 10
        assert sorted((tmp_path / "ran").read_text().split()) == ["1", "2"]
        assert session.tally.recalled == 18
        first, second = twins[0].result(), twins[1].result()
        first.append("mine")
        assert second == [1], "each has a value of its own"


def test_a_twin_of_a_failure_runs_itself(tmp_path: Path) -> None:
    @heald.task(memo=True)
    def first_fails(folder: str) -> str:
        import os

        try:
            os.mkdir(f"{folder}/tried")
        except FileExistsError:
            return "second"
        raise ValueError("first")

    with heald.Session([heald.ProcessExecutor(workers=2)], memo=tmp_path / "memo"):
        twins = [first_fails.submit(str(tmp_path)) for _ in range(5)]
        assert isinstance(twins[0].exception(10), ValueError)
        assert [one.result(10) for one in twins[1:]] == ["second"] * 4


def test_a_twin_of_a_cancelled_task_runs_itself(tmp_path: Path, wait_until: Wait) -> None:
    @heald.task(memo=True)
    def slow_once(folder: str) -> str:
        import os
        import time

        try:
            os.mkdir(f"{folder}/tried")
        except FileExistsError:
            return "second"
        time.sleep(1000)
        return "first"

    with heald.Session([heald.ProcessExecutor(workers=2, grace=1)], memo=tmp_path / "memo"):
        first, second = slow_once.submit(str(tmp_path)), slow_once.submit(str(tmp_path))
        wait_until((tmp_path / "tried").exists)
        first.cancel()
        assert second.result(10) == "second"


def test_exceptions_are_not_kept(tmp_path: Path) -> None:
    @heald.task(memo=True)
    def fail(folder: str) -> None:
        with open(f"{folder}/ran", "a") as file:
            file.write("x")
        raise ValueError("mine")

    for _ in range(2):
        with heald.Session([heald.ProcessExecutor(workers=1)], memo=tmp_path / "memo"):
            for _ in range(2):
                with pytest.raises(ValueError, match="mine"):
                    fail.submit(str(tmp_path)).result(10)
    assert (tmp_path / "ran").read_text() == "xxxx"


def test_an_argument_without_a_digest_runs_with_a_warning(tmp_path: Path) -> None:
    @heald.task(memo=True)
    def take(_: Any, folder: str) -> str:
        with open(f"{folder}/ran", "a") as file:
            file.write("x")
        return "taken"

    class Undigestible:
        def __heald_digest__(self) -> bytes:
            raise ValueError("not today")

    with heald.Session([heald.ProcessExecutor(workers=1)], memo=tmp_path / "memo"):
        for _ in range(2):
            with pytest.warns(UserWarning, match="take is run without its memo"):
                future = take.submit(Undigestible(), str(tmp_path))
            assert future.result(10) == "taken"
    assert (tmp_path / "ran").read_text() == "xx"


def test_a_result_that_cannot_travel_is_not_kept(tmp_path: Path) -> None:
    @heald.task(memo=True)
    def lock() -> Any:
        import threading

        return threading.Lock()

    for executor in (heald.ProcessExecutor(workers=1), heald.ThreadExecutor(workers=1)):
        with heald.Session([executor], memo=tmp_path / "memo"):
            raised = lock.submit().exception(10)
            assert isinstance(raised, heald.ResultError | type(None))
            assert (raised is None) == (executor.label == "thread")


def test_the_memo_can_be_looked_at_and_pruned(again: Again) -> None:
    from heald.data.memo import Memo

    again.run()
    memo = Memo(again.folder / "memo")
    assert memo.info().count == COUNT
    assert {entry.name for entry in memo.ls()} == {"compute", "follow", "write"}
    assert memo.prune(name="follow").count == 1
    assert again.run() == ["follow"]


def test_methods_and_lambdas_are_known_by_their_code(tmp_path: Path) -> None:
    known = []
    for factor in (2, 3, 2):
        with heald.Session([heald.ProcessExecutor(workers=1)], memo=tmp_path / "memo") as session:
            made = eval(f"lambda x: {factor} * x")
            assert heald.task(memo=True)(made).submit(5).result(10) == 5 * factor
            known.append(session.tally.recalled)
    assert known == [0, 0, 1]

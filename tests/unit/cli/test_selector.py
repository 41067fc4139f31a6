from __future__ import annotations

from pathlib import Path

import pytest

from heald.cli import selector
from heald.cli.selector import selection
from heald.core.errors import UsageError
from heald.core.event import Failure
from heald.core.history import History, Record
from heald.core.state import State
from heald.core.task import Payload, Task, Work


def chosen(*words: str) -> list[int]:
    """The ids that words choose among four tasks."""
    simulate = Work("simulate", "function", b"", tags=(("phase", "liquid"), ("box", "a=b")))
    fit = Work("fit", "function", b"")
    tasks = [
        (1, simulate, State.done, None),
        (2, simulate, State.failed, Failure("walltime", "too long")),
        (3, fit, State.failed, Failure("dependency", "simulate#2 failed")),
        (10, fit, State.waiting, None),
    ]
    test = selection(words)
    found = []
    for task, work, state, failure in tasks:
        record = Record(Task(task, b"", Payload(b"")), 0.0, state=state, outcome=failure)
        if test(record, work):
            found.append(task)
    return found


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("", [1, 2, 3, 10]),
        ("2", [2]),
        ("1 10", [1, 10]),
        ("2-9", [2, 3]),
        ("3-", [3, 10]),
        ("fit#3", [3]),
        ("99", []),
        ("name=fit", [3, 10]),
        ("name=f* name=sim*", [1, 2, 3, 10]),
        ("name=FIT", []),
        ("state=failed", [2, 3]),
        ("state=failed state=waiting", [2, 3, 10]),
        ("failure=walltime", [2]),
        ("tag:phase=liq*", [1, 2]),
        ("tag:box=a=b", [1, 2]),
        ("tag:phase=liquid tag:box=c", []),
        ("1-3 state=failed name=fit", [3]),
    ],
)
def test_words_choose(words: str, ids: list[int]) -> None:
    assert chosen(*words.split()) == ids


@pytest.mark.parametrize("word", ["fit", "", "3-x", "-3", "color=red", "name", "tag:phase", "=3", "1,2"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="chooses no tasks") as raised:
        chosen(word)
    assert "name=sim*" in raised.value.hint


def test_states_and_failures_must_exist() -> None:
    with pytest.raises(UsageError, match="there are waiting, ready"):
        chosen("state=ok")
    with pytest.raises(UsageError, match="there are user, worker-lost"):
        chosen("failure=bug")


def test_tasks_that_are_named_must_be_there() -> None:
    history = History()
    history.works[b""] = Work("fit", "function", b"")
    for task in (1, 2):
        history.records[task] = Record(Task(task, b"", Payload(b"")), 0.0)
    assert [record.task.id for record in selector.chosen(["2-9", "fit#1"], history, Path("run.heald"))] == [1, 2]
    for words, absent in ((["1", "8", "fit#9"], "8 fit#9"), (["3-9"], "3-9"), (["name=x", "1"], "name=x 1")):
        with pytest.raises(UsageError, match=f"no task of run.heald is {absent}\n"):
            selector.chosen(words, history, Path("run.heald"))

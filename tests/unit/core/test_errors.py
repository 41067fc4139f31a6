from __future__ import annotations

import concurrent.futures
import copy
import inspect
import pickle
import re

import pytest

from heald.core import errors
from heald.core.errors import (
    CommandFailed,
    DependencyError,
    HealdError,
    NotPicklable,
    StagingError,
    TaskCancelled,
    TaskError,
    UsageError,
)

CLASSES = [cls for cls in vars(errors).values() if inspect.isclass(cls) and issubclass(cls, HealdError)]
every = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def drawn() -> dict[str, tuple[str, str]]:
    """The tree in the docstring: name -> (name of its parent, what stands in brackets behind it)."""
    path: list[str] = []
    tree: dict[str, tuple[str, str]] = {}
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        if found := re.match(r"((?:    )?(?:[│ ]   )*(?:[├└]── )?)([A-Z]\w+)(?: \(([^)]*)\))?(?:\s|$)", line):
            lead, name, also = found.groups()
            if len(lead) < 4:
                continue
            del path[(len(lead) - 4) // 4 :]
            tree[name] = (path[-1] if path else "", also or "")
            path.append(name)
    return tree


def test_tree_is_drawn_as_it_is() -> None:
    tree = drawn()
    assert tree.keys() == {cls.__name__ for cls in CLASSES}
    for cls in CLASSES:
        parent, also = tree[cls.__name__]
        first, *others = cls.__bases__
        assert first.__name__ == (parent or "Exception")
        assert sorted(also.removeprefix("also ").split(", ") if also else []) == sorted(
            f"{other.__module__}.{other.__name__}".replace("concurrent.futures._base", "concurrent.futures").replace(
                "builtins.", ""
            )
            for other in others
        )


def test_codes_are_stable_and_each_has_its_own() -> None:
    assert [cls.code for cls in CLASSES] == [
        "heald", "usage", "not-picklable", "cycle", "configuration",
        "journal", "journal-locked", "journal-corrupt", "staging", "requeue", "site", "submit", "scheduler-unreachable",
        "task", "dependency", "worker-lost", "out-of-memory", "walltime", "command-failed", "output-missing", "result",
        "cancelled",
    ]  # fmt: skip


@every
def test_says_what_happened_and_what_to_do(cls: type[HealdError]) -> None:
    assert cls.__doc__
    assert str(cls("it broke")) == "it broke"
    assert str(cls("it broke", hint="mend it")) == "it broke\n  hint: mend it"


@every
def test_pickles_with_all_that_it_knows(cls: type[HealdError]) -> None:
    error = cls("it broke", hint="mend it")
    if isinstance(error, TaskError):
        error = cls(
            "it broke", hint="mend it", task=3, name="square", attempt=2, site="here", stdout="/out", stderr="/err"
        )  # type: ignore[call-arg]
    error.add_note("in task square#3")
    if isinstance(error, DependencyError):
        error.chain = ("b#2", "a#1")
    if isinstance(error, CommandFailed):
        error.returncode = -9
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(copied) is cls
        assert vars(copied) == vars(error)
        assert str(copied) == str(error)
        assert copied.args == error.args
        assert copied.code == cls.code


def test_those_that_others_catch_are_theirs_too() -> None:
    assert issubclass(UsageError, ValueError)
    assert issubclass(NotPicklable, TypeError)
    assert issubclass(StagingError, OSError)
    assert issubclass(TaskCancelled, concurrent.futures.CancelledError)

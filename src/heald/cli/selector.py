"""How tasks are chosen on the command line: one grammar for every verb.

    7            the task with that id; also as errors name it, fit#7
    3-7          the ids from 3 to 7; 3- for all from 3 on
    name=sim*    its name, * and ? standing for anything
    state=failed its state
    failure=walltime    the class of its failure
    tag:key=val* its tag `key`

Words of one sort are alternatives, words of different sorts must all hold: `1-9 12 state=failed` are those that failed
among 1 to 9 and 12.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from heald.core.errors import UsageError
from heald.core.history import History, Record
from heald.core.retry import KINDS
from heald.core.state import State
from heald.core.task import Work

Test = Callable[[Record, Work], bool]

_HINT = "write an id (7), a range (3-7), name=sim*, state=failed, failure=walltime or tag:key=value"
_IDS = re.compile(r"(\d+)(?:(-)(\d*))?|.*#(\d+)")


def selection(words: Sequence[str]) -> Test:
    """Whether a task, with its work, is one of those that `words` choose; all are, for none.

    Raises UsageError for a word that is none of the grammar's.
    """
    sorts: dict[str, list[Test]] = {}
    for word in words:
        sort, test = _term(word)
        sorts.setdefault(sort, []).append(test)
    tests = [_joined(any, alternatives) for alternatives in sorts.values()]
    return _joined(all, tests)


def chosen(words: Sequence[str], history: History, run: Path) -> list[Record]:
    """The tasks of a run that `words` choose.

    Raises UsageError when there are none, or not one of those that are named by their ids.
    """
    meant, works = selection(words), history.works
    absent = [word for word in words if (named := _named(word)) is not None and named not in history.records]
    found = [] if absent else [one for one in history.records.values() if meant(one, works[one.task.work])]
    if not found:
        raise UsageError(f"no task of {run} is {' '.join(absent or words)}", hint="heald task ls lists all")
    return found


def _named(word: str) -> int | None:
    """The one id that a word names."""
    found = _IDS.fullmatch(word)
    return int(found[4] or found[1]) if found and not found[2] else None


def _joined(quantor: Callable[[Iterable[bool]], bool], tests: Sequence[Test]) -> Test:
    """Any of some tests, or all; one alone is not wrapped, since there may be a million tasks to ask."""
    if len(tests) == 1:
        return tests[0]
    return lambda record, work: quantor(test(record, work) for test in tests)


def _term(word: str) -> tuple[str, Test]:
    """The sort of a word, and its test."""
    field, equals, pattern = word.partition("=")
    matches = cache(lambda text: fnmatchcase(text, pattern))
    if field == "name" and equals:
        return field, lambda record, work: matches(work.name)
    if field == "state" and equals:
        if pattern not in State.__members__:
            raise UsageError(f"{pattern!r} is no state of a task", hint=f"there are {', '.join(State.__members__)}")
        state = State[pattern]
        return field, lambda record, work: record.state is state
    if field == "failure" and equals:
        if pattern not in KINDS:
            raise UsageError(f"{pattern!r} is no class of failure", hint=f"there are {', '.join(KINDS)}")
        return field, lambda record, work: record.failure is not None and record.failure.kind == pattern
    if field.startswith("tag:") and equals:
        tag = field.removeprefix("tag:")
        return field, lambda record, work: any(key == tag and matches(value) for key, value in work.tags)
    if found := _IDS.fullmatch(word):
        first, dash, last, labelled = found.groups()
        low = int(labelled or first)
        high = low if not dash else int(last) if last else float("inf")
        return "id", lambda record, work: low <= record.task.id <= high
    raise UsageError(f"{word!r} chooses no tasks", hint=_HINT)

from __future__ import annotations

import subprocess
import sys

import pytest

from heald.core.environment import Environment
from heald.core.resources import Resources
from heald.core.retry import Retry
from heald.core.task import COMMAND, FUNCTION, Payload, Task, Work

WORK = Work("square", FUNCTION, b"function")


def test_digest_names_a_work_by_all_that_is_in_it() -> None:
    others = [
        Work("cube", FUNCTION, b"function"),
        Work("square", COMMAND, b"function"),
        Work("square", FUNCTION, b"another"),
        Work("square", FUNCTION, b"function", b"code"),
        Work("square", FUNCTION, b"function", resources=Resources(cpus=2)),
        Work("square", FUNCTION, b"function", retry=Retry(limit=1)),
        Work("square", FUNCTION, b"function", environment=Environment({"A": "1"})),
        Work("square", FUNCTION, b"function", executor="gpu"),
        Work("square", FUNCTION, b"function", priority=1),
        Work("square", FUNCTION, b"function", tags=(("a", "b"),)),
        Work("square", FUNCTION, b"function", memo=True),
    ]
    digests = {work.digest() for work in (WORK, *others)}
    assert len(digests) == 1 + len(others)
    assert {len(digest) for digest in digests} == {16}
    assert Work("square", FUNCTION, b"function").digest() == WORK.digest()


def test_digest_does_not_depend_on_the_order_of_variables() -> None:
    one, other = {"A": "1", "B": "2"}, {"B": "2", "A": "1"}
    digests = {Work("f", FUNCTION, b"", environment=Environment(variables)).digest() for variables in (one, other)}
    assert len(digests) == 1


def test_digest_is_the_same_in_another_process() -> None:
    code = "from heald.core.task import *; print(Work('square', FUNCTION, b'function').digest().hex())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == WORK.digest().hex()


@pytest.mark.parametrize("record", [Task(1, b"", Payload(b"")), WORK, Payload(b"")], ids=lambda one: type(one).__name__)
def test_records_cannot_be_changed(record: object) -> None:
    with pytest.raises(AttributeError):
        setattr(record, type(record).__struct_fields__[0], 2)  # type: ignore[attr-defined]

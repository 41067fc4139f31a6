from __future__ import annotations

import msgspec
import pytest

from heald.core.environment import PLAIN, Environment


def test_plain_changes_nothing() -> None:
    assert Environment() == PLAIN == Environment({}, "", "", "")


def test_travels() -> None:
    environment = Environment({"OMP_NUM_THREADS": "2"}, "auto", "out.txt", "err.txt")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(environment), type=Environment) == environment


def test_variables_are_not_shared_between_records() -> None:
    Environment().variables["LEAK"] = "1"
    assert Environment().variables == {}


def test_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        PLAIN.directory = "/tmp"  # type: ignore[misc]

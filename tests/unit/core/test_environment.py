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


def test_software_is_all_that_is_prepared() -> None:
    assert Environment({"X": "1"}, "auto", "out", "err").software == PLAIN
    software = Environment(modules=("gcc/12",), setup=("true",), uv=("numpy",))
    assert msgspec.structs.replace(software, variables={"X": "1"}).software == software
    assert not Environment(modules=("gcc/12",), setup=("true",)).foreign
    assert all(Environment(**{name: "x"}).foreign for name in ("python", "conda", "container"))  # type: ignore[arg-type]


def test_one_lies_over_another() -> None:
    usual = Environment({"A": "1", "B": "1"}, "/home", modules=("gcc/12",), conda="md")
    assert PLAIN.over(usual) == usual
    assert usual.over(PLAIN) is usual
    own = Environment({"B": "2"}, stdout="out", container="md.sif")
    assert own.over(usual) == Environment(
        {"A": "1", "B": "2"}, "/home", "out", modules=("gcc/12",), container="md.sif"
    ), "its Python comes whole"


def test_an_older_record_is_read() -> None:
    older = msgspec.msgpack.encode([{"X": "1"}, "auto", "", ""])
    assert msgspec.msgpack.decode(older, type=Environment) == Environment({"X": "1"}, "auto")


def test_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        PLAIN.directory = "/tmp"  # type: ignore[misc]

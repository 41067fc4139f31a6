from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heald.core.errors import NotPicklable
from heald.data import parcel
from heald.data.payload import pack, unpack


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "value"


def test_a_value_with_large_buffers(file: Path) -> None:
    value = {"a": np.arange(100_000), "b": [np.ones(30_001, dtype="u1"), np.zeros(200_000, dtype="u1")], "c": "text"}
    parcel.write(file, value, subject="it")
    found = parcel.read(file)
    assert (found["a"] == value["a"]).all()
    assert [len(one) for one in found["b"]] == [30_001, 200_000]
    assert found["c"] == "text"


def test_nothing_else_is_left_beside_it(file: Path) -> None:
    parcel.write(file, [1], subject="it")
    parcel.write(file, [2], subject="it")
    assert list(file.parent.iterdir()) == [file]
    assert parcel.read(file) == [2]


def test_what_one_reader_changes_the_others_do_not_see(file: Path) -> None:
    parcel.write(file, np.zeros(100_000), subject="it")
    mine, yours = parcel.read(file), parcel.read(file)
    mine += 1
    assert not yours.any()
    assert not parcel.read(file).any()


def test_large_buffers_begin_where_arrays_like_it(file: Path) -> None:
    parcel.write(file, [np.ones(100_001, dtype="u1"), np.ones(100_000)], subject="it")
    assert all(one.ctypes.data % 64 == 0 for one in parcel.read(file))


def test_it_is_handed_on_without_being_unpickled(file: Path) -> None:
    parcel.write(file, ["weft", np.arange(50_000)], subject="it")
    payload, _ = pack([parcel.opened(file), 7], None, subject="a list")
    (text, array), seven = unpack(payload)
    assert (text, len(array), seven) == ("weft", 50_000, 7)


def test_what_cannot_be_pickled_is_named(file: Path) -> None:
    with pytest.raises(NotPicklable, match=r"the settings cannot be pickled: its part \['x'\]"):
        parcel.write(file, {"x": (one for one in ())}, subject="the settings")
    assert not list(file.parent.iterdir())


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        parcel.read(file)

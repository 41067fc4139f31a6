from __future__ import annotations

import gc
import weakref

import msgspec
import pytest

from heald.core.ref import Ref


def test_names_data_by_place_size_and_content() -> None:
    assert Ref("arena:0", 8) == Ref("arena:0", 8, "")
    assert len({Ref("arena:0", 8), Ref("arena:0", 8), Ref("arena:8", 8), Ref("arena:0", 8, "ab")}) == 3


def test_travels() -> None:
    ref = Ref("object:ab", 800, "ab")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ref), type=Ref) == ref


def test_its_end_can_be_watched() -> None:
    ref, ended = Ref("arena:0", 8), []
    weakref.finalize(ref, ended.append, True)
    del ref
    gc.collect()
    assert ended


def test_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Ref("arena:0").size = 1  # type: ignore[misc]

from __future__ import annotations

import threading

import pytest

from heald.core.errors import NotPicklable
from heald.core.graph import Joined
from heald.core.task import Payload
from heald.data.payload import Placeholder, pack, unpack
from heald.run.outcome import Live
from heald.run.value import payload_of


def test_a_payload_is_itself() -> None:
    payload = Payload(b"x")
    assert payload_of(payload) is payload


def test_a_live_value_is_pickled() -> None:
    assert unpack(payload_of(Live([1, 2]))) == [1, 2]


def test_a_lazy_value_is_made() -> None:
    assert unpack(payload_of(Live(lambda: [1], lazy=True))) == [1]


def test_a_live_value_that_cannot_travel_is_refused() -> None:
    with pytest.raises(NotPicklable, match="ran in this process"):
        payload_of(Live(threading.Lock()))


def test_the_values_of_a_join_fill_its_frame() -> None:
    first, second = Placeholder(), Placeholder()
    shape, placeholders = pack({"a": [first, second, first]}, None, subject="the frame")
    assert placeholders == [first, second]
    inner = Joined(pack([first], None, subject="an inner frame")[0], (Live(2),))
    joined = Joined(shape, (pack(1, None, subject="one")[0], inner))
    assert unpack(payload_of(joined)) == {"a": [1, [2], 1]}


def test_what_is_no_value_is_a_fault_of_ours() -> None:
    with pytest.raises(TypeError, match="dict is no value"):
        payload_of({})

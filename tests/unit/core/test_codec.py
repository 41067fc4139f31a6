from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core import codec
from heald.core.environment import Environment
from heald.core.event import (
    Cancelled,
    Closed,
    Defined,
    Due,
    Event,
    Expanded,
    Failure,
    Finished,
    Opened,
    Placed,
    Removed,
    Retried,
    Returned,
    Started,
    Submitted,
    Usage,
)
from heald.core.ref import Ref
from heald.core.resources import Resources
from heald.core.retry import Retry
from heald.core.task import Payload, Task, Work

ids = st.integers(0, 2**63 - 1)
times = st.floats(allow_nan=False)
counts = st.integers(0, 2**31)
words = st.text(max_size=20)
digests = st.binary(max_size=20)
refs = st.builds(Ref, words, counts, words)
payloads = st.recursive(
    st.builds(Payload, digests, st.lists(refs, max_size=3).map(tuple)),
    lambda inner: st.builds(Payload, digests, st.just(()), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=5,
)
usages = st.builds(Usage, times, times, times, counts, st.integers(-64, 255))
failures = st.builds(
    Failure,
    words, words, st.none() | payloads, words, st.lists(words).map(tuple), words, st.integers(-64, 255), words, words,
    words, st.booleans(),
)  # fmt: skip
works = st.builds(
    Work,
    words, words, digests, digests,
    st.builds(Resources, counts, times, counts, times, counts, counts),
    st.builds(Retry, counts, st.lists(words).map(tuple), times, times, times, times, counts),
    st.builds(Environment, st.dictionaries(words, words, max_size=3), words, words, words),
    words, st.integers(-9, 9), st.lists(st.tuples(words, words), max_size=3).map(tuple), st.booleans(),
)  # fmt: skip
tasks = st.builds(Task, ids, digests, payloads, st.lists(ids, max_size=5).map(tuple), digests)

EVENTS: dict[type, Any] = {
    Submitted: st.builds(Submitted, ids, times, tasks),
    Placed: st.builds(Placed, ids, times, counts, words, words),
    Started: st.builds(Started, ids, times, counts, counts),
    Returned: st.builds(Returned, ids, times, counts),
    Expanded: st.builds(Expanded, ids, times, counts, st.lists(ids).map(tuple), st.none() | payloads),
    Finished: st.builds(Finished, ids, times, counts, payloads | failures, usages, st.booleans()),
    Due: st.builds(Due, ids, times, counts),
    Cancelled: st.builds(Cancelled, ids, times, words, st.booleans()),
    Retried: st.builds(Retried, ids, times),
    Removed: st.builds(Removed, ids, times),
    Defined: st.builds(Defined, digests, works),
    Opened: st.builds(Opened, times, counts, words, words, words, words, st.lists(words).map(tuple), words),
    Closed: st.builds(Closed, times),
}


def test_every_kind_of_event_is_tried() -> None:
    assert EVENTS.keys() == set(get_args(Event))


@given(st.lists(st.one_of(*EVENTS.values()), max_size=8))
def test_what_is_encoded_comes_back(events: list[Event]) -> None:
    frame = codec.encode(events)
    assert codec.decode(frame) == events
    assert codec.decode(memoryview(frame)) == events
    assert codec.encode(codec.decode(frame)) == frame


@given(st.one_of(*EVENTS.values()), st.data())
def test_cut_frame_is_refused(event: Event, data: st.DataObject) -> None:
    frame = codec.encode([event])
    with pytest.raises(msgspec.DecodeError):
        codec.decode(frame[: data.draw(st.integers(0, len(frame) - 1))])


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_or_events(data: bytes) -> None:
    try:
        events = codec.decode(data)
    except msgspec.DecodeError:
        return
    assert all(isinstance(event, tuple(EVENTS)) for event in events)


@pytest.mark.parametrize(
    "thing",
    [
        b"",
        b"\xc1",
        {"a": 1},
        ["closed", 1.0],  # an event, not a list of some
        [["nonsense", 1.0]],
        [["closed", "yesterday"]],
        [["due", 1.5, 1.0, 1]],
        [["finished", 1, 1.0, 1, [9, b"neither value nor failure"]]],
        [["due", 1]],
    ],
    ids=repr,
)
def test_what_does_not_fit_the_records_is_refused(thing: object) -> None:
    with pytest.raises(msgspec.DecodeError):
        codec.decode(thing if isinstance(thing, bytes) else msgspec.msgpack.encode(thing))


def test_events_of_a_later_heald_may_have_more_in_them() -> None:
    frame = msgspec.msgpack.encode([["closed", 1.0, "a fact of the future"]])
    assert codec.decode(frame) == [Closed(1.0)]


LARGE = Payload(b"x" * 5000, (Ref("object:1", 300),))


def test_outline_has_the_sizes_of_large_values_and_all_else() -> None:
    exception = Failure("user", "no", LARGE, "its traceback")
    events = [
        Submitted(1, 1.0, Task(1, b"w", LARGE, (7,), b"key")),
        Placed(1, 1.0, 1, "process", "worker-1"),
        Finished(1, 1.0, 1, exception, Usage(1.0), recalled=True),
        Expanded(2, 1.0, 1, (1,), LARGE),
        Expanded(2, 1.0, 1, (1,), None),
        Finished(2, 1.0, 1, Payload(b"small")),
        Finished(3, 1.0, 1, Payload(b"", inputs=(LARGE, LARGE))),
        Finished(4, 1.0, 1, Failure("user", "no")),
    ]
    found: list[Any] = codec.outline(codec.encode(events))
    assert found[0] == Submitted(1, 1.0, Task(1, b"w", Payload(b"", (Ref("journal:", 5300),)), (7,), b"key"))
    assert found[2].outcome == msgspec.structs.replace(exception, exception=Payload(b"", (Ref("journal:", 5300),)))
    assert (found[2].usage, found[2].recalled) == (Usage(1.0), True)
    assert (found[3].shape.size, found[6].outcome.size) == (5300, 10600)
    assert [found[place] for place in (1, 4, 5, 7)] == [events[place] for place in (1, 4, 5, 7)]
    assert len(codec.encode(found)) < 500


@given(st.lists(st.one_of(*EVENTS.values()), max_size=8))
def test_outline_of_what_is_small_is_all_of_it(events: list[Event]) -> None:
    frame = codec.encode(events)
    if len(frame) <= 1000 * len(events):
        assert codec.outline(frame) == events

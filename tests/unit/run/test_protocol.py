from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.event import Failure, Usage
from heald.core.ref import Ref
from heald.core.resources import Resources
from heald.core.task import Payload, Work
from heald.run import protocol
from heald.run.protocol import (
    LATE,
    STOP,
    Began,
    Born,
    Define,
    Died,
    Drop,
    Ended,
    Frames,
    Free,
    Hold,
    Kept,
    Order,
    Released,
    Setup,
    Signal,
    Spawn,
    frame,
    word,
    words,
)

numbers = st.integers(0, 2**40)
text = st.text(max_size=8)
blobs = st.binary(max_size=64)
refs = st.builds(Ref, text, numbers, text)
payloads = st.recursive(
    st.builds(Payload, blobs, st.tuples(refs)),
    lambda inner: st.builds(Payload, blobs, st.just(()), st.lists(inner, max_size=2).map(tuple)),
    max_leaves=4,
)
works = st.builds(Work, text, st.sampled_from(["function", "command"]), blobs, resources=st.builds(Resources))
instructions = st.one_of(
    st.builds(Define, blobs, works, blobs),
    st.builds(Order, numbers, numbers, blobs, payloads, st.lists(payloads, max_size=2).map(tuple)),
    st.builds(Drop, numbers, st.integers(0, 255)),
    st.builds(Hold, st.lists(numbers, max_size=3).map(tuple), st.dictionaries(text, text, max_size=2)),
    st.builds(Free, st.tuples(refs)),
)
usages = st.builds(Usage, st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e9), numbers, st.integers(-64, 255))
reports = st.one_of(
    st.builds(Began, numbers, numbers, st.floats(0, 1e9)),
    st.builds(Ended, numbers, numbers, payloads | st.builds(Failure, text, text, payloads | st.none()), usages),
    st.builds(Released, st.tuples(refs)),
    st.builds(Kept, st.tuples(refs)),
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The bytes in pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(st.lists(instructions, max_size=4))
def test_instructions_come_back(messages: list[protocol.Instruction]) -> None:
    (body,) = Frames().feed(frame(messages))
    assert protocol.instructions(body) == messages


@given(st.lists(reports, max_size=4))
def test_reports_come_back(messages: list[protocol.Report]) -> None:
    (body,) = Frames().feed(frame(messages))
    assert protocol.reports(body) == messages


@given(st.lists(st.lists(instructions, max_size=3), max_size=5), st.lists(st.integers(0, 40), max_size=30))
def test_frames_are_found_wherever_the_stream_is_cut(
    batches: list[list[protocol.Instruction]], sizes: list[int]
) -> None:
    frames = Frames()
    bodies = [body for piece in cut(b"".join(map(frame, batches)), sizes) for body in frames.feed(piece)]
    assert [protocol.instructions(body) for body in bodies] == batches


def test_a_part_of_a_frame_is_kept_for_later() -> None:
    data = frame([Drop(3, 1)])
    frames = Frames()
    assert list(frames.feed(data[:3])) == []
    assert list(frames.feed(data[3:-1])) == []
    assert [protocol.instructions(body) for body in frames.feed(data[-1:] + data[:5])] == [[Drop(3, 1)]]
    assert [protocol.instructions(body) for body in frames.feed(data[5:])] == [[Drop(3, 1)]]


@pytest.mark.parametrize("message", [Setup("/home", "/logs", "/run"), Spawn(3, "worker-3"), Signal(3, 15)])
def test_commands_come_back(message: protocol.Command) -> None:
    assert protocol.command(protocol.encode(message)) == message


@pytest.mark.parametrize("message", [Born(3, 4711), Died(3, -9, 10**9, True)])
def test_notices_come_back(message: protocol.Notice) -> None:
    assert protocol.notice(protocol.encode(message)) == message


def test_words_name_one_attempt_each() -> None:
    said = [(kind, task, attempt) for kind in (STOP, LATE) for task in (1, 2**40) for attempt in (1, 300)]
    made = [word(*one) for one in said]
    assert len(set(made)) == len(made)
    assert list(words(b"".join(made))) == said
    assert protocol.WORDS % len(made[0]) == 0


def test_what_is_no_message_is_refused() -> None:
    (body,) = Frames().feed(frame([Began(1, 1, 0.0)]))
    with pytest.raises(msgspec.DecodeError):
        protocol.instructions(body)

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.errors import JournalCorrupt, JournalError, UsageError
from heald.store import frame
from heald.store.frame import HEADER, head_of, identity_of, new_header, refused, scan, whole_length

BODIES = [b"first", b"", b"the second one", b"x" * 300]


def image(bodies: list[bytes]) -> bytes:
    return new_header() + b"".join(head_of(body) + body for body in bodies)


def scanned(path: Path) -> list[bytes]:
    with open(path, "rb", buffering=0) as file:
        return [body for _, body in scan(file, HEADER.size)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "my run.heald"
    folder.mkdir()
    return folder / "journal.log"


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_frames_are_found_whatever_the_size_of_reads(path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "CHUNK", chunk)
    path.write_bytes(image(BODIES))
    assert scanned(path) == BODIES


def test_any_flipped_bit_before_the_last_frame_is_damage(path: Path) -> None:
    sound = image(BODIES)
    last = len(sound) - len(head_of(BODIES[-1]) + BODIES[-1])
    for at in range(HEADER.size, last):
        data = bytearray(sound)
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        with pytest.raises(JournalCorrupt, match="damaged at byte") as caught:
            scanned(path)
        assert "`truncate -s " in caught.value.hint
        assert f" '{path}'`" in caught.value.hint, "ready to be typed"


def test_any_flipped_bit_in_the_last_frame_ends_the_journal_before_it(path: Path) -> None:
    sound = image(BODIES)
    last = len(sound) - len(head_of(BODIES[-1]) + BODIES[-1])
    for at in range(last, len(sound)):
        data = bytearray(sound)
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        assert scanned(path) == BODIES[:-1]


def test_damage_names_its_offset_and_where_sound_frames_go_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "CHUNK", 16)  # the search passes from window to window
    data = bytearray(image(BODIES))
    data[HEADER.size : HEADER.size + 20] = b"\xff" * 20
    path.write_bytes(data)
    third = HEADER.size + 2 * 12 + len(BODIES[0] + BODIES[1])
    with pytest.raises(JournalCorrupt, match=f"damaged at byte {HEADER.size}: frames from byte {third} on"):
        scanned(path)


@pytest.mark.parametrize("fill", range(256))
def test_a_filled_block_over_a_frame_is_damage(path: Path, fill: int) -> None:
    data = bytearray(image(BODIES))
    data[HEADER.size : HEADER.size + 20] = bytes([fill]) * 20
    path.write_bytes(data)
    with pytest.raises(JournalCorrupt, match="damaged"):
        scanned(path)


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\xff" * 5000, b"\0"])
def test_a_tail_of_nothing_is_no_damage(path: Path, tail: bytes) -> None:
    path.write_bytes(image(BODIES) + tail)
    assert scanned(path) == BODIES


def test_a_torn_frame_that_holds_frames_is_only_torn(path: Path) -> None:
    journal = image(BODIES)
    path.write_bytes(journal + (head_of(journal + b"more") + journal))
    assert scanned(path) == BODIES


def test_a_tail_that_was_replaced_under_the_reader_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "CHUNK", HEADER.size + 20)
    path.write_bytes(image([b"first"]) + (head_of(b"killed here") + b"killed here")[:15])
    with open(path, "rb", buffering=0) as file:
        found = scan(file, HEADER.size)
        assert next(found)[1] == b"first"
        path.write_bytes(image([b"first", b"another", b"and more"]))
        assert [body for _, body in found] == [b"another", b"and more"]


@given(st.lists(st.binary(max_size=50)), st.data())
def test_whole_length_is_that_of_whole_frames(bodies: list[bytes], data: st.DataObject) -> None:
    frames = [head_of(body) + body for body in bodies]
    stream = b"".join(frames)
    limit = data.draw(st.integers(0, len(stream)))
    ends = [sum(map(len, frames[:count])) for count in range(len(frames) + 1)]
    assert whole_length(stream, limit) == max(end for end in ends if end <= limit)


@pytest.mark.parametrize("content", [b"Hello, I am a text.\n" * 3, b"hi", b"\0", new_header().replace(b"\r\n", b"\n")])
def test_a_foreign_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with open(path, "rb", buffering=0) as file, pytest.raises(JournalError, match="no journal of heald"):
        identity_of(file)


def test_an_unknown_version_is_refused(path: Path) -> None:
    magic, version, identity = HEADER.unpack(new_header())
    path.write_bytes(HEADER.pack(magic, version + 1, identity))
    with (
        open(path, "rb", buffering=0) as file,
        pytest.raises(JournalError, match="format 2; this heald knows format 1"),
    ):
        identity_of(file)


def test_a_body_too_long_for_its_length_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "_LONGEST", 10)
    with pytest.raises(UsageError, match="at most 10"):
        head_of(b"eleven byte")


def test_what_the_system_refused_comes_with_its_words_and_a_hint() -> None:
    error = refused("write", "/scratch/journal.log", OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert "Disk quota exceeded" in str(error)
    assert "quota" in error.hint

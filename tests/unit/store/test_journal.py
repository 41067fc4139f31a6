from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heald.core.errors import JournalCorrupt, JournalError, UsageError
from heald.store.frame import HEADER, head_of
from heald.store.journal import Follower, Journal, Sync, read, rewrite

SYNCS: tuple[Sync, ...] = ("none", "batch", "each")


def write(path: Path, frames: list[bytes], sync: Sync = "none") -> None:
    with Journal(path, sync=sync) as journal:
        for frame in frames:
            journal.append(frame)


def frames_of(path: Path, offset: int = 0) -> list[bytes]:
    return [frame for _, frame in read(path, offset)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.log"


@pytest.mark.parametrize("sync", SYNCS)
def test_what_was_flushed_is_read(path: Path, sync: Sync) -> None:
    with Journal(path, sync=sync) as journal:
        assert frames_of(path) == []
        journal.append(b"one")
        assert frames_of(path) == []
        journal.flush()
        assert frames_of(path) == [b"one"]
        journal.append(b"two")
    assert frames_of(path) == [b"one", b"two"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_opened_journal_goes_on_at_its_end(path: Path) -> None:
    write(path, [b"one"])
    write(path, [b"two"])
    assert frames_of(path) == [b"one", b"two"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=2000), max_size=20), max_size=6), st.data())
def test_frames_come_back_as_they_were(batches: list[list[bytes]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.log"
        for batch in batches:
            write(path, batch)
        write(path, [])
        written = [frame for batch in batches for frame in batch]
        found = list(read(path))
        assert [frame for _, frame in found] == written
        start = data.draw(st.integers(0, len(written)))
        offset = found[start - 1][0] if start else 0
        assert frames_of(path, offset) == written[start:]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.data())
def test_damage_never_makes_frames_up(written: list[bytes], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.log"
        write(path, written)
        image = bytearray(path.read_bytes())
        at = data.draw(st.integers(HEADER.size, len(image) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=30))[: len(image) - at]
        image[at : at + len(noise)] = noise
        path.write_bytes(image)
        found = []
        try:
            for _, frame in read(path):
                found.append(frame)
        except JournalCorrupt:
            pass
        assert found == written[: len(found)]


def test_a_torn_tail_is_cut_at_every_length(path: Path) -> None:
    write(path, [b"one", b"two"])
    keep = path.stat().st_size
    write(path, [b"the last one"])
    image = path.read_bytes()
    for length in range(keep, len(image)):
        path.write_bytes(image[:length])
        assert frames_of(path) == [b"one", b"two"]
        with Journal(path, sync="none") as journal:
            assert journal.torn == length - keep
            journal.append(b"three")
        assert frames_of(path) == [b"one", b"two", b"three"]


def test_a_torn_header_is_begun_again(path: Path) -> None:
    write(path, [])
    image = path.read_bytes()
    for length in range(HEADER.size):
        path.write_bytes(image[:length])
        assert frames_of(path) == []
        with Journal(path, sync="none") as journal:
            journal.append(b"one")
        assert frames_of(path) == [b"one"]


def test_damage_in_the_middle_is_refused_and_left_as_it_is(path: Path) -> None:
    write(path, [b"one", b"two", b"three"])
    image = bytearray(path.read_bytes())
    image[HEADER.size + 13] ^= 4
    path.write_bytes(image)
    with pytest.raises(JournalCorrupt, match=f"damaged at byte {HEADER.size}"):
        Journal(path)
    assert path.read_bytes() == image


@pytest.mark.parametrize("content", [b"a text of somebody else, and quite long", b"\x93h3"])
def test_a_foreign_file_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError, match="no journal"):
        Journal(path)
    with pytest.raises(JournalError, match="no journal"):
        frames_of(path)
    assert path.read_bytes() == content


def test_what_cannot_be_opened_is_refused_with_the_words_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"cannot read .*No such file"):
        frames_of(tmp_path / "journal.log")
    with pytest.raises(JournalError, match=r"cannot open .*directory"):
        Journal(tmp_path)
    with pytest.raises(UsageError, match="sync='often'"):
        Journal(tmp_path / "journal.log", sync="often")  # type: ignore[arg-type]


def test_a_closed_journal_says_so(path: Path) -> None:
    journal = Journal(path)
    journal.close()
    journal.close()
    journal.append(b"one")
    with pytest.raises(JournalError, match="is closed"):
        journal.flush()


def test_only_its_own_process_writes(path: Path) -> None:
    script = """if True:
        import os, sys
        from heald.store.journal import Journal
        journal = Journal(sys.argv[1], sync="batch")
        journal.append(b"one")
        if (child := os.fork()) == 0:
            try:
                journal.flush()
            except Exception as error:
                journal.close()
                os._exit(0 if "not by this child" in str(error) else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        journal.close()
    """
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, str(path)], check=True)
    assert frames_of(path) == [b"one"]


# A disk that is full or broken ------------------------------------------------------------------------------------


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Lowers the largest size of a file: the system then refuses as on a full disk, after a part of the write.

    No fixture: pytest, which may write into a file, reports on a test before it takes back what fixtures did.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("sync", SYNCS)
def test_nothing_is_lost_when_room_returns(path: Path, sync: Sync) -> None:
    frames = [b"%03d" % number * 10 for number in range(100)]
    size = len(head_of(frames[0]) + frames[0])
    journal = Journal(path, sync=sync)
    for frame in frames:
        journal.append(frame)
    with small_files(HEADER.size + 10 * size + 5):
        for _ in range(2):
            with pytest.raises(JournalError, match=r"cannot write .*journal.log: File too large"):
                journal.flush()
            assert frames_of(path) == frames[:10]
            assert path.stat().st_size == HEADER.size + 10 * size
        with pytest.raises(JournalError, match="cannot write"):
            journal.close()
    journal.append(b"after")
    journal.close()
    assert frames_of(path) == [*frames, b"after"]


def test_a_part_that_cannot_be_cut_is_cut_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path, sync="none")
    journal.append(b"one")
    journal.flush()
    write_really, cut_really = os.write, os.ftruncate
    left = [20]

    def write_a_part(descriptor: int, data: memoryview) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write_really(descriptor, data[: left[0]])
        left[0] -= count
        return count

    def refuse_to_cut(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal.append(b"two" * 5)
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", write_a_part)
        broken.setattr(os, "ftruncate", refuse_to_cut)
        with pytest.raises(JournalError, match="No space left") as caught:
            journal.flush()
        assert "make room" in caught.value.hint
        with pytest.raises(JournalError, match="Input/output error"):
            journal.flush()
    assert os.ftruncate is cut_really
    assert frames_of(path) == [b"one"]
    journal.append(b"three")
    journal.close()
    assert frames_of(path) == [b"one", b"two" * 5, b"three"]


def test_an_interrupted_write_is_not_repeated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_really = os.write

    def write_and_be_interrupted(descriptor: int, data: memoryview) -> int:
        write_really(descriptor, data)
        raise KeyboardInterrupt

    journal = Journal(path, sync="none")
    journal.append(b"one")
    with monkeypatch.context() as interrupted:
        interrupted.setattr(os, "write", write_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.flush()
    journal.append(b"two")
    journal.close()
    assert frames_of(path) == [b"one", b"two"]


def fail_to_sync(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_failed_sync_of_each_flush_is_told_and_told_again_at_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(path, sync="each")
    journal.append(b"one")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail_to_sync)
        for _ in range(2):
            with pytest.raises(JournalError, match=r"cannot bring to the disk .*Input/output error"):
                journal.flush()
    journal.flush()
    with pytest.raises(JournalError, match="bring to the disk"):
        journal.close()
    journal.close()
    assert frames_of(path) == [b"one"]


def test_a_failed_sync_in_the_background_is_told_at_the_next_flush(
    path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    journal = Journal(path, sync="batch")
    journal.append(b"one")

    said: list[JournalError] = []

    def refused() -> bool:
        said.clear()
        try:
            journal.flush()
        except JournalError as error:
            said.append(error)
        return bool(said)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail_to_sync)
        wait_until(refused)
    assert "Input/output error" in said[0].message
    assert "another file system" in said[0].hint
    assert not refused()
    with pytest.raises(JournalError, match="bring to the disk"):
        journal.close()


def test_a_failed_sync_at_the_end_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path, sync="batch")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail_to_sync)
        with pytest.raises(JournalError, match="bring to the disk"):
            journal.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "heald-journal-sync"]


def test_syncs_are_gathered_and_never_overlap(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync_really, going, calls, most, synced = os.fdatasync, [0], [0], [0], threading.Event()

    def sync_and_count(descriptor: int) -> None:
        going[0] += 1
        calls[0] += 1
        most[0] = max(most[0], going[0])
        sync_really(descriptor)
        going[0] -= 1
        synced.set()

    monkeypatch.setattr(os, "fdatasync", sync_and_count)
    journal = Journal(path, sync="batch")
    assert calls == [0]
    for number in range(1000):
        journal.append(b"%d" % number)
        journal.flush()
    assert synced.wait(10)
    journal.close()
    assert most == [1]
    assert calls[0] < 100


@pytest.mark.parametrize(("sync", "expected"), [("none", 0), ("batch", 1), ("each", 4)])
def test_how_often_each_choice_syncs(path: Path, sync: Sync, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    monkeypatch.setattr("heald.store.journal._PAUSE", 3600)
    with Journal(path, sync=sync) as journal:
        for _ in range(3):
            journal.append(b"one")
            journal.flush()
            journal.flush()
    assert len(calls) == expected


# Compaction and readers -------------------------------------------------------------------------------------------


def test_rewrite_replaces_the_frames(path: Path) -> None:
    write(path, [b"one", b"two", b"three"])
    rewrite(path, (frame for frame in frames_of(path) if frame != b"two"))
    rewrite(path, (frame.upper() for _, frame in read(path)))
    write(path, [b"four"])
    assert frames_of(path) == [b"ONE", b"THREE", b"four"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["journal.log"]


def test_a_failed_rewrite_leaves_the_old_journal(path: Path) -> None:
    write(path, [b"one", b"two"])

    def broken_off() -> Iterator[bytes]:
        yield b"one"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        rewrite(path, broken_off())
    with small_files(1000), pytest.raises(JournalError, match="cannot rewrite"):
        rewrite(path, [b"x" * 2000])
    assert frames_of(path) == [b"one", b"two"]
    assert os.listdir(path.parent) == ["journal.log"]


def test_a_follower_reads_each_frame_once(path: Path) -> None:
    with Journal(path, sync="none") as journal:
        follower = Follower(path)
        assert follower.poll() == []
        journal.append(b"one")
        journal.append(b"two")
        journal.flush()
        assert follower.poll() == [b"one", b"two"]
        assert follower.poll() == []
        journal.append(b"three")
        journal.flush()
        assert follower.poll() == [b"three"]
        assert not follower.restarted


def test_a_follower_starts_over_when_the_file_was_replaced(path: Path) -> None:
    write(path, [b"one", b"two"])
    follower = Follower(path)
    follower.poll()
    rewrite(path, [b"ONE", b"TWO"])  # of the same length
    assert (follower.poll(), follower.restarted) == ([b"ONE", b"TWO"], True)
    assert (follower.poll(), follower.restarted) == ([], False)


def test_a_follower_starts_over_when_a_power_failure_took_the_end(path: Path) -> None:
    write(path, [b"one", b"two"])
    follower = Follower(path)
    follower.poll()
    os.truncate(path, path.stat().st_size - 1)
    assert (follower.poll(), follower.restarted) == ([b"one"], True)


def test_a_follower_waits_for_the_header(path: Path) -> None:
    path.touch()
    follower = Follower(path)
    assert follower.poll() == []
    write(path, [b"one"])
    assert (follower.poll(), follower.restarted) == ([b"one"], False)


def test_a_follower_reads_a_long_journal_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heald.store.journal._MOST", 100)
    frames = [bytes([number]) * 40 for number in range(5)]
    write(path, frames)
    follower = Follower(path)
    assert [follower.poll() for _ in range(4)] == [frames[:2], frames[2:4], frames[4:], []]


def test_a_follower_meets_damage_again(path: Path) -> None:
    write(path, [b"one", b"two", b"three"])
    data = bytearray(path.read_bytes())
    data[data.index(b"two")] ^= 1
    path.write_bytes(data)
    follower = Follower(path)
    for _ in range(2):
        with pytest.raises(JournalCorrupt):
            follower.poll()


# Counts to argv[2]; every thousand, what was counted becomes one frame.
COUNTING = """if True:
    import sys
    from heald.store.journal import Journal, rewrite
    path, total, compact = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "compact"
    journal = Journal(path, sync="none")
    print(flush=True)
    for number in range(1, total + 1):
        journal.append(b"+%d" % number)
        if number % 7 == 0:
            journal.flush()
        if compact and number % 1000 == 0:
            journal.close()
            rewrite(path, [b"=%d" % number])
            journal = Journal(path, sync="none")
    journal.close()
"""


@pytest.mark.parametrize("how", ["append", "compact"])
def test_a_reader_beside_a_writer_sees_every_frame_in_order(
    path: Path, how: str, wait_until: Callable[..., None]
) -> None:
    total = 20_000
    command = [sys.executable, "-c", COUNTING, str(path), str(total), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        follower, count, polls = Follower(path), 0, 0

        def counted() -> bool:
            nonlocal count, polls
            frames = follower.poll()
            polls += 1
            count = 0 if follower.restarted else count
            for frame in frames:
                assert frame.startswith(b"=") or int(frame) == count + 1
                count = int(frame[1:])
            return count == total

        while writer.poll() is None:
            counted()
        wait_until(counted)
    assert writer.returncode == 0
    assert polls > 1  # on a busy machine the reader has few turns

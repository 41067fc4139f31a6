from __future__ import annotations

import errno
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heald.core.errors import UsageError
from heald.data import memo as module
from heald.data.memo import Memo, Pruned, default_memo_path

KEY = bytes(range(16))
HOUR = 3600.0


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return Memo(tmp_path / "memo")


@pytest.fixture
def no_warnings(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not caplog.records


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> int:
    """Entries are large from here, so that tests need not write 16 MB."""
    monkeypatch.setattr(module, "_MAPPED", 4096)
    return 4096


def key(number: int) -> bytes:
    return number.to_bytes(1, "big") + bytes(15)


def file_of(memo: Memo, key: bytes = KEY) -> Path:
    return Path(memo.path, key.hex()[:2], key.hex())


def used(memo: Memo, key: bytes, hours: float) -> None:
    """The entry was last used so many hours ago."""
    when = time.time() - hours * HOUR
    os.utime(file_of(memo, key), (when, when))


def names(memo: Memo) -> list[str]:
    return [entry.name for entry in memo.ls()]


@pytest.mark.usefixtures("no_warnings")
def test_what_was_put_comes_back(memo: Memo) -> None:
    assert memo.get(KEY) is None
    memo.put(KEY, b"data", [b"one", bytearray(100), memoryview(b"")], name="fit", seconds=2.5)
    found = Memo(memo.path).get(KEY)
    assert found is not None
    assert found.data == b"data"
    assert [bytes(buffer) for buffer in found.buffers] == [b"one", bytes(100), b""]
    memo.put(KEY, b"", name="fit", seconds=0)
    assert memo.get(KEY) == (b"", [])
    assert (memo.hits, memo.misses, memo.corrupt) == (1, 1, 0)


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("large", [False, True])
def test_arrays_come_back_aligned_and_writable(memo: Memo, mapped: int, large: bool) -> None:
    rows = np.arange(1000.0 if large else 10).reshape(2, -1)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps({"rows": rows, "turned": rows.T}, 5, buffer_callback=buffers.append)
    memo.put(KEY, data, buffers, name="rows", seconds=1)
    assert (file_of(memo).stat().st_size > mapped) is large
    for _ in range(2):  # what the first one changes is its own
        found = memo.get(KEY)
        assert found is not None
        value = pickle.loads(found.data, buffers=found.buffers)
        assert np.array_equal(value["rows"], rows)
        assert np.array_equal(value["turned"], rows.T)
        assert value["rows"].ctypes.data % 16 == 0
        value["rows"][:] = -1


def test_a_large_hit_outlives_its_file(memo: Memo, mapped: int) -> None:
    memo.put(KEY, b"data", [bytes(mapped)], name="large", seconds=1)
    found = memo.get(KEY)
    assert memo.prune(everything=True).count == 1
    assert found is not None
    assert bytes(found.buffers[0]) == bytes(mapped)


def test_only_the_user_may_read(memo: Memo) -> None:
    memo.put(KEY, b"data", name="fit", seconds=1)
    assert [path.stat().st_mode & 0o777 for path in (file_of(memo), file_of(memo).parent, Path(memo.path))] == [
        0o600,
        0o700,
        0o700,
    ]


def test_results_of_others_are_refused(
    memo: Memo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memo.put(KEY, b"data", name="fit", seconds=1)
    monkeypatch.setattr(os, "getuid", lambda: file_of(memo).stat().st_uid + 1)
    assert memo.get(KEY) is None
    assert "refused a result" in caplog.text
    assert file_of(memo).exists()


def test_links_are_not_followed(memo: Memo, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memo.put(KEY, b"data", name="fit", seconds=1)
    file_of(memo).rename(tmp_path / "elsewhere")
    file_of(memo).symlink_to(tmp_path / "elsewhere")
    assert memo.get(KEY) is None
    assert "cannot read a result" in caplog.text


@pytest.mark.parametrize("large", [False, True])
def test_damage_anywhere_is_a_miss(memo: Memo, mapped: int, large: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    content = random.Random(1).randbytes(mapped if large else 300)
    memo.put(KEY, b"some data", [b"first", content], name="fit", seconds=1)
    whole = file_of(memo).read_bytes()
    checked = whole.index(b"some data") + len(b"some data") if large else len(whole)
    for place in range(checked):
        file_of(memo).write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert memo.get(KEY) is None, place
        assert not file_of(memo).exists()
    for length in (*range(0, len(whole), 37), len(whole) - 1):
        file_of(memo).write_bytes(whole[:length])
        assert memo.get(KEY) is None, length
    for rest in (b"\0", whole):
        file_of(memo).write_bytes(whole + rest)
        assert memo.get(KEY) is None
    file_of(memo).write_bytes(whole)
    assert memo.get(KEY) is not None
    assert memo.corrupt == memo.misses


def test_a_corrupt_result_is_removed_with_a_word(memo: Memo, caplog: pytest.LogCaptureFixture) -> None:
    file_of(memo).parent.mkdir(parents=True)
    file_of(memo).write_bytes(b"something else, of some length at least" * 3)
    assert memo.get(KEY) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "does not begin as a result does" in caplog.text
    file_of(memo).write_bytes(b"")
    assert memo.get(KEY) is None
    assert "cut short" in caplog.text
    assert memo.corrupt == 2


def test_the_result_of_another_key_is_not_taken(memo: Memo, caplog: pytest.LogCaptureFixture) -> None:
    memo.put(KEY, b"data", name="fit", seconds=1)
    other = KEY[::-1]
    file_of(memo, other).parent.mkdir()
    file_of(memo).rename(file_of(memo, other))
    assert memo.get(other) is None
    assert "belongs to another key" in caplog.text


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "file"
    place.write_text("in the way")
    memo = Memo(place / "memo")
    for _ in range(3):
        memo.put(KEY, b"data", name="fit", seconds=1)
    assert memo.get(KEY) is None
    assert [record.getMessage() for record in caplog.records if "not kept" in record.getMessage()] != []
    assert len([record for record in caplog.records if "not kept" in record.getMessage()]) == 1
    assert memo.info().count == 0


def test_a_full_disk_leaves_nothing_behind(
    memo: Memo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    memo.put(KEY, b"data", name="fit", seconds=1)
    assert "No space left" in caplog.text
    assert list(file_of(memo).parent.iterdir()) == []


def test_a_full_disk_for_real(memo: Memo, caplog: pytest.LogCaptureFixture) -> None:
    script = (
        "import resource, sys, signal\nfrom heald.data.memo import Memo\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "memo = Memo(sys.argv[1])\nmemo.put(b'k' * 16, b'd' * 100_000, name='a', seconds=1)\n"
        "memo.put(b'j' * 16, b'd', name='b', seconds=1)\nprint(memo.get(b'k' * 16), memo.get(b'j' * 16).data)"
    )
    run = subprocess.run([sys.executable, "-c", script, memo.path], capture_output=True, text=True, check=True)
    assert run.stdout == "None b'd'\n"
    assert "File too large" in run.stderr
    assert names(memo) == ["b"]


def test_entries_are_listed(memo: Memo, tmp_path: Path) -> None:
    before = time.time()
    for number, name in enumerate(["fit", "plot", "fit_fast"]):
        memo.put(key(number), b"x" * 100 * number, [b"y" * 50], name=name, seconds=number)
    used(memo, key(1), hours=5)
    entries = list(memo.ls())
    assert [(entry.key, entry.name, entry.seconds) for entry in entries] == [
        (key(0).hex(), "fit", 0),
        (key(1).hex(), "plot", 1),
        (key(2).hex(), "fit_fast", 2),
    ]
    assert all(before <= entry.created <= time.time() for entry in entries)
    assert [round((time.time() - entry.used) / HOUR) for entry in entries] == [0, 5, 0]
    assert [entry.size for entry in entries] == [file_of(memo, key(n)).stat().st_size for n in range(3)]
    info = memo.info()
    assert (info.path, info.count, info.seconds) == (str(tmp_path / "memo"), 3, 3)
    assert info.size == sum(entry.size for entry in entries)


def test_a_hit_says_when_it_was(memo: Memo) -> None:
    memo.put(KEY, b"data", name="fit", seconds=1)
    used(memo, KEY, hours=0.5)
    assert memo.get(KEY)
    assert next(memo.ls()).used < time.time() - 0.4 * HOUR, "not for each of many hits"
    used(memo, KEY, hours=2)
    assert memo.get(KEY)
    assert next(memo.ls()).used > time.time() - 60


def test_a_long_description(memo: Memo) -> None:
    memo.put(KEY, b"", [b"ab"] * 20_000, name="many", seconds=1)
    found = memo.get(KEY)
    assert found is not None
    assert len(found.buffers) == 20_000
    assert names(memo) == ["many"]


class TestPrune:
    @pytest.fixture
    def filled(self, memo: Memo) -> Memo:
        """Entries of about 1 kB, used 1, 2, 3 and 4 days ago."""
        for number, name in enumerate(["fit_a", "plot", "fit_b", "load"], 1):
            memo.put(key(number), bytes(1000), name=name, seconds=1)
            used(memo, key(number), hours=24 * number)
        return memo

    @pytest.mark.parametrize(
        ("asked", "left"),
        [
            ({"everything": True}, []),
            ({"everything": True, "name": "fit_*"}, []),
            ({"older_than": "60h"}, ["fit_a", "plot"]),
            ({"older_than": 10 * 24 * HOUR}, ["fit_a", "plot", "fit_b", "load"]),
            ({"older_than": 0}, []),
            ({"larger_than": "2.5kB"}, ["fit_a", "plot"]),
            ({"larger_than": 0}, []),
            ({"larger_than": "1GB"}, ["fit_a", "plot", "fit_b", "load"]),
            ({"name": "fit_*"}, ["plot", "load"]),
            ({"name": "fit_*", "older_than": "60h"}, ["fit_a", "plot", "load"]),
            ({"name": "fit_*", "larger_than": 1500}, ["fit_a", "plot", "load"]),
            ({"older_than": "80h", "larger_than": 1500}, ["fit_a"]),
            ({"name": "nothing"}, ["fit_a", "plot", "fit_b", "load"]),
        ],
    )
    def test_removes_what_is_asked(self, filled: Memo, asked: dict[str, Any], left: list[str]) -> None:
        sizes = {entry.name: entry.size for entry in filled.ls()}
        pretended = filled.prune(**asked, pretend=True)
        assert len(list(filled.ls())) == 4
        pruned = filled.prune(**asked)
        assert names(filled) == left
        gone = sum(size for name, size in sizes.items() if name not in left)
        assert pretended == pruned == Pruned(4 - len(left), gone)

    def test_must_be_told_what(self, filled: Memo) -> None:
        with pytest.raises(UsageError, match="nothing to prune"):
            filled.prune()
        with pytest.raises(UsageError):
            filled.prune(older_than="soon")
        with pytest.raises(UsageError):
            filled.prune(larger_than="much")

    def test_removes_what_nobody_can_use(self, filled: Memo) -> None:
        folder = file_of(filled, key(1)).parent
        (folder / "ff").write_bytes(b"damaged")
        for name, hours in ((".old", 2), (".new", 0)):
            (folder / name).write_bytes(b"half")
            os.utime(folder / name, (time.time(), time.time() - hours * HOUR))
        assert filled.prune(older_than="100d") == Pruned(0, 0)
        assert sorted(path.name for path in folder.iterdir()) == [".new", key(1).hex()]
        filled.prune(everything=True)
        assert list(folder.iterdir()) == []

    def test_of_nothing(self, memo: Memo) -> None:
        assert memo.prune(everything=True) == Pruned(0, 0)
        assert list(memo.ls()) == []


def test_default_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_memo_path() == tmp_path / "heald" / "memo"
    assert Memo().path == str(default_memo_path())
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_memo_path() == Path("/home/ada/.cache/heald/memo")


HAMMER = """
import random, sys
from heald.data import memo as module
from heald.data.memo import Memo
module._MAPPED = 50_000
memo, chance = Memo(sys.argv[1]), random.Random(int(sys.argv[2]))
for turn in range(int(sys.argv[3])):
    if turn == 20:
        print("ready", flush=True)
    number = chance.randrange(4)
    key = bytes([number]) * 16
    length = chance.choice([10, 1000, 60_000])
    content = bytes([chance.randrange(256)]) * length
    memo.put(key, content[:10], [content, content], name=f"n{number}", seconds=1)
    found = memo.get(key)
    if found is not None:
        one, two = map(bytes, found.buffers)
        assert one == two == found.data[:1] * len(one) and len(one) in (10, 1000, 60_000)
    if turn % 50 == 49:
        memo.prune(larger_than=100_000)
assert memo.corrupt == 0
"""


def test_processes_that_write_the_same_keys_and_die(memo: Memo, wait_until: Callable[..., None]) -> None:
    def start(seed: int, turns: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HAMMER, memo.path, str(seed), str(turns)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    doomed = [start(seed, 10**9) for seed in range(2)]
    steady = [start(seed, 150) for seed in (10, 11)]
    try:
        for seed in range(20, 26):
            victim = doomed.pop(0)
            assert victim.stdout is not None
            assert victim.stdout.readline() == "ready\n"
            victim.send_signal(signal.SIGKILL)
            assert victim.wait() == -signal.SIGKILL
            victim.communicate()
            doomed.append(start(seed, 10**9))
        for process in steady:
            _, errors = process.communicate(timeout=60)
            assert (process.returncode, errors) == (0, "")
    finally:
        for process in (*doomed, *steady):
            process.kill()
            process.communicate()
    for number in range(4):
        memo.get(bytes([number]) * 16)
    assert memo.corrupt == 0
    memo.prune(everything=True)
    assert [path for path in Path(memo.path).rglob("*") if path.is_file()] == []

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from heald.core.errors import StagingError, UsageError
from heald.data import checksum


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b", "blake2s"])
def test_digests_of_every_kind_fit_their_content(tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"data")
    digest = checksum.check(f"{algorithm}:{hashlib.new(algorithm, b'data').hexdigest().upper()}")
    checksum.verify(path, digest, "x")
    path.write_bytes(b"date")
    with pytest.raises(StagingError, match=f"x is not what it should be: its {algorithm} is"):
        checksum.verify(path, digest, "x")


def test_short_blake2_digests_fit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"data")
    checksum.verify(path, "blake2b:" + hashlib.blake2b(b"data", digest_size=16).hexdigest(), "x")


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "abc",
        "md5:",
        "md5:xy",
        "md5:00",
        "blake2b:",
        "crc:00000000",
        "shake_128:00",
        "d41d8cd98f00b204e9800998ecf8427e",
    ],
)
def test_what_is_no_digest_is_refused(digest: str) -> None:
    with pytest.raises(UsageError, match="write algorithm:hexadecimal"):
        checksum.check(digest)


def test_content_is_known_by_bytes_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"data")
    two.write_bytes(b"data")
    assert checksum.content(one) == checksum.content(two)
    assert len(checksum.content(one)) == 16
    os.utime(two, ns=(0, 0))
    assert checksum.content(one) == checksum.content(two)


def test_a_change_that_leaves_size_and_times_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"data")
    times = path.stat().st_mtime_ns
    before = checksum.content(path)
    path.write_bytes(b"date")
    os.utime(path, ns=(times, times))
    assert checksum.content(path) != before


def test_settled_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "_SETTLED", 0)
    path = tmp_path / "x"
    path.write_bytes(b"data")
    reads = checksum._read.cache_info().misses
    assert checksum.content(path) == checksum.content(path)
    assert checksum._read.cache_info().misses == reads + 1


def test_folders_are_known_by_names_and_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "x").write_bytes(b"data")
    assert checksum.content(tmp_path / "a") == checksum.content(tmp_path / "b")
    (tmp_path / "b" / "deep" / "x").rename(tmp_path / "b" / "x")
    assert checksum.content(tmp_path / "a") != checksum.content(tmp_path / "b")

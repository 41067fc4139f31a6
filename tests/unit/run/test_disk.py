from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from heald.run import disk

ROOMY = SimpleNamespace(f_bfree=1000, f_bavail=900, f_frsize=4096, f_blocks=5000, f_files=100, f_favail=50)


def found(monkeypatch: pytest.MonkeyPatch, **system: int) -> str:
    shown = SimpleNamespace(**{**vars(ROOMY), **system})
    monkeypatch.setattr(os, "statvfs", lambda folder: shown)
    return disk.full(["/data"])


def test_a_disk_with_room_is_not_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert disk.full([tmp_path]) == ""
    assert found(monkeypatch) == ""


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, f_bfree=1, f_bavail=1) == "the disk of /data is full (4.1 kB left)"


def test_what_is_left_for_root_is_not_left_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert found(monkeypatch, f_bavail=0) == "the disk of /data is full (0 B left)"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert found(monkeypatch, f_bavail=0) == ""


def test_a_disk_may_lack_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, f_favail=0) == "the disk of /data can hold no more files"


def test_what_is_no_disk_is_never_full(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, f_bfree=0, f_bavail=0, f_blocks=0, f_files=0, f_favail=0) == ""


def test_a_folder_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    assert disk.full([tmp_path / "gone"]) == ""

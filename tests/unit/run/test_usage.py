from __future__ import annotations

import os
import subprocess
import sys

import pytest

from heald.run import usage


def test_counts_what_is_below_too() -> None:
    code = "import sys; held = bytes(50_000_000); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        # bytes() takes zero pages that are not touched: what counts is what is resident.
        alone = usage.resident(child.pid)
        assert 0 < alone < usage.resident(os.getpid())


def test_counts_what_is_touched() -> None:
    before = usage.resident(os.getpid())
    held = b"x" * 50_000_000
    assert usage.resident(os.getpid()) - before > 40_000_000
    del held


def test_what_is_gone_uses_nothing() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert usage.resident(gone.pid) == 0


def test_nothing_is_killed_for_want_of_memory_meanwhile() -> None:
    kills = usage.Kills()
    assert not kills.new()


def test_each_kill_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = usage.Kills()
    before = usage._starved()
    monkeypatch.setattr(usage, "_starved", lambda: before + 1)
    assert [kills.new(), kills.new()] == [True, False]

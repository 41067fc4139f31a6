from __future__ import annotations

import time
from pathlib import Path

import pytest

from heald.compat.parsl.error import AppTimeout, BadStdStreamFile, BashAppNoReturn
from heald.compat.parsl.remote import Bash, get_std_fname_mode, share, timeout


def test_timed() -> None:
    def spin() -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            pass

    with pytest.raises(AppTimeout):
        timeout(spin, 0.05)()
    assert timeout(abs, 60)(-1) == 1


def test_bash_lines(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert Bash(lambda name, **_: f"echo {name}")("you", stdout=(str(out), "w")) == 0
    assert out.read_text() == "you\n"
    with pytest.raises(ValueError, match="Expected a str"):
        Bash(lambda: None)()
    with pytest.raises(BashAppNoReturn):
        Bash(lambda: None.x)()  # type: ignore[attr-defined]


def test_streams() -> None:
    assert get_std_fname_mode("stdout", Path("/a")) == ("/a", "a+")
    with pytest.raises(BadStdStreamFile):
        get_std_fname_mode("stdout", ("a", "w", "x"))


def test_shares() -> None:
    assert share("none", [0, 1], 0, 2) == []
    with pytest.raises(ValueError, match="2 workers, and there are 3"):
        share("list:0:1", [0, 1, 2], 0, 3)
    with pytest.raises(ValueError, match="must be none"):
        share("blok", [0], 0, 1)

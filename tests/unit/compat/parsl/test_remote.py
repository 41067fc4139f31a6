from __future__ import annotations

import socket
import time
import uuid
from pathlib import Path

import pytest

from heald.compat.parsl import remote
from heald.compat.parsl.error import AppTimeout, BadStdStreamFile, BashAppNoReturn
from heald.compat.parsl.remote import Bash, get_std_fname_mode, timeout


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


def test_numbers_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[socket.socket] = []
    monkeypatch.setattr(remote, "_names", names)
    key = uuid.uuid4().hex
    assert [remote._first_free(key), remote._first_free(key), remote._first_free(key + "x")] == [0, 1, 0]
    names[0].close()
    assert remote._first_free(key) == 0
    for one in names:
        one.close()


def test_nodes_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("n1\nn1\nn2\n")
    assert remote.hosts({"PBS_NODEFILE": str(tmp_path / "nodes"), "HEALD_HOSTS": "n1"}) == ("n1", "n2")
    assert remote.hosts({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]"}) == ("n1", "n2")
    assert remote.hosts({}) == ()

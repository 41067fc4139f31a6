"""The files of a detached script."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from heald.core.errors import JournalLocked
from heald.store.detached import Detached
from heald.store.owner import this_process


def test_naming_them_touches_nothing(tmp_path: Path) -> None:
    detached = Detached(tmp_path / "nowhere")
    assert (detached.supervisor, detached.supervised, detached.status) == (None, False, None)
    assert not (tmp_path / "nowhere").exists()


def test_the_supervisor_lives_or_not(tmp_path: Path) -> None:
    detached = Detached(tmp_path)
    with subprocess.Popen(["sleep", "100"]) as process:
        detached.supervise(process.pid)
        assert detached.supervisor is not None
        assert detached.supervisor.pid == process.pid
        assert detached.supervised is True
        process.send_signal(signal.SIGKILL)
    assert detached.supervised is False


def test_that_of_another_host_cannot_be_seen(tmp_path: Path) -> None:
    detached = Detached(tmp_path)
    elsewhere = msgspec.structs.replace(this_process(), host="node07")
    (tmp_path / "supervisor").write_bytes(msgspec.json.encode(elsewhere))
    assert detached.supervised is None


def test_a_file_that_says_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "supervisor").write_text("?")
    with pytest.raises(JournalLocked, match="does not say who"):
        Detached(tmp_path).supervised


@pytest.mark.parametrize(("text", "status"), [("3\n", 3), ("-9\n", -9), ("", None)])
def test_the_status_is_what_the_file_says(tmp_path: Path, text: str, status: int | None) -> None:
    detached = Detached(tmp_path)
    detached.status_file.write_text(text)
    assert detached.status == status


def test_before_a_new_start_all_of_the_last_is_gone(tmp_path: Path) -> None:
    detached = Detached(tmp_path)
    detached.supervise(os.getpid())
    for path in (detached.status_file, detached.stdout, detached.stderr):
        path.write_text("0")
    (tmp_path / "journal.log").touch()
    detached.clear()
    assert os.listdir(tmp_path) == ["journal.log"]

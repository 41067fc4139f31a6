"""What tasks printed on a host that an ssh which is played reaches: this one."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from tests.unit.wire.test_relay import SSH

from heald.core.errors import SchedulerUnreachable, SiteError
from heald.run.cluster import printed
from heald.run.cluster.printed import Place


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where task 1007 printed in its second and tenth attempts, and another prints now."""
    (tmp_path / "ssh.py").write_text(SSH.replace("echo Welcome to this machine; ", ""))
    monkeypatch.setenv("HEALD_SSH", f"{sys.executable} {tmp_path}/ssh.py {tmp_path}")
    logs = tmp_path / "the logs"
    (logs / "1").mkdir(parents=True)
    (logs / "1" / "1007.2.out").write_text("second\n")
    (logs / "1" / "1007.10.out").write_text("tenth: é\n")
    (logs / "a1.n1-3.out").write_text("so far\n")
    (tmp_path / "calls").touch()
    return Place("me@there", str(logs))


def test_what_it_printed_last_or_in_an_attempt(there: Place) -> None:
    assert there.fetch(1007, "out") == "tenth: é\n".encode()
    assert there.fetch(1007, "out", attempt=2) == b"second\n"
    assert there.fetch(1007, "out", attempt=3, worker="a1.n1-3") == b""
    assert there.fetch(1007, "err") == b""


def test_what_it_has_printed_so_far(there: Place) -> None:
    assert there.fetch(1008, "out", worker="a1.n1-3") == b"so far\n"
    assert there.fetch(1008, "out", worker="a1.n1-4") == b""


def test_the_files_are_gone(there: Place, tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"me@there: .*No such file"):
        Place(there.host, f"{tmp_path}/none").fetch(1, "out")


def test_a_line_that_is_cut(there: Place, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    with pytest.raises(SchedulerUnreachable, match="me@there"):
        there.fetch(1007, "out")


def test_it_is_written_down_for_whoever_looks(there: Place, tmp_path: Path) -> None:
    assert printed.place(tmp_path) is None
    printed.remember(tmp_path, there)
    assert printed.place(tmp_path) == there
    assert stat.S_IMODE((tmp_path / "login.json").stat().st_mode) == 0o600
    (tmp_path / "login.json").write_text("{")
    assert printed.place(tmp_path) is None

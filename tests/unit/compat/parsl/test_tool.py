from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from heald.compat.parsl import tool


def test_checkpoint_folders(tmp_path: Path) -> None:
    for name in ("998", "1000", "999"):
        (tmp_path / name / "checkpoint").mkdir(parents=True)
    (tmp_path / "monitoring.db").touch()
    assert [Path(path).parent.name for path in tool.get_all_checkpoints(str(tmp_path))] == ["998", "999", "1000"]
    assert [Path(path).parent.name for path in tool.get_last_checkpoint(str(tmp_path))] == ["1000"]
    assert tool.get_all_checkpoints(str(tmp_path / "none")) == []


def test_execute_wait() -> None:
    assert tool.execute_wait("echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    with pytest.raises(subprocess.TimeoutExpired):
        tool.execute_wait("sleep 60 & wait", 0)


def test_labels() -> None:
    assert tool.sanitize_dns_subdomain_rfc1123("Ab_c..D") == "ab-c.d"
    with pytest.raises(ValueError, match="empty"):
        tool.sanitize_dns_label_rfc1123("---")


def test_timer() -> None:
    called = threading.Event()
    timer = tool.Timer(called.set, interval=60)
    assert called.wait(5)
    timer.close()


def test_addresses() -> None:
    assert tool.address_by_interface("lo") == "127.0.0.1"
    assert tool.address_by_query() in tool.get_all_addresses()


def test_files_that_appear(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with tool.time_limited_open(str(tmp_path / "a"), "r") as file:
        assert file.read() == "x"


def test_wrap_with_logs(caplog: pytest.LogCaptureFixture) -> None:
    @tool.wrap_with_logs
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert "fail raised" in caplog.text

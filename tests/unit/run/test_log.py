from __future__ import annotations

from pathlib import Path

from heald.core.event import Failure
from heald.run import log


def test_a_thousand_tasks_share_a_folder() -> None:
    assert log.path("/logs", 999, 1, "out") == Path("/logs/0/999.1.out")
    assert log.path(Path("/logs"), 1000, 12, "err") == Path("/logs/1/1000.12.err")
    assert log.path("/logs", 7, 1, "out", 3) == Path("/logs/0/7.1.3.out")


def test_latest_is_of_the_last_attempt(tmp_path: Path) -> None:
    assert log.latest(tmp_path, 7, "out") is None
    for attempt in (2, 10, 9):
        file = log.path(tmp_path, 7, attempt, "out")
        file.parent.mkdir(exist_ok=True)
        file.touch()
    log.path(tmp_path, 77, 11, "out").touch()
    assert log.latest(tmp_path, 7, "out") == log.path(tmp_path, 7, 10, "out")
    log.remove(tmp_path, [7, 8, 5000])
    assert [file.name for file in (tmp_path / "0").iterdir()] == ["77.11.out"]
    assert log.latest(tmp_path, 7, "err") is None


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("".join(f"line {number}\n" for number in range(100)))
    assert log.tail(file, lines=2) == "line 98\nline 99"
    assert log.tail(file, limit=10) == "8\nline 99"


def test_tail_of_what_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"\xff\xfe\x00")
    assert log.tail(file)
    assert log.tail(tmp_path / "missing") == ""
    assert log.tail(tmp_path) == ""


def test_current_is_the_workers_own_file(tmp_path: Path) -> None:
    assert log.current(tmp_path, "worker-3", "out") is None
    (tmp_path / "worker-3.out").touch()
    assert log.current(tmp_path, "worker-3", "out") is None
    (tmp_path / "worker-3.out").write_text("so far")
    assert log.current(tmp_path, "worker-3", "out") == tmp_path / "worker-3.out"


def test_tail_is_fit_for_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"\x1b[31mred\x1b[0m\x00\n10%\r20%\n")
    assert log.tail(file) == "red\ufffd\n10%\n20%"
    assert log.tail(file, lines=1) == "20%"


def test_of_a_host_that_shares_no_files(tmp_path: Path) -> None:
    (tmp_path / "err").write_text("last words\n")
    failure = Failure("user", "no").with_logs("", f"{tmp_path}/err")
    there = log.abroad(failure, "me@there")
    assert (there.stdout, there.stderr) == ("", f"me@there:{tmp_path}/err")
    assert there.printed == ("", "last words")
    plain = Failure("user", "no")
    assert log.abroad(plain, "me@there") is plain

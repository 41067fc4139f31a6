from __future__ import annotations

from pathlib import Path

import pytest

from heald.cli.parallel.joblog import Entry, JobLog, read
from heald.core.errors import UsageError

ONE = Entry(1, 12.5, 0.25, 0, 2, 3, 0, "echo 'a\nb'\t\udcff")
# As GNU Parallel 20221122 writes it.
THEIRS = (
    "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
    "2\t:\t1700000000.123\t     1.002\t0\t5\t0\t0\techo x\n"
    "1\t:\t1700000000.120\t     2.111\t0\t3\t-1\t15\tsleep 9\n"
    "2\t:\t1700000009.000\t     0.001\t0\t0\t7\t0\texit 7\n"
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JobLog(str(path))
    log.write(ONE)
    log.close()
    assert read(str(path)) == {1: ONE}
    assert ONE.failed
    assert path.read_bytes().count(b"\n") == 2


def test_a_log_of_gnu_parallel_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(THEIRS)
    found = read(str(path))
    assert (found[1].signal, found[1].failed, found[2].status) == (15, True, 7)


def test_a_torn_line_is_run_again_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(THEIRS + "3\t:\t17000")
    log = JobLog(str(path), resumed=True)
    log.write(ONE)
    log.close()
    assert set(read(str(path))) == {1, 2}
    assert path.read_bytes().endswith(ONE.line())


def test_a_log_begins_anew_unless_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for name, count in ((path, 2), (f"+{path}", 3), (path, 2)):
        log = JobLog(str(name))
        log.write(ONE)
        log.close()
        assert len(path.read_bytes().splitlines()) == count


def test_files_that_are_no_logs(tmp_path: Path) -> None:
    assert read(str(tmp_path / "absent")) == {}
    (tmp_path / "letter").write_text("Dear Sir\n")
    with pytest.raises(UsageError, match="no log of jobs"):
        read(str(tmp_path / "letter"))
    with pytest.raises(UsageError, match="cannot be read"):
        read(str(tmp_path))
    with pytest.raises(UsageError, match="cannot be written"):
        JobLog(str(tmp_path))
    with pytest.raises(UsageError, match="No space left"):
        JobLog("/dev/full")

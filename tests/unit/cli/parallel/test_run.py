from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from heald.cli.parallel import main

START = [sys.executable, "-c", "import sys; from heald.cli.parallel import main; sys.exit(main(sys.argv[1:]))"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARALLEL_SHELL", "/bin/sh")
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_output_status_and_nothing_left(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    assert main(["-k", "echo {}; echo $PARALLEL_SEQ >&2; exit {}", ":::", "0", "2", "3"]) == 2
    assert capfdbinary.readouterr() == (b"0\n2\n3\n", b"1\n2\n3\n")
    assert list(tmp_path.iterdir()) == []
    kept = [path for path in Path(os.environ["XDG_STATE_HOME"]).rglob("*.out") if path.stat().st_size]
    assert kept == []


def test_short_jobs_go_together(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    """Each with its own output, in its own order, number and status; a long one holds none of the others for long."""
    values = [str(number) for number in range(150)]
    line = "echo {} $PARALLEL_SEQ; echo {} >&2; test {} = 100 && { sleep 0.3; exit 7; }; test {} != 120"
    assert main(["-k", "-j2", "--joblog", "log", line, ":::", *values]) == 2
    printed = capfdbinary.readouterr()
    assert printed.out.decode() == "".join(f"{value} {number}\n" for number, value in enumerate(values, 1))
    assert printed.err.decode() == "".join(f"{value}\n" for value in values)
    entries = [entry.split("\t") for entry in Path("log").read_text().splitlines()[1:]]
    assert sorted(int(entry[0]) for entry in entries) == list(range(1, 151))
    assert {entry[0]: entry[6] for entry in entries if entry[6] != "0"} == {"101": "7", "121": "1"}


def test_a_job_that_cannot_be_started_among_short_ones(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Path("bad").write_bytes(b"\x7fELF")
    Path("bad").chmod(0o700)
    lines = ["echo a"] * 60 + ["./bad"] + ["echo b"] * 20
    assert main(["-k", "-j1", *(":::", *lines)]) == 1
    printed = capfdbinary.readouterr()
    assert printed.out == b"a\n" * 60 + b"b\n" * 20
    assert b"job 61: './bad' could not be started" in printed.err


def test_a_line_that_is_too_long_is_not_shown_whole(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Path("long").write_text("x" * 3_000_000)
    assert main(["echo {} | wc -c", "::::", "long"]) == 1
    printed = capfdbinary.readouterr()
    assert b"job 1: '/bin/sh' could not be started: Argument list too long: echo xxx" in printed.err
    assert len(printed.err) < 500


def test_a_slow_source_holds_nothing_back(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    with subprocess.Popen([*START, "-j1", "touch"], stdin=subprocess.PIPE, cwd=tmp_path) as run:
        assert run.stdin is not None
        run.stdin.write(b"".join(b"quick%d\n" % number for number in range(50)))
        run.stdin.flush()
        wait_until(lambda: (tmp_path / "quick48").exists())  # jobs are known to be short now
        run.stdin.write(b"slow1\nslow2\n")
        run.stdin.flush()
        wait_until(lambda: (tmp_path / "slow1").exists())
    assert run.returncode == 0
    assert (tmp_path / "slow2").exists()


def test_any_bytes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    values = ["\udcff\udcfe", "$(id)", "a\nb", "'", '"', "\\", "-n", ""]
    assert main(["-k", "printf '<%s>'", ":::", *values]) == 0
    assert capfdbinary.readouterr().out == b"".join(b"<" + os.fsencode(value) + b">" for value in values)


def test_a_job_finds_nothing_on_standard_input(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["cat; echo end{}", ":::", "a"]) == 0
    assert capfdbinary.readouterr().out == b"enda\n"


def test_pipe_with_more_tries(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    (tmp_path / "in").write_text("1\n2\n3\n")
    again = "cat; test -e tried{#} || { touch tried{#}; exit 1; }"
    assert main(["-k", "--retries", "2", "--pipe", "-N2", "-a", "in", again]) == 0
    assert capfdbinary.readouterr().out == b"1\n2\n3\n"


def test_a_job_that_takes_too_long(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["--joblog", "log", "--timeout", "0.3", "echo begun; sleep {}", ":::", "60"]) == 1
    printed = capfdbinary.readouterr()
    assert printed.out == b"begun\n"
    assert b"heald run: job 1: it was stopped after its walltime of 0.3 s: echo begun; sleep 60\n" in printed.err
    assert Path("log").read_text().splitlines()[1].split("\t")[6:8] == ["-1", "15"]


def test_a_job_that_is_killed_says_so(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """By the number that the job has in a log, whichever others were given out before it."""
    assert main(["kill -{} $$", ":::", *["0"] * 70, "SEGV", "PIPE"]) == 2
    assert capfdbinary.readouterr().err == b"heald run: job 71: it was killed by SIGSEGV (signal 11): kill -SEGV $$\n"


def test_a_job_that_takes_too_long_beside_the_others(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    line = ["-j2", "-k", "--timeout", "300%", "echo a{}; sleep {}; echo b{}", ":::", "0.1", "0.1", "0.1", "60"]
    assert main(line) == 1
    printed = capfdbinary.readouterr()
    assert printed.out == b"a0.1\nb0.1\n" * 3 + b"a60\n"
    assert b"job 4: it was stopped after 300% of the median time: echo a60; " in printed.err


def test_halt_now_ends_what_runs(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    line = "test {} = wait && sleep 60; while test ! -e go; do sleep 0.01; done; exit 5"
    Path("go").touch()
    assert main(["-j2", "--halt", "now,fail=1", line, ":::", "wait", "fail", "never"]) == 5
    assert b"--halt now,fail=1: no more jobs are started" in capfdbinary.readouterr().err


def test_slots_are_used_again(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["-j1", "echo {%} $PARALLEL_JOBSLOT", ":::", "a", "b"]) == 0
    assert capfdbinary.readouterr().out == b"1 1\n1 1\n"


def test_lines_at_once_and_unbuffered(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["-j1", "--lb", "--tag", "echo 1; printf 2", ":::", "a"]) == 0
    assert capfdbinary.readouterr().out == b"a\t1\na\t2"


def test_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--files", "echo", ":::", "a"]) == 0
    assert Path(capsys.readouterr().out.strip()).read_text() == "a\n"


def test_another_folder(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "there").mkdir()
    assert main(["--workdir", "there", "pwd", ":::", "-P"]) == 0
    assert capfdbinary.readouterr().out == os.fsencode(tmp_path / "there") + b"\n"


def test_a_full_disk_loses_nothing(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    folder = Path("out/1/a")
    folder.mkdir(parents=True)
    (folder / "stdout").symlink_to("/dev/full")
    assert main(["-j1", "--results", "out", "--delay", "0.01", "echo", ":::", "a", "b"]) == 255
    printed = capfdbinary.readouterr()
    assert printed.out == b"a\n"
    assert b"No space left on device" in printed.err
    assert b"--resume" in printed.err
    assert main(["--results", "out", "--resume", "echo", ":::", "b"]) == 0
    assert Path("out/1/b/stdout").read_text() == "b\n"


def test_output_that_may_be_cut_short_is_not_taken_for_whole(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = SimpleNamespace(f_bfree=0, f_bavail=0, f_frsize=4096, f_blocks=5000, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda folder: shown)
    line = "touch {}; until test -e a && test -e b; do sleep 0.01; done; echo {}"
    assert main(["-j2", "-k", "--joblog", "log", "--delay", "0.01", line, ":::", "a", "b"]) == 255
    printed = capfdbinary.readouterr()
    assert printed.out == b"a\nb\n"
    assert printed.err.count(b"cannot be written down") == 1, "said once, whatever ends after it"
    assert b" cannot be written down: the disk of " in printed.err
    assert b"is full (0 B left), so its output may not be whole" in printed.err
    assert b"--resume" in printed.err
    assert Path("log").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nosuch"], "there is no option --nosuch"),
        (["--resume", "echo", ":::", "a"], "--resume needs the log"),
        (["--retry-failed"], "need the log"),
        (["echo {= 1 =}", ":::", "a"], "Perl"),
        (["echo", "::::", "absent"], "absent cannot be read"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 255
    assert message in capsys.readouterr().err


def test_things_that_run_nothing(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["--joblog", "log", "echo", ":::"]) == 0
    assert Path("log").read_text().count("\n") == 1
    assert main(["--dry-run", "echo", ":::", "a b"]) == 0
    assert main(["--shellquote", ":::", "a b"]) == 0
    assert capfdbinary.readouterr().out == b"echo 'a b'\n'a b'\n"


def test_a_kill_stops_what_is_not_begun_and_resume_does_it(wait_until: Callable[..., None], tmp_path: Path) -> None:
    line = ["-j1", "--joblog", "log", "touch began-{}; while test ! -e go; do sleep 0.02; done; echo {}"]
    words = [*START, *line, ":::", "a", "b", "c"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        wait_until(lambda: (tmp_path / "began-a").exists())
        run.send_signal(signal.SIGTERM)
        assert run.stderr is not None
        assert b"no more jobs are started" in run.stderr.readline()
        (tmp_path / "go").touch()
        assert run.communicate()[0] == b"a\n"
    assert run.returncode == 255
    again = subprocess.run([*START, "--resume", *line, ":::", "a", "b", "c"], capture_output=True)
    assert (again.returncode, again.stdout) == (0, b"b\nc\n")


def test_nobody_reads_on() -> None:
    run = subprocess.Popen([*START, "seq 100000; : ", ":::", *"abcdef"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.readline()
    run.stdout.close()
    assert run.stderr is not None
    assert run.stderr.read() == b""
    run.stderr.close()
    assert run.wait() == 255


def test_ctrl_c_ends_what_runs(wait_until: Callable[..., None], tmp_path: Path) -> None:
    words = [*START, "--joblog", "log", "touch began; sleep {}", ":::", "60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        wait_until(lambda: (tmp_path / "began").exists())
        run.send_signal(signal.SIGINT)
        assert run.communicate() == (b"", b"")
    assert run.returncode == 255
    assert Path("log").read_text().count("\n") == 1


def test_ctrl_c_again_waits_for_nothing(wait_until: Callable[..., None], tmp_path: Path) -> None:
    job = "trap 'touch told' TERM; touch began; while :; do sleep 0.1; done; : {}"
    apart = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([*START, job, ":::", "a"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=apart) as run:
        for sign in ("began", "told"):
            wait_until((tmp_path / sign).exists)
            run.send_signal(signal.SIGINT)
        assert run.communicate() == (b"", b"")
    assert run.returncode == 255
    assert not list(tmp_path.glob("heald-run-*"))


def test_output_to_a_socket_unbuffered() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert subprocess.run([*START, "-u", "echo {}; :", ":::", "a"], stdout=theirs).returncode == 0
        assert ours.recv(10) == b"a\n"

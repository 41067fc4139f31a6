from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.errors import UsageError
from heald.core.resources import Resources
from heald.run.command import CommandLine, Completed, execute, failed, mpi_prefix, not_started, words
from heald.run.usage import Kills

plain = st.text("abcXYZ019_-./:=+@%^ ,", min_size=1).filter(
    lambda text: text.strip() and "=" not in text and text.split()[0] not in (":", ".")
)


class TestWords:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("lmp -in in.lj", ["lmp", "-in", "in.lj"]),
            ("lmp -in 'a file' \"b c\"", ["lmp", "-in", "a file", "b c"]),
            (["lmp", "-in", Path("a file"), 3, 0.5], ["lmp", "-in", "a file", "3", "0.5"]),
            (("echo", "a;b|c $HOME *"), ["echo", "a;b|c $HOME *"]),
            ("grep -v x=1", ["grep", "-v", "x=1"]),
        ],
    )
    def test_no_shell_is_started_for_plain_words(self, line: Any, expected: list[str]) -> None:
        assert words(line) == expected

    @pytest.mark.parametrize(
        "line",
        [
            "a | b",
            "a && b",
            "a; b",
            "a > b",
            "a < b",
            "echo $HOME",
            "ls *",
            "ls ?",
            "echo `a`",
            "cd ~",
            "a\nb",
            "X=1 a",
        ],
    )
    def test_what_a_shell_understands_goes_to_a_shell(self, line: str) -> None:
        assert words(line) == ["/bin/sh", "-c", line]

    @given(st.lists(plain, min_size=1))
    def test_plain_text_means_what_it_means_to_a_shell(self, parts: list[str]) -> None:
        assert words(" ".join(parts)) == " ".join(parts).split()

    @given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1).filter(lambda line: line[0].strip()))
    def test_a_list_is_taken_word_by_word(self, line: list[str]) -> None:
        assert words(line) == line

    @pytest.mark.parametrize("line", ["", "  ", [], [""], [" "]])
    def test_an_empty_line_is_refused(self, line: Any) -> None:
        with pytest.raises(UsageError, match="empty"):
            words(line)

    @pytest.mark.parametrize("line", [None, 3, b"ls", bytearray(b"ls"), {"ls"}, iter(["ls"])])
    def test_what_is_no_line_is_refused(self, line: Any) -> None:
        with pytest.raises(UsageError, match="must return the command line"):
            words(line)

    def test_an_unfinished_quote_is_refused(self) -> None:
        with pytest.raises(UsageError, match="quotation"):
            words("echo 'a")

    def test_a_nul_byte_is_refused(self) -> None:
        with pytest.raises(UsageError, match="NUL"):
            words(["echo", "a\0b"])

    def test_mpi_programs_are_started_by_their_launcher(self) -> None:
        assert words("lmp -in x", mpi_prefix(Resources(ranks=4))) == ["mpiexec", "-n", "4", "lmp", "-in", "x"]
        assert words(["a", "b c"], "mpiexec -n 2") == ["mpiexec", "-n", "2", "a", "b c"]
        assert mpi_prefix(Resources()) == ""

    def test_a_line_may_place_the_launcher_itself(self) -> None:
        line = "cd x && $HEALD_MPI_PREFIX lmp"
        assert words(line, "mpiexec -n 2") == ["/bin/sh", "-c", line]


class TestExecute:
    def test_gives_status_and_what_was_used(self) -> None:
        status, cpu, memory = execute(["/bin/sh", "-c", "exit 3"], {})
        assert status == 3
        assert cpu >= 0
        assert memory > 100_000

    def test_a_signal_is_negative(self) -> None:
        assert execute(["/bin/sh", "-c", "kill -9 $$"], {})[0] == -9

    def test_adds_variables(self) -> None:
        assert execute(["/bin/sh", "-c", 'test "$HEALD_TASK" = 3 && test -n "$PATH"'], {b"HEALD_TASK": b"3"})[0] == 0
        assert "HEALD_TASK" not in os.environ

    def test_signals_that_we_ignore_work_in_it(self) -> None:
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            assert execute(["/bin/sh", "-c", "kill -15 $$; exit 0"], {})[0] == -15
        finally:
            signal.signal(signal.SIGTERM, before)

    def test_what_is_not_there_raises(self) -> None:
        with pytest.raises(FileNotFoundError):
            execute(["no-such-command"], {})


class Lean(Kills):
    """A machine on which something has just been killed for want of memory."""

    def new(self) -> bool:
        return True


@pytest.fixture
def lean() -> Kills:
    return Lean()


class TestFailures:
    def test_a_command_that_ended_badly(self) -> None:
        found = failed(["a", "b c"], 3, Kills())
        assert found.message == "the command exited with status 3: a 'b c'"
        assert failed(["/bin/sh", "-c", "echo 'a' | b"], 3, Kills()).message.endswith(" 3: echo 'a' | b")
        assert (found.exit, found.code) == (3, "command-failed")
        assert "PATH" in failed(["sh"], 127, Kills()).hint
        assert "out of memory" in failed(["sh"], -9, Kills()).hint

    @pytest.mark.parametrize("status", [-9, 137])
    def test_a_command_that_the_kernel_killed_for_want_of_memory(self, status: int, lean: Kills) -> None:
        found = failed(["lmp"], status, lean)
        assert (found.kind, found.exit, found.code) == ("out-of-memory", status, "")
        assert "ran out of memory" in found.message

    def test_a_command_that_failed_by_itself_meanwhile(self, lean: Kills) -> None:
        assert failed(["lmp"], 1, lean).kind == "user"

    def test_long_lines_are_shortened(self) -> None:
        assert len(failed(["x" * 100] * 10_000, 1, Kills()).message) < 500

    def test_a_command_that_is_not_there(self) -> None:
        found = not_started(["no-such-command"], FileNotFoundError(2, "No such file or directory"))
        assert found.message == "there is no command 'no-such-command'"
        assert found.exit == 127

    def test_mpi_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        assert "mpich" in not_started(["mpiexec"], FileNotFoundError(2, "No such file or directory")).hint

    def test_a_file_that_is_no_command(self, tmp_path: Path) -> None:
        found = not_started([str(tmp_path)], PermissionError(13, "Permission denied"))
        assert "could not be started: Permission denied" in found.message
        assert found.exit == 126

    @pytest.mark.parametrize(("first", "hint"), [("echo hello", "#!/bin/sh"), ("#!/no/interpreter", "interpreter")])
    def test_a_script_that_the_system_cannot_start(self, first: str, hint: str, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text(f"{first}\n")
        script.chmod(0o755)
        with pytest.raises(OSError, match="script") as caught:
            execute([str(script)], {})
        assert hint in not_started([str(script)], caught.value).hint


def test_completed_reads_its_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"temp \xff 1.5\n")
    assert Completed(0, out, None, 0.1).text == "temp � 1.5\n"
    assert Completed(0, None, None, 0.1).text == ""


class TestCommandLine:
    def test_streams_of_the_child_alone(self, tmp_path: Path) -> None:
        (tmp_path / "in").write_text("one\n")
        (tmp_path / "out").write_text("zero\n")
        line = CommandLine("cat", stdin=tmp_path / "in", stdout=tmp_path / "out", stderr=str(tmp_path / "err"))
        assert execute(["cat"], {}, line.streams())[0] == 0
        assert (tmp_path / "out").read_text() == "zero\none\n"
        assert (tmp_path / "err").read_text() == ""

    def test_none_are_opened_where_none_are_named(self) -> None:
        assert list(CommandLine("true").streams()) == []

    def test_what_was_opened_is_closed_when_another_cannot_be(self, tmp_path: Path) -> None:
        before = os.listdir("/proc/self/fd")
        line = CommandLine("true", stdin=os.devnull, stdout=tmp_path / "no" / "out")
        with pytest.raises(FileNotFoundError) as caught:
            execute(["true"], {}, line.streams())
        assert os.listdir("/proc/self/fd") == before
        found = not_started(["true"], caught.value)
        assert "could not be started" in found.message
        assert "no/out: No such file" in found.message


def test_bytes_that_are_no_text_are_told_as_escapes() -> None:
    assert "\\udcff" in failed(["false", "\udcff"], 1, Kills()).message
    assert "\\udcff" in not_started(["x\udcff"], FileNotFoundError(2, "No such file or directory")).message

"""Programs as tasks: how they end, what they are given, and what they may be called."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import heald

pytestmark = pytest.mark.live

Wait = Callable[..., None]

# Names that a shell, a splitter of words or a listing may trip over.
NAMES = [
    "plain",
    "two words",
    " space around ",
    "new\nline",
    "tab\there",
    "it's",
    'say "x"',
    "back\\slash",
    "$HOME `id` $(id)",
    "a;b&c|d>e<f",
    "*?[x]",
    "{a,b}",
    "~",
    "#hash",
    "!bang",
    "-dash",
    "k=v",
    "ümlaut ✓",
    "%s %d",
]


@heald.command
def run(*words: Any) -> list[Any]:
    return list(words)


@heald.command
def shell(text: str) -> str:
    return text


def triple(x: int) -> int:
    return 3 * x


def still_works(session: heald.Session) -> bool:
    return [session.submit(triple, x).result(10) for x in range(5)] == [0, 3, 6, 9, 12]


# -- how they end ----------------------------------------------------------------------------------------------------


def test_a_command_that_does_not_exist(session: heald.Session, tmp_path: Path) -> None:
    for line in (["no-such-program", "x"], "no-such-program x", [str(tmp_path / "no such"), "x"]):
        future = run.submit(*line) if isinstance(line, list) else shell.submit(line)
        with pytest.raises(heald.CommandFailed, match=r"there is no command '.*no.such") as caught:
            future.result(10)
        assert caught.value.returncode == 127
        assert "PATH" in caught.value.hint
        assert "in task" not in str(caught.value)
        assert caught.value.task == future.task
    assert still_works(session)


def test_a_command_that_may_not_be_run(session: heald.Session, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    with pytest.raises(heald.CommandFailed, match="could not be started") as caught:
        run.submit(tmp_path / "data").result(10)
    assert caught.value.returncode == 126
    with pytest.raises(heald.CommandFailed, match="could not be started"):
        run.submit(tmp_path).result(10)


def test_a_command_that_fails_shows_what_it_said(session: heald.Session) -> None:
    future = shell.submit("echo result; for i in $(seq 50); do echo complaint $i >&2; done; exit 3")
    with pytest.raises(heald.CommandFailed, match=r"shell#1: the command exited with status 3: echo ") as caught:
        future.result(10)
    assert caught.value.returncode == 3
    notes = "\n".join(caught.value.__notes__)
    assert "complaint 50" in notes
    assert "complaint 10\n" not in notes
    assert "result" in notes
    assert Path(caught.value.stderr).read_text().count("\n") == 50
    assert still_works(session)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("exit 3", 3),
        ("false", 1),
        ("kill -9 $$", -9),
        ("kill -SEGV $$", -11),
        ("ulimit -v 100000; cat /dev/zero | tail", 1),
    ],
)
def test_each_way_to_fail(line: str, status: int, session: heald.Session) -> None:
    with pytest.raises(heald.CommandFailed) as caught:
        shell.submit(line).result(20)
    assert caught.value.returncode == status
    assert still_works(session)


def test_a_promised_file_that_was_not_written(session: heald.Session, tmp_path: Path) -> None:
    @heald.command
    def write(*, outputs: Any) -> list[str]:
        return ["touch", str(outputs[0]), str(tmp_path / "other")]

    future = write.submit(outputs=[heald.File(tmp_path / "one"), heald.File(tmp_path / "two")])
    dependent = run.submit("cat", future.outputs[1])  # type: ignore[attr-defined]
    with pytest.raises(heald.OutputMissing, match=r"1 of 2 outputs were not written: .*two") as caught:
        future.result(10)
    assert "one, other" in str(caught.value), "what is there instead"
    with pytest.raises(heald.DependencyError, match="not written"):
        dependent.result(10)
    assert still_works(session)


def test_a_promised_file_is_an_input_of_others(session: heald.Session, tmp_path: Path) -> None:
    @heald.command
    def write(text: str, *, outputs: Any) -> str:
        return f"echo {shlex.quote(text)} > {outputs[0]}"

    first = write.submit("hello", outputs=[heald.File(tmp_path / "deep" / "one file")])
    (file,) = first.outputs  # type: ignore[attr-defined]
    assert run.submit("cat", file).result(10).text == "hello\n"
    assert file.result(0).path == tmp_path / "deep" / "one file"


@pytest.mark.parametrize("line", ["", "   ", [], [""], None, 5, b"echo", ["a\0b"], "echo 'x", {"echo": 1}])
def test_what_is_no_command_line(line: Any, session: heald.Session) -> None:
    @heald.command
    def wrong() -> Any:
        return line

    with pytest.raises(heald.UsageError) as caught:
        wrong.submit().result(10)
    assert caught.value.hint
    assert still_works(session)


def test_a_command_function_that_raises(session: heald.Session) -> None:
    @heald.command
    def wrong() -> Any:
        raise ValueError("no line")

    with pytest.raises(ValueError, match="no line"):
        wrong.submit().result(10)


def test_too_long_a_command_line(session: heald.Session) -> None:
    with pytest.raises(heald.CommandFailed, match="Argument list too long") as caught:
        run.submit("echo", *["x" * 100_000] * 100).result(20)
    assert "file" in caught.value.hint
    assert len(str(caught.value)) < 2000
    assert len(run.submit("echo", *["x"] * 10_000).result(20).text) == 20_000


def test_retries_of_a_command(session: heald.Session, tmp_path: Path) -> None:
    line = f"echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) = 3"
    assert shell.options(retries=2).submit(line).result(10).returncode == 0
    (tmp_path / "tries").unlink()
    with pytest.raises(heald.CommandFailed):
        shell.options(retries=1).submit(line).result(10)


# -- what they are given ---------------------------------------------------------------------------------------------


def test_the_whole_shell_is_there(session: heald.Session, tmp_path: Path) -> None:
    lines = {
        "echo a b | tr a-z A-Z": "A B\n",
        "A=1; echo $A": "1\n",
        "A=1 sh -c 'echo $A'": "1\n",
        "for i in 1 2; do echo $i; done": "1\n2\n",
        "cd / && pwd": "/\n",
        "echo one\necho two": "one\ntwo\n",
        "echo 'a  b' \"c  d\" e\\ f": "a  b c  d e f\n",
        "cat <<END\ntext\nEND": "text\n",
        "true && (echo yes) || echo no": "yes\n",
        "exit 0": "",
        ":": "",
    }
    for line, text in lines.items():
        assert shell.submit(line).result(10).text == text, line


def test_standard_input_is_empty(session: heald.Session) -> None:
    assert run.submit("cat").result(10).text == ""
    assert shell.submit('read x; echo "<$x>"').result(10).text == "<>\n"


def test_commands_find_signals_as_usual(session: heald.Session) -> None:
    """Python ignores SIGPIPE, and workers SIGINT: programs would inherit that."""
    line = shell.submit("grep SigIgn /proc/self/status").result(10).text
    assert int(line.split()[1], 16) & 0x7FFFFFFF == 0  # above are the C library's own
    assert shell.submit("yes | head -n 1").result(10).text == "y\n"


def test_a_command_knows_its_task(session: heald.Session) -> None:
    future = shell.submit("echo $HEALD_TASK $HEALD_ATTEMPT")
    assert future.result(10).text == f"{future.task} 1\n"


@pytest.mark.parametrize("name", NAMES)
def test_names_in_a_list_of_words(name: str, session: heald.Session, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text("content\n")
    assert run.submit("printf", "%s", name).result(10).text == name
    assert run.submit("cat", heald.File(file)).result(10).text == "content\n"
    assert run.submit("cat", file).result(10).text == "content\n"
    assert run.options(directory=tmp_path).submit("cat", "--", name).result(10).text == "content\n"


@pytest.mark.parametrize("name", NAMES)
def test_names_in_a_text(name: str, session: heald.Session, tmp_path: Path) -> None:
    (tmp_path / name).write_text("content\n")

    @heald.command
    def copy(source: heald.File, *, outputs: Any) -> str:
        return f"cat {source} > {outputs[0]}"

    @heald.command
    def show(source: heald.File) -> str:
        return f"cat {source}"

    copied = copy.submit(heald.File(tmp_path / name), outputs=[heald.File(tmp_path / "below" / name)])
    copied.result(10)
    assert (tmp_path / "below" / name).read_text() == "content\n"
    assert show.submit(heald.File(tmp_path / name)).result(10).text == "content\n"
    assert shell.submit(f"printf %s {shlex.quote(name)}").result(10).text == name


def test_names_in_the_options(session: heald.Session, tmp_path: Path) -> None:
    for name in NAMES:
        folder = tmp_path / f"in {name}"
        done = run.options(name=name, directory=folder, stdout=name, variables={"NAME": name}, tags={name: name})
        result = done.submit("sh", "-c", 'printf %s "$NAME"').result(10)
        assert (folder / name).read_text() == name
        assert result.stdout == folder / name


def test_a_name_that_is_no_text(session: heald.Session, tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/\xff\xfe"
    with open(raw, "w") as file:
        file.write("content\n")
    assert run.submit("cat", os.fsdecode(raw)).result(10).text == "content\n"
    assert run.submit("cat", heald.File(os.fsdecode(raw))).result(10).text == "content\n"


# -- how many --------------------------------------------------------------------------------------------------------


def test_a_thousand_quick_commands(session: heald.Session) -> None:
    futures = [run.submit("true") for _ in range(1000)]
    assert {future.result(60).returncode for future in futures} == {0}


def test_a_few_of_many_fail(session: heald.Session) -> None:
    futures = [run.submit("false" if x % 10 == 0 else "true") for x in range(200)]
    for x, future in enumerate(futures):
        assert isinstance(future.exception(30), heald.CommandFailed if x % 10 == 0 else type(None))


def test_long_commands_run_side_by_side(session: heald.Session, tmp_path: Path, wait_until: Wait) -> None:
    """Two that wait for each other end only when both run."""
    line = "touch {here}; until test -e {there}; do sleep 0.01; done"
    both = [
        shell.submit(line.format(here=tmp_path / one, there=tmp_path / other))
        for one, other in (("a", "b"), ("b", "a"))
    ]
    assert [one.result(20).returncode for one in both] == [0, 0]


# -- MPI -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("mpiexec"), reason="no mpiexec on PATH: pip install mpich")
def test_a_program_of_two_ranks(session: heald.Session, tmp_path: Path) -> None:
    @heald.command(ranks=2, directory=tmp_path)
    def ranks() -> list[str]:
        return [sys.executable, "-c", "import os; open('rank ' + os.environ['PMI_RANK'], 'x')"]

    @heald.command(ranks=2, directory=tmp_path)
    def place() -> str:
        return "touch before; $HEALD_MPI_PREFIX sh -c 'touch \"$PMI_RANK of $PMI_SIZE\"'"

    assert [one.result(60).returncode for one in (ranks.submit(), place.submit())] == [0, 0]
    assert sorted(os.listdir(tmp_path)) == ["0 of 2", "1 of 2", "before", "rank 0", "rank 1"]


@pytest.mark.skipif(not shutil.which("mpiexec"), reason="no mpiexec on PATH: pip install mpich")
def test_a_rank_that_fails_fails_the_task(session: heald.Session) -> None:
    @heald.command(ranks=2)
    def broken() -> list[str]:
        return [sys.executable, "-c", "import os, sys; sys.exit(f'rank {os.environ[\"PMI_RANK\"]} is broken')"]

    with pytest.raises(heald.CommandFailed) as caught:
        broken.submit().result(60)
    assert re.search("rank [01] is broken", "".join(caught.value.__notes__))  # the first that fails ends the other
    assert still_works(session)


@pytest.mark.skipif(not shutil.which("mpiexec"), reason="no mpiexec on PATH: pip install mpich")
def test_walltime_ends_every_rank(session: heald.Session, survivors: Any, wait_until: Wait) -> None:
    @heald.command(ranks=2, walltime=2)
    def endless() -> list[str]:
        return ["sleep", "1000"]

    with pytest.raises(heald.WalltimeExceeded):
        endless.submit().result(60)
    wait_until(lambda: not any(one.info["name"] == "sleep" or "mpi" in one.info["name"] for one in survivors()))


def test_more_ranks_than_cores_is_said_at_once(session: heald.Session) -> None:
    with pytest.raises(heald.UsageError, match="can never run"):
        run.options(ranks=64).submit("true").result(10)
    assert still_works(session)


# -- what one call says of itself ------------------------------------------------------------------------------------


@heald.command
def line(words: Any, **options: Any) -> heald.CommandLine:
    return heald.CommandLine(words, **options)


def test_a_command_line_with_its_own_files_and_variables(session: heald.Session, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"one\ntwo\n")
    out = tmp_path / "out"
    done = line.submit("cat; echo $WORD", variables={"WORD": "\udcff"}, stdin=tmp_path / "in", stdout=out).result(30)
    assert out.read_bytes() == b"one\ntwo\n\xff\n"
    assert (done.stdout, done.stderr, done.returncode) == (out, None, 0)
    assert line.submit("cat; echo over").result(30).text == "over\n"


def test_a_status_that_is_no_error(session: heald.Session) -> None:
    assert line.submit("exit 3", check=False).result(30).returncode == 3
    assert line.submit("kill -9 $$", check=False).result(30).returncode == -9
    with pytest.raises(heald.CommandFailed):
        line.submit("exit 3").result(30)


def test_a_walltime_is_an_error_in_any_case(session: heald.Session) -> None:
    with pytest.raises(heald.WalltimeExceeded):
        line.options(walltime=0.5).submit("sleep 1000", check=False).result(30)


def test_a_file_that_cannot_be_opened_is_named(session: heald.Session, tmp_path: Path) -> None:
    with pytest.raises(heald.CommandFailed, match=r"absent: No such file"):
        line.submit("cat", stdin=tmp_path / "absent").result(30)
    assert still_works(session)

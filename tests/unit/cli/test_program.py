from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import heald as package
from heald.cli.program import app

Heald = Callable[..., Any]
PAGE = Path(__file__).parents[3] / "docs" / "howto" / "command-line.md"


def test_help_is_a_map(heald: Heald) -> None:
    text = heald("--help").stdout
    for noun in ("task", "run", "data"):
        assert f"\n  {noun}  " in text
    assert text.count("\n    heald ") == 6  # examples
    assert "docs/index.md" in text
    assert max(map(len, text.splitlines())) <= 80


def test_without_words_it_gives_help(heald: Heald) -> None:
    assert "Usage: heald" in heald().output


def test_version(heald: Heald) -> None:
    assert heald("--version").stdout == f"heald {package.__version__}\n"


def test_a_wrong_word_is_usage_with_the_next_command(heald: Heald) -> None:
    result = heald("tsk")
    assert result.exit_code == 2
    assert "Try 'heald -h' for help." in result.stderr
    assert "Did you mean 'task'?" in result.stderr


def test_a_damaged_journal_is_no_traceback(heald: Heald, study: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.heald").mkdir()
    journal = bytearray((study / "journal.log").read_bytes())
    journal[100] ^= 0xFF
    (tmp_path / "bad.heald" / "journal.log").write_bytes(journal)
    result = heald("task", "ls", "--run", str(tmp_path / "bad.heald"))
    assert result.exit_code == 1
    assert result.stderr.startswith("heald: ")
    assert "is damaged at byte" in result.stderr


def test_a_run_without_journal_says_how_to_keep_one(heald: Heald, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    result = heald("task", "ls", "--run", str(tmp_path))
    assert result.exit_code == 1
    assert 'heald.Session(journal="run.heald")' in result.stderr


def test_a_closed_pipe_is_no_traceback(study: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(
        [sys.executable, "-m", "heald", "task", "ls"], cwd=study.parent, stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (run.returncode, run.stderr) == (1, "")


def test_help_loads_little() -> None:
    """What makes `heald --help` quick: nothing is loaded that only commands need."""
    code = "import sys, heald.cli.program; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"rich", "heald.core.history", "heald.store.journal", "heald.data.memo", "heald.flow.session"}


@pytest.mark.parametrize("words", [["-m", "heald"], ["-c", "from heald.__main__ import main; main()"]])
def test_it_is_a_program(words: list[str]) -> None:
    run = subprocess.run([sys.executable, *words, "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"heald {package.__version__}\n"


def test_the_page_about_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that docs/howto/command-line.md shows, on the run that it makes."""
    monkeypatch.chdir(tmp_path)
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        if language == "text":
            continue  # what outlives this process: see tests/live/test_detach.py
        if language == "python":
            subprocess.run([sys.executable, "-c", f"import heald\n{text}"], check=True, stdout=subprocess.DEVNULL)
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            variables = dict(word.split("=", 1) for word in words[: words.index("heald")])
            result = CliRunner().invoke(app, words[len(variables) + 1 :], env=variables)
            assert result.exit_code == 0, f"{line}\n{result.output}"
            assert result.output, line

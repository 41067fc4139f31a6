"""What `heald run --detach` starts and says; `tests/live/test_detach.py` lets it run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heald.cli import detach
from heald.cli.detach import detached
from heald.core.errors import JournalLocked
from heald.flow.run import Run
from heald.store.owner import this_process


def test_the_command_is_the_same_but_for_the_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["python", "-W", "error", "/bin/heald", "run", "--detach", "study.py", "--detach"]
    monkeypatch.setattr(sys, "orig_argv", words)
    assert detach._command() == [sys.executable, "-W", "error", "/bin/heald", "run", "study.py", "--detach"]


def test_a_run_that_is_driven_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "my run.heald"
    folder.mkdir()
    (folder / "script.out").write_text("what it printed")
    (folder / "owner").write_bytes(msgspec.json.encode(this_process()))
    with pytest.raises(JournalLocked, match="is written by process"):
        detached(folder)
    (folder / "owner").unlink()
    Run(folder).detached.supervise(this_process().pid)
    with pytest.raises(JournalLocked, match="runs already") as caught:
        detached(folder)
    assert caught.value.hint == f"look at it: heald attach '{folder}'"
    assert (folder / "script.out").exists()


def test_it_says_what_to_type_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "owner").write_bytes(msgspec.json.encode(this_process()))
    detach._tell(Run(tmp_path), 4711)
    said = capsys.readouterr().out
    assert f"process {this_process().pid} on {this_process().host}; process 4711 starts it again" in said
    for command in ("heald attach", "heald run show", "heald run stop"):
        assert command in said


def test_what_ended_early_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path)
    run.detached.stdout.write_text("so far\n")
    run.detached.stderr.write_text("no such site\n")
    run.detached.status_file.write_text("-15")
    assert detach._early_end(run) == 143
    assert capsys.readouterr() == ("so far\n", "no such site\n")


def test_its_help_has_examples(heald: Callable[..., Any]) -> None:
    text = heald("run", "script", "--help").stdout
    assert "heald run --detach study.py" in text

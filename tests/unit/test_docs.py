"""Every Python snippet of the README and the docs runs: a file's blocks in order, as one script in a folder of its own.

A block fenced as ```python {no-run} is only shown. Shell commands run where they are fenced as ```sh {run}.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh \{run\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script(page: str, block: re.Pattern[str] = BLOCK) -> str:
    """The blocks of a page, each at its own line there, so that a traceback points into the page.

    >>> script("Add:\\n```python\\nprint(1 + 1)\\n```\\n")
    '\\n\\nprint(1 + 1)\\n'
    """
    lines = ""
    for found in block.finditer(page):
        lines += "\n" * (page.count("\n", 0, found.start(1)) - lines.count("\n")) + found[1]
    return lines


@pytest.mark.parametrize(
    "page", [page for page in PAGES if script(page.read_text())], ids=lambda page: str(page.relative_to(ROOT))
)
def test_snippets_run(page: Path, tmp_path: Path) -> None:
    file = tmp_path / f"{page.stem}.py"
    file.write_text(script(page.read_text()))
    run = subprocess.run(
        [sys.executable, "-W", "error", file.name], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, f"{page.relative_to(ROOT)} (lines are the page's):\n{run.stdout}{run.stderr}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if SHELL.search(page.read_text())], ids=lambda page: str(page.relative_to(ROOT))
)
def test_shell_commands_run(page: Path, tmp_path: Path) -> None:
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script(page.read_text(), SHELL)],
        cwd=tmp_path,
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, f"{page.relative_to(ROOT)} (lines are the page's):\n{run.stdout}{run.stderr}"

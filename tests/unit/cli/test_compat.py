from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heald.cli import compat


def test_programs_are_listed_with_examples(heald: Callable[..., Any]) -> None:
    assert re.search(r"\n  compat +Programs of other tools", heald("--help").stdout)
    text = heald("compat", "--help").stdout
    assert "\n  parsl-perf " in text
    assert text.count("\n  heald compat parsl-") == 3


def test_names_are_served(tmp_path: Path) -> None:
    code = "from heald.cli.compat import serve\nserve('parsl')\nimport parsl\nprint(parsl.python_app.__module__)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "heald.compat.parsl.app\n"


def test_the_programs_load_little() -> None:
    """`heald --help` loads them."""
    code = "import sys, heald.cli.compat; heald.cli.compat.programs(); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(ran.stdout.split()) & {"sqlite3", "http.server", "heald.flow.session", "heald.core.history"}


def test_programs_is_what_the_command_line_adds() -> None:
    assert {one.name for one in compat.programs().registered_commands} == {"parsl-perf", "parsl-visualize"}

"""The nets of tests/conftest.py catch: each case is a small suite of its own in a new interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


def run(folder: Path, name: str, text: str, ci: bool = False) -> str:
    """What pytest prints about a suite of one file, with this conftest made less patient."""
    folder.joinpath("conftest.py").write_text(CONFTEST.read_text().replace("_PATIENCE = 5.0", "_PATIENCE = 0.2"))
    folder.joinpath("pytest.ini").write_text("[pytest]\nmarkers = live\naddopts = -p no:cacheprovider")
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    environ = {key: value for key, value in os.environ.items() if key != "CI"} | ({"CI": "true"} if ci else {})
    environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take half of the time
    command = [sys.executable, "-m", "pytest", str(file)]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("ci", "closing"), [(True, "1 failed"), (False, "1 skipped")])
def test_a_live_test_may_not_skip_in_ci(tmp_path: Path, ci: bool, closing: str) -> None:
    text = "import pytest\n@pytest.mark.live\ndef test_it():\n    pytest.skip('nothing here')"
    assert closing in run(tmp_path, "test_it.py", text, ci).splitlines()[-1]


@pytest.mark.parametrize(("ci", "closing"), [(True, "1 error"), (False, "1 skipped")])
def test_a_live_module_may_not_skip_in_ci(tmp_path: Path, ci: bool, closing: str) -> None:
    text = "import pytest\npytest.importorskip('no_such_module')\ndef test_it(): pass"
    assert closing in run(tmp_path, "live/test_it.py", text, ci).splitlines()[-1]


def test_other_tests_may_skip_in_ci(tmp_path: Path) -> None:
    text = "import pytest\ndef test_it():\n    pytest.skip('not for this system')"
    assert "1 skipped" in run(tmp_path, "test_it.py", text, ci=True).splitlines()[-1]


def test_a_process_left_behind_is_an_error(tmp_path: Path) -> None:
    text = "import subprocess\ndef test_it():\n    global left\n    left = subprocess.Popen(['sleep', '60'])"
    printed = run(tmp_path, "test_it.py", text)
    assert "the test left processes behind" in printed
    assert "sleep 60" in printed
    assert "1 passed, 1 error" in printed.splitlines()[-1]


def test_a_process_that_left_its_parent_is_an_error(tmp_path: Path) -> None:
    command = "setsid sleep 60 </dev/null >/dev/null 2>&1 &"
    text = f"import subprocess\ndef test_it():\n    subprocess.run({command!r}, shell=True)"
    printed = run(tmp_path, "test_it.py", text)
    assert "the tests left processes behind" in printed
    assert "1 passed, 1 error" in printed.splitlines()[-1]


def test_a_thread_left_behind_is_an_error(tmp_path: Path) -> None:
    text = (
        "import threading\nend = threading.Event()\n"
        "def test_it():\n    threading.Thread(target=end.wait).start()\n"
        "def test_next():\n    end.set()"
    )
    printed = run(tmp_path, "test_it.py", text)
    assert "the test left threads behind" in printed
    assert "2 passed, 1 error" in printed.splitlines()[-1]

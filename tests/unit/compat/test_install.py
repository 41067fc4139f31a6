"""Scripts that import the other tool: each in a process of its own, as names of modules are the process's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(script: str, folder: Path) -> str:
    code = 'import heald.compat\nheald.compat.install("parsl")\n' + script
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_names(tmp_path: Path) -> None:
    script = """
import parsl
from parsl import *
from parsl.config import Config
from parsl.executors import HighThroughputExecutor as one
from parsl.executors.high_throughput.executor import HighThroughputExecutor as two
import parsl.dataflow.dflow
print(one is two, python_app is parsl.app.app.python_app, parsl.AUTO_LOGNAME, parsl.__version__ is not None)
"""
    assert run(script, tmp_path) == "True True -1 True\n"


def test_what_is_not_served_says_so(tmp_path: Path) -> None:
    script = """
from parsl.providers import CondorProvider
for act in (lambda: CondorProvider(), lambda: __import__("parsl.executors.high_throughput.interchange")):
    try:
        act()
    except Exception as raised:
        print(type(raised).__name__, str(raised).replace("\\n", " "))
try:
    from parsl.config import Confg
except ImportError as raised:
    print("ImportError")
"""
    first, second, third = run(script, tmp_path).splitlines()
    assert first.startswith("NotServed heald does not serve parsl's CondorProvider   hint: heald knows Slurm")
    assert second.startswith("ModuleNotFoundError heald serves no parsl.executors.high_throughput.interchange")
    assert third == "ImportError"


def test_workers_serve_the_names_too(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import parsl\n\n@parsl.python_app\ndef name():\n    return parsl.__name__\n")
    script = """
import parsl, mine
from parsl import Config, HighThroughputExecutor
with parsl.load(Config(executors=[HighThroughputExecutor(max_workers=1)])):
    print(mine.name().result())
"""
    assert run(script, tmp_path) == "parsl\n"


def test_a_script_that_cleans_nothing_up_ends(tmp_path: Path) -> None:
    script = """
import parsl
parsl.load(parsl.Config(executors=[parsl.HighThroughputExecutor(max_workers=1)]))
print(parsl.python_app(abs)(-1).result())
"""
    assert run(script, tmp_path) == "1\n"


def test_the_tool_itself_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "parsl.py").touch()
    script = "import parsl, heald.compat\nheald.compat.install('parsl')"
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert "UsageError: parsl itself was imported already" in ran.stderr

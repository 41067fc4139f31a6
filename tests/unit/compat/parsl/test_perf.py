from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from heald.compat.parsl import perf

CONFIG = """
from parsl import Config, ThreadPoolExecutor

def fresh_config():
    return Config(executors=[ThreadPoolExecutor()], run_dir="runs")
"""


def test_rounds(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(CONFIG)
    line = [sys.executable, "-m", "heald.compat.parsl.perf", "--config", "config.py", "--time", "0.01"]
    ran = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert ran.stdout.startswith("10 tasks in "), ran.stderr
    assert ran.stdout.rstrip().endswith("tasks/s")


def test_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="neither"):
        perf.configuration(str(tmp_path / "config.py"))

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import heald
from heald.compat.parsl import perf

CONFIG = """
from parsl import Config, HighThroughputExecutor

def fresh_config():
    return Config(executors=[HighThroughputExecutor(max_workers_per_node=1)], run_dir="runs")
"""


def test_rounds(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(CONFIG)
    line = [sys.executable, "-m", "heald", "compat", "parsl-perf", "--config", "config.py", "--iterate", "5,20"]
    ran = subprocess.run([*line, "--argsize", "10"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    first, rate, second, _ = ran.stdout.splitlines()
    assert (first.split()[:2], second.split()[:2]) == (["5", "tasks"], ["20", "tasks"]), ran.stderr
    assert rate.startswith("Tasks per second: ")


def test_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("x = 1\n")
    with pytest.raises(heald.UsageError, match="neither"):
        perf.configuration(tmp_path / "config.py")
    with pytest.raises(heald.UsageError, match="there is no file"):
        perf.configuration(tmp_path / "other.py")


def test_exponential_rounds_double_until_one_is_long_enough() -> None:
    assert perf.following("exponential", 10, 1, 10, 20.0) == 20  # there are two rounds at least
    assert perf.following("exponential", 10, 2, 20, 9.0) == 40
    assert perf.following("exponential", 10, 3, 40, 10.0) == 0


def test_a_mode_that_is_none() -> None:
    with pytest.raises(heald.UsageError, match="'often' is not understood"):
        perf.following("often", 10)

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heald.compat.parsl.app import python_app
from heald.compat.parsl.error import ConfigurationError
from heald.compat.parsl.high_throughput import HighThroughputExecutor
from heald.compat.parsl.kernel import DataFlowKernel
from heald.compat.parsl.monitoring import MonitoringHub


def test_tables(load: Callable[..., DataFlowKernel], tmp_path: Path) -> None:
    @python_app
    def five(x: Any = None) -> int:
        return 5

    path = tmp_path / "monitoring.db"
    hub = MonitoringHub(workflow_name="mine", logging_endpoint=f"sqlite:///{path}")
    with load(executors=[HighThroughputExecutor(max_workers_per_node=1)], monitoring=hub):
        five(five()).result()
    connection = sqlite3.connect(path)

    def ask(query: str) -> list[Any]:
        return connection.execute(query).fetchall()

    assert ask("SELECT workflow_name, tasks_completed_count, time_completed IS NOT NULL FROM workflow") == [
        ("mine", 2, 1)
    ]
    assert ask("SELECT task_id, task_func_name, task_depends FROM task ORDER BY 1") == [
        (0, "five", ""),
        (1, "five", "0"),
    ]
    assert ask("SELECT task_executor FROM try") == [("HighThroughputExecutor",)] * 2
    assert [name for (name,) in ask("SELECT task_status_name FROM status WHERE task_id = 1")] == [
        "pending", "launched", "exec_done",
    ]  # fmt: skip
    assert ask("SELECT COUNT(*) FROM resource") == [(2,)]
    assert [status for (status,) in ask("SELECT status FROM block")] == ["PENDING", "RUNNING", "SCALED_IN"]
    connection.close()


def test_other_databases_are_refused(load: Callable[..., DataFlowKernel]) -> None:
    with pytest.raises(ConfigurationError, match="SQLite"):
        load(monitoring=MonitoringHub(logging_endpoint="postgresql://somewhere/db"))

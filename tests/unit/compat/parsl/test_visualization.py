from __future__ import annotations

import sqlite3
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from typer.testing import CliRunner

import heald
from heald.cli.program import app
from heald.compat.parsl import visualization
from heald.compat.parsl.app import python_app
from heald.compat.parsl.kernel import DataFlowKernel
from heald.compat.parsl.monitoring import _TABLES, MonitoringHub

NOON = "2026-05-04 12:00:0"  # and a digit


class Database:
    """A database as Parsl writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = sqlite3.connect(path)
        for table, columns in _TABLES.items():
            self.connection.execute(f"CREATE TABLE {table} ({columns})")

    def add(self, table: str, **row: Any) -> None:
        names, gaps = ", ".join(row), ", ".join("?" * len(row))
        self.connection.execute(f"INSERT INTO {table} ({names}) VALUES ({gaps})", list(row.values()))
        self.connection.commit()

    def workflow(self, run: str, began: str, over: str | None) -> None:
        times = {"time_began": began, "time_completed": over}
        self.add(
            "workflow", run_id=run, workflow_name=f"{run}.py", host="box", user="me", rundir=f"runs/{run}", **times
        )

    def task(self, task: int, state: str, needs: str = "", begun: str = "", over: str = "", fault: str = "") -> None:
        names = {"run_id": "fit", "task_id": task}
        times = {"task_time_invoked": f"{NOON}0", "task_time_returned": over or None}
        self.add("task", task_func_name="part", task_depends=needs, task_stdout="", task_stderr="", **times, **names)
        self.add("status", task_status_name="pending", timestamp=f"{NOON}0", try_id=0, **names)
        self.add("status", task_status_name=state, timestamp=f"{NOON}9", try_id=0, **names)
        if begun:
            times = {"task_try_time_launched": begun, "task_try_time_running": begun, "task_try_time_returned": over}
            self.add("try", try_id=1, hostname="box", task_executor="htex", task_fail_history=fault, **times, **names)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "monitoring.db")
    made.workflow("fit", f"{NOON}0", f"{NOON}9")
    made.workflow("old", "2025-05-04 12:00:00", None)
    made.task(0, "exec_done", begun=f"{NOON}1", over=f"{NOON}3")
    made.task(1, "failed", begun=f"{NOON}2.5", over=f"{NOON}4", fault="ValueError('too dense')")
    made.task(2, "dep_fail", needs="0,1", over=f"{NOON}4")
    made.task(3, "memo_done", over=f"{NOON}4")
    made.task(4, "running", begun=f"{NOON}3")
    yield made
    made.connection.close()


def test_tasks_of_a_workflow(database: Database) -> None:
    told, folder = visualization.history(database.path)
    assert folder == Path("runs/fit")
    assert told.opened[0].command == ("fit.py",)
    assert [record.state.name for record in told.records.values()] == ["done", "failed", "failed", "done", "running"]
    first, second, third, fourth, fifth = told.records.values()
    assert first.usage is not None
    assert (first.usage.seconds, first.attempt, first.executor) == (2.0, 2, "htex")
    assert second.failure is not None
    assert second.failure.message == "ValueError('too dense')"
    assert third.failure is not None
    assert third.failure.kind == "dependency"
    assert fourth.recalled
    assert [one.worker for one in (first, second, fifth)] == ["box 1", "box 2", "box 1"]


def test_workflows_by_name(database: Database) -> None:
    for name in ("old", "old.py"):
        told, _ = visualization.history(database.path, name)
        assert (told.records, told.closed) == ({}, None)
    with pytest.raises(heald.UsageError, match=r"(?s)no workflow new.*there are: fit.py, old.py"):
        visualization.history(database.path, "new")


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("nothing of the sort, and longer than a header of a database would be" * 20)
    for name in ("text.db", "missing.db"):
        with pytest.raises(heald.UsageError, match="is no database"):
            visualization.history(tmp_path / name)


def test_what_heald_monitors(load: Callable[..., DataFlowKernel], tmp_path: Path) -> None:
    @python_app
    def five(x: Any = None) -> int:
        return 5

    path = tmp_path / "monitoring.db"
    with load(monitoring=MonitoringHub(logging_endpoint=f"sqlite:///{path}")):
        five(five()).result()
    told, _ = visualization.history(path)
    assert [(one.state.name, one.task.inputs) for one in told.records.values()] == [("done", ()), ("done", (0,))]


def test_a_page_in_a_file(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    ran = CliRunner().invoke(app, ["compat", "parsl-visualize", f"sqlite:///{database.path}", "-o", str(file)])
    assert ran.output == f"{file}\n"
    assert "too dense" in file.read_text()


def test_a_run_of_heald(tmp_path: Path) -> None:
    with heald.Session([heald.ThreadExecutor()], journal=tmp_path / "run.heald") as session:
        session.submit(max, 3, 4).result()
    assert "<h1>run.heald" in visualization.page(str(tmp_path / "run.heald"))


def test_served_to_this_machine_alone() -> None:
    with visualization.server(lambda: "<h1>page</h1>", 0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            url = f"http://localhost:{serving.server_port}/"
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.read() == b"<h1>page</h1>"
            for request in (url + "other", urllib.request.Request(url, headers={"Host": "example.org"})):
                with pytest.raises(HTTPError) as refused:
                    urllib.request.urlopen(request, timeout=10)
                refused.value.close()
            with pytest.raises(heald.UsageError, match="cannot be served"):
                visualization.server(str, serving.server_port)
        finally:
            serving.shutdown()
            thread.join()

"""MonitoringHub: the tables of Parsl's monitoring, in the same SQLite file, from what heald knows.

One thread writes them, a transaction every half second; workers write nothing. A row of `resource` tells what a try
used in all, at its end.
"""

from __future__ import annotations

import getpass
import os
import platform
import socket
import sqlite3
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from heald.compat.parsl.error import BadStdStreamFile, ConfigurationError
from heald.compat.parsl.file import File
from heald.compat.parsl.future import AppFuture, DataFuture
from heald.compat.parsl.remote import get_std_fname_mode
from heald.compat.parsl.representation import RepresentationMixin, retired
from heald.compat.parsl.state import FINAL_STATES, States, TaskRecord

_PERIOD = 0.5
_TABLES = {
    "workflow": "run_id TEXT PRIMARY KEY, workflow_name TEXT, workflow_version TEXT, time_began DATETIME, "
    "time_completed DATETIME, host TEXT, user TEXT, rundir TEXT, tasks_failed_count INTEGER, "
    "tasks_completed_count INTEGER",
    "task": "task_id INTEGER, run_id TEXT, task_depends TEXT, task_func_name TEXT, task_memoize TEXT, "
    "task_hashsum TEXT, task_inputs TEXT, task_outputs TEXT, task_stdin TEXT, task_stdout TEXT, task_stderr TEXT, "
    "task_time_invoked DATETIME, task_time_returned DATETIME, task_fail_count INTEGER, task_fail_cost FLOAT, "
    "PRIMARY KEY (task_id, run_id)",
    "try": "try_id INTEGER, task_id INTEGER, run_id TEXT, block_id TEXT, hostname TEXT, task_executor TEXT, "
    "task_try_time_launched DATETIME, task_try_time_running DATETIME, task_try_time_returned DATETIME, "
    "task_fail_history TEXT, task_joins TEXT, PRIMARY KEY (try_id, task_id, run_id)",
    "status": "task_id INTEGER, task_status_name TEXT, timestamp DATETIME, run_id TEXT, try_id INTEGER",
    "resource": "try_id INTEGER, task_id INTEGER, run_id TEXT, timestamp DATETIME, resource_monitoring_interval FLOAT, "
    "psutil_process_pid INTEGER, psutil_process_memory_percent FLOAT, psutil_process_children_count FLOAT, "
    "psutil_process_time_user FLOAT, psutil_process_time_system FLOAT, psutil_process_memory_virtual FLOAT, "
    "psutil_process_memory_resident FLOAT, psutil_process_disk_read FLOAT, psutil_process_disk_write FLOAT, "
    "psutil_process_status TEXT, psutil_cpu_num TEXT, psutil_process_num_ctx_switches_voluntary FLOAT, "
    "psutil_process_num_ctx_switches_involuntary FLOAT",
    "node": "id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, hostname TEXT, uid TEXT, block_id TEXT, "
    "cpu_count INTEGER, total_memory BIGINT, active BOOLEAN, worker_count INTEGER, python_v TEXT, "
    "timestamp DATETIME, last_heartbeat DATETIME",
    "block": "run_id TEXT, executor_label TEXT, block_id TEXT, job_id TEXT, timestamp DATETIME, status TEXT",
}

Row = dict[str, Any]


@retired("hub_address hub_port hub_port_range client_address client_port_range")
@dataclass(repr=False, eq=False)
class MonitoringHub(RepresentationMixin):
    """Keeps a database of what runs, for people who query Parsl's."""

    workflow_name: str | None = None
    workflow_version: str | None = None
    logging_endpoint: str | None = None
    monitoring_debug: bool = False
    resource_monitoring_enabled: bool = True
    resource_monitoring_interval: float = 30

    def __post_init__(self) -> None:
        self._kernel: Any = None
        self._rows: list[tuple[str, Row]] = []
        self._jobs: dict[tuple[str, str, str], str] = {}  # how the jobs of blocks were last
        self._guard = threading.Lock()
        self._over = threading.Event()

    def begin(self, kernel: Any) -> None:
        """The run begins. Raises ConfigurationError for a database other than SQLite."""
        self._kernel = kernel
        url = self.logging_endpoint or f"sqlite:///{os.path.join(kernel.config.run_dir, 'monitoring.db')}"
        if not url.startswith("sqlite:///"):
            raise ConfigurationError(f"logging_endpoint={url!r}: heald writes SQLite files, sqlite:///folder/file.db")
        self._path = url.removeprefix("sqlite:///")
        self._began = datetime.now()
        self._over.clear()
        self._write_workflow()
        self._thread = threading.Thread(target=self._serve, name="parsl-monitoring", daemon=True)
        self._thread.start()

    def _write_workflow(self, time_completed: datetime | None = None) -> None:
        kernel, script = self._kernel, getattr(sys.modules["__main__"], "__file__", None) or "unnamed"
        self._write(
            "workflow",
            workflow_name=self.workflow_name or os.path.basename(script),
            workflow_version=self.workflow_version or str(self._began.replace(microsecond=0)),
            time_began=self._began,
            time_completed=time_completed,
            host=socket.gethostname(),
            user=getpass.getuser(),
            rundir=kernel.run_dir,
            tasks_failed_count=kernel.task_state_counts[States.failed],
            tasks_completed_count=kernel.task_state_counts[States.exec_done],
        )

    def started(self, executor: Any) -> None:
        """An executor runs: one of workers on this machine has one block here."""
        self._block(executor, "PENDING", "RUNNING", active=True)

    def _block(self, executor: Any, *statuses: str, active: bool) -> None:
        if getattr(getattr(executor, "provider", None), "label", "") != "local":
            return
        now = datetime.now()
        for status in statuses:
            self._job(executor.label, "0", "0", status)
        self._write(
            "node",
            block_id="0",
            hostname=socket.gethostname(),
            uid=executor.label,
            cpu_count=os.cpu_count(),
            total_memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            active=active,
            worker_count=executor.workers_per_node,
            python_v=platform.python_version(),
            timestamp=now,
            last_heartbeat=now,
        )

    def changed(self, record: TaskRecord) -> None:
        """A task has another state."""
        now, state = datetime.now(), record["status"]
        tried = {"task_id": record["id"], "try_id": record["try_id"]}
        self._write("status", **tried, task_status_name=state.name, timestamp=now)
        self._write("task", task_id=record["id"], **_task(record))
        if record["try_time_launched"] is not None:
            self._write("try", **tried, **_try(record))
        if state not in FINAL_STATES or record["exec_fu"] is None or record["from_memo"]:
            return
        if self.resource_monitoring_enabled and self._kernel.executors[record["executor"]].monitor_resources():
            interval = self.resource_monitoring_interval
            self._write("resource", **tried, timestamp=now, resource_monitoring_interval=interval)

    def _look(self, over: str = "") -> None:
        """Tell of batch jobs that are not as they were, or that are `over`."""
        found = {known: over for known, status in self._jobs.items() if over and status in ("PENDING", "RUNNING")}
        for executor in list(self._kernel.executors.values()):
            for block, job in getattr(executor, "blocks_to_job_id", {}).items():
                found[executor.label, block, job] = executor.status()[block].status_name
        for known in found.items() - self._jobs.items():
            self._job(*known[0], known[1])
        self._jobs |= found

    def _job(self, label: str, block: str, job: str, status: str) -> None:
        self._write("block", executor_label=label, block_id=block, job_id=job, timestamp=datetime.now(), status=status)

    def _write(self, table: str, **row: Any) -> None:
        with self._guard:
            self._rows.append((table, {"run_id": self._kernel.run_id, **row}))

    def _serve(self) -> None:
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=60)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            for table, columns in _TABLES.items():
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            while not self._over.wait(_PERIOD):
                self._look()
                self._flush(connection)
            self._look("SCALED_IN")
            self._flush(connection)
        except sqlite3.Error:
            import logging

            logging.getLogger("parsl.monitoring").exception("the monitoring database cannot be written")
        finally:
            connection.close()

    def _flush(self, connection: sqlite3.Connection) -> None:
        with self._guard:
            rows, self._rows = self._rows, []
        with connection:
            for table, row in rows:
                names, gaps = ", ".join(row), ", ".join("?" * len(row))
                values = [str(value) if isinstance(value, datetime) else value for value in row.values()]
                connection.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({gaps})", values)

    def close(self) -> None:
        """The run is over: write the rest."""
        for executor in self._kernel.executors.values():
            self._block(executor, "SCALED_IN", active=False)
        self._write_workflow(datetime.now())
        self._over.set()
        self._thread.join()


def _task(record: TaskRecord) -> Row:
    kwargs = record["kwargs"]
    return {
        "task_depends": _ids(record["depends"]),
        "task_func_name": record["func_name"],
        "task_memoize": record["memoize"],
        "task_hashsum": record["hashsum"],
        "task_inputs": str(kwargs.get("inputs")),
        "task_outputs": str(kwargs.get("outputs")),
        "task_stdin": kwargs.get("stdin"),
        "task_stdout": _stream_name("stdout", kwargs.get("stdout")),
        "task_stderr": _stream_name("stderr", kwargs.get("stderr")),
        "task_time_invoked": record["time_invoked"],
        "task_time_returned": record["time_returned"],
        "task_fail_count": record["fail_count"],
        "task_fail_cost": record["fail_cost"],
    }


def _try(record: TaskRecord) -> Row:
    joins = record["joins"]
    over = record["try_time_returned"]
    return {
        "block_id": "0",
        "hostname": socket.gethostname(),
        "task_executor": record["executor"],
        "task_try_time_launched": record["try_time_launched"],
        "task_try_time_running": record["try_time_launched"] if over else None,
        "task_try_time_returned": over,
        "task_fail_history": ",".join(record["fail_history"]),
        "task_joins": None if joins is None else _ids(joins if isinstance(joins, list) else [joins]),
    }


def _ids(futures: list[Future[Any]]) -> str:
    return ",".join(str(future.tid) for future in futures if isinstance(future, AppFuture | DataFuture))


def _stream_name(name: str, given: Any) -> str:
    if given is None:
        return ""
    if isinstance(given, File):
        return given.url
    try:
        return get_std_fname_mode(name, given)[0]
    except BadStdStreamFile:
        return ""


class RadioConfig(RepresentationMixin):
    """How workers would tell of resources: heald's own way serves for all that Parsl has."""

    def __init__(self, *args: Any, **settings: Any) -> None: ...


HTEXRadio = UDPRadio = FilesystemRadio = MultiprocessingQueueRadio = RadioConfig

"""`heald compat parsl-visualize`: a workflow in Parsl's monitoring database, or a run of heald, as the page of a run.

A database is told as the events of a run; what follows from them is the same as for heald's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heald import UsageError

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer
    from sqlite3 import Connection, Row

    from heald.core.event import Event, TaskEvent
    from heald.core.history import History

_DATABASE = "runinfo/monitoring.db"


def visualize(
    source: Annotated[
        str, typer.Argument(metavar="DATABASE", help="Parsl's monitoring, as a file or sqlite:///FILE; or a run.heald.")
    ] = _DATABASE,
    workflow: Annotated[
        str, typer.Option(metavar="NAME", help="Its name, folder or run_id; by default the one that began last.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead.")
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", help="Where to serve it.")] = 8080,
) -> None:
    """Show a workflow in the browser: summary, Gantt chart, graph, slowest tasks, failures. Reload to see it go on.

    It is served to this machine alone; from another: ssh -L 8080:localhost:8080 HOST

    \b
    heald compat parsl-visualize    the newest workflow in runinfo/monitoring.db
    heald compat parsl-visualize monitoring.db --workflow fit.py -o fit.html
    heald compat parsl-visualize run.heald
    """
    made = page(source, workflow)
    if output is not None:
        output.write_text(made, encoding="utf-8")
        typer.echo(str(output))
        return
    with server(lambda: page(source, workflow), port) as serving:
        typer.echo(f"http://localhost:{serving.server_port}/ shows it, until Ctrl-C")
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            typer.echo("")


def page(source: str, workflow: str = "") -> str:
    """The page as it is now. Raises UsageError when there is no such database or workflow."""
    from heald.flow.run import find_run
    from heald.report.page import report_html

    path = Path(source.removeprefix("sqlite:///"))
    if path.is_dir():
        run = find_run(path)
        return report_html(run.history(), run.path, time.time())
    told, folder = history(path, workflow)
    return report_html(told, folder, time.time())


def server(make: Callable[[], str], port: int) -> ThreadingHTTPServer:
    """Serves what `make` makes, anew for each request, to this machine alone."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.headers.get("Host", "").rpartition(":")[0]
            known = self.path == "/" and name in ("localhost", "127.0.0.1")  # a site's name may lead here, too
            body = make().encode() if known else b""
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody wants to read who looked."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Pages)
    except OSError as raised:
        raise UsageError(f"port {port} cannot be served: {raised.strerror}", hint="name another: --port 8081") from None


def history(path: Path, workflow: str = "") -> tuple[History, Path]:
    """What became of a workflow's tasks, and the folder of its run. Raises UsageError when there is none."""
    import sqlite3

    from heald.core.history import History

    told = History()
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            run = _workflow(database, workflow)
            told.extend(_events(database, run))
    except sqlite3.Error as raised:
        raise UsageError(
            f"{path} is no database of Parsl's monitoring: {raised}",
            hint="Parsl writes one for Config(monitoring=MonitoringHub(…)), by default runinfo/monitoring.db",
        ) from None
    return told, Path(run["rundir"])


def _workflow(database: Connection, wanted: str) -> Row:
    known: list[Row] = database.execute("SELECT * FROM workflow ORDER BY time_began").fetchall()
    named = [one for one in known if wanted in ("", one["workflow_name"], one["run_id"], Path(one["rundir"]).name)]
    if not named:
        names = ", ".join(sorted({one["workflow_name"] for one in known}))
        raise UsageError(f"there is no workflow {wanted}".rstrip(), hint=f"there are: {names}" if names else "")
    return named[-1]


def _events(database: Connection, run: Row) -> list[Event]:
    """The events of a workflow, in the order in which they happened."""
    from heald.core.event import Closed, Defined, Opened
    from heald.core.task import FUNCTION, Work

    def rows(query: str) -> list[Row]:
        return database.execute(query, [run["run_id"]]).fetchall()

    states = {row["task_id"]: row for row in rows("SELECT * FROM status WHERE run_id = ? ORDER BY timestamp")}
    tries = {row["task_id"]: row for row in rows("SELECT * FROM try WHERE run_id = ? ORDER BY try_id")}
    tasks = rows("SELECT * FROM task WHERE run_id = ? ORDER BY task_id")
    works = {name: Work(name, FUNCTION, b"") for name in {row["task_func_name"] for row in tasks}}
    digests = {name: work.digest() for name, work in works.items()}
    lanes = _lanes(tries.values())
    happened: list[TaskEvent] = []
    for row in tasks:
        task = row["task_id"]
        state = states[task]["task_status_name"] if task in states else ""
        happened += _of_task(row, digests[row["task_func_name"]], state, tries.get(task), lanes.get(task, ""))
    opened = Opened(_time(run["time_began"]), 0, run["host"], run["user"], "", "", (run["workflow_name"],))
    closed = [Closed(_time(run["time_completed"]))] if run["time_completed"] else []
    defined = [Defined(digests[name], work) for name, work in works.items()]
    return [opened, *defined, *sorted(happened, key=lambda event: (event.time, event.task)), *closed]


def _of_task(row: Row, work: bytes, state: str, last: Row | None, lane: str) -> Iterator[TaskEvent]:
    """The events of a task, of its last try alone. Nothing was run for one without, or whose result was known."""
    from heald.core.event import Failure, Finished, Placed, Started, Submitted, Usage
    from heald.core.retry import DEPENDENCY, USER
    from heald.core.task import Payload, Task

    task, invoked = row["task_id"], _time(row["task_time_invoked"])
    needed = tuple(map(int, filter(None, (row["task_depends"] or "").split(","))))
    yield Submitted(task, invoked, Task(task, work, Payload(b""), needed))
    attempt, usage = 0, Usage()
    if last is not None and last["task_try_time_launched"] and state != "memo_done":
        attempt = last["try_id"] + 1
        yield Placed(task, _time(last["task_try_time_launched"]), attempt, last["task_executor"], lane)
        if last["task_try_time_running"]:
            begun = _time(last["task_try_time_running"])
            yield Started(task, begun, attempt, 0)
            if last["task_try_time_returned"]:
                usage = Usage(begun, _time(last["task_try_time_returned"]) - begun)
    if state not in ("exec_done", "memo_done", "failed", "dep_fail"):
        return
    outcome: Payload | Failure = Payload(b"")
    if state in ("failed", "dep_fail"):
        reason = (last["task_fail_history"] if last is not None else "") or state
        outcome = Failure(DEPENDENCY if state == "dep_fail" else USER, reason, final=True)
        outcome = outcome.with_logs(row["task_stdout"] or "", row["task_stderr"] or "")
    over = _time(row["task_time_returned"]) if row["task_time_returned"] else invoked
    yield Finished(task, over, attempt, outcome, usage, recalled=not attempt)


def _lanes(tries: Iterable[Row]) -> dict[int, str]:
    """By task, its lane in the timeline. The database names no workers: tries at the same time get lanes apart."""
    found: dict[int, str] = {}
    free: dict[str, list[float]] = {}  # by host, when each lane is free again
    ran = [one for one in tries if one["task_try_time_running"]]
    for one in sorted(ran, key=lambda one: str(one["task_try_time_running"])):
        ends = free.setdefault(one["hostname"], [])
        begun = _time(one["task_try_time_running"])
        lane = next((place for place, end in enumerate(ends) if end <= begun), len(ends))
        ends[lane : lane + 1] = [_time(one["task_try_time_returned"]) if one["task_try_time_returned"] else inf]
        found[one["task_id"]] = f"{one['hostname']} {lane + 1}"
    return found


def _time(text: str) -> float:
    """Seconds since the epoch; the database has the host's own time."""
    return datetime.fromisoformat(text).timestamp()

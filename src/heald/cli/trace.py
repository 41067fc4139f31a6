"""`heald run --trace FILE`: replays a workflow as it once ran elsewhere, and prints how it went here."""

from __future__ import annotations

import os
from typing import Any

from heald.cli.screen import say


def main(
    path: str | os.PathLike[str],
    *,
    speed: float = 0.01,
    size: float = 0.0,
    cores: bool = False,
    workers: int | None = None,
    journal: str | os.PathLike[str] | None = None,
    json: bool = False,
) -> int:
    """Replay the trace in a file and print its figures; the exit status, 1 when a dependency was not kept.

    `speed`, `size`, `cores`: see `heald.flow.replay.replay`. `workers`: cores to use, by default all. `journal`: the
    folder that keeps the run. `json`: print all that is known, with the times of every task.
    """
    from heald.flow.session import Session
    from heald.flow.trace import Trace
    from heald.run.process import ProcessExecutor

    trace = Trace.read(path)
    options: dict[str, Any] = {"journal": journal, "memo": None}
    with Session([ProcessExecutor(workers)], **options) as session:
        found = trace.replay(session, speed=speed, size=size, cores=cores)
    if json:
        from heald.cli.table import document

        say(document(found))
    else:
        say(found.table())
    return 1 if found.broken else 0

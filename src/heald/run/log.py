"""Where the output of tasks is kept: `logs/<thousand>/<task>.<attempt>.out` and `.err`, only when there is some.

A worker writes to a file of its own and gives it the task's name when the task ends; `worker-<n>.out` is what the
running one printed so far.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from heald.core.event import Failure
from heald.core.text import printed


def path(logs: Path | str, task: int, attempt: int, stream: str, line: int = 0) -> Path:
    """The file of what an attempt printed to `stream`, "out" or "err"; or a `line` of it, where it runs several."""
    return Path(logs, str(task // 1000), f"{task}.{attempt}{f'.{line}' if line else ''}.{stream}")


def latest(logs: Path, task: int, stream: str) -> Path | None:
    """The file of the last attempt that printed anything to `stream`."""
    found = sorted((logs / str(task // 1000)).glob(f"{task}.*.{stream}"), key=lambda one: int(one.name.split(".")[1]))
    return found[-1] if found else None


def current(logs: Path, worker: str, stream: str) -> Path | None:
    """The file that a worker's running task prints to; None while it has printed nothing."""
    file = logs / f"{worker}.{stream}"
    return file if file.exists() and file.stat().st_size else None


def remove(logs: Path, tasks: Collection[int]) -> None:
    """Remove what these tasks printed."""
    names = set(map(str, tasks))
    for folder in {logs / str(task // 1000) for task in tasks}:
        for file in folder.glob("*"):
            if file.name.partition(".")[0] in names:
                file.unlink(missing_ok=True)


def tail(file: Path | str, lines: int = 10, limit: int = 4096) -> str:
    """The last lines of a file, at most `limit` bytes of them, fit for any terminal; empty when it is not there."""
    try:
        with open(file, "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - limit))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return ending(text, lines)


def abroad(failure: Failure, host: str) -> Failure:
    """The same for a machine that shares no files with this one: which are those of `host`, and how they end."""
    if not failure.stdout and not failure.stderr:
        return failure
    files = failure.stdout, failure.stderr
    out, err = (f"{host}:{file}" if file else "" for file in files)
    return msgspec.structs.replace(failure, stdout=out, stderr=err, printed=(tail(files[0]), tail(files[1])))


def ending(text: str, lines: int = 10) -> str:
    """The last lines of a text, fit for any terminal."""
    return "\n".join(printed(text).splitlines()[-lines:])

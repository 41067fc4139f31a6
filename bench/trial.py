"""One measurement seen from outside: a fresh interpreter in a group of its own, a deadline, and a clean end."""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import environment, group
from bench.cluster import Cluster


def run(order: dict[str, Any], python: Path, timeout: float, cluster: Cluster | None = None) -> dict[str, Any]:
    """Give the record of one measurement: a figure, what the system lacks, or the last line of its error.

    It runs on the head of the cluster, if there is one.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    processes = group.make(folder.name) if cluster is None else cluster.group
    late = ""
    answer, complaint = folder / "answer", folder / "complaint"
    try:
        with answer.open("wb") as stdout, complaint.open("wb") as stderr:
            order = order | {"folder": str(folder), "group": processes.name, "born": time.monotonic()}
            words = [str(python), "-m", "bench.measure", json.dumps(order)]
            variables = environment.variables(python, folder)
            start = _start if cluster is None else cluster.start
            with start(words, folder, variables, stdout.fileno(), stderr.fileno()) as process:
                try:
                    process.wait(timeout)
                except subprocess.TimeoutExpired:
                    late = f"no figure within {timeout:.0f} s"
                    process.kill()
        if text := answer.read_text():
            return json.loads(text)
        return {"error": late or _last_line(complaint) or f"ended with {process.returncode}"}
    finally:
        if cluster is None:
            group.end(processes)
        else:
            cluster.clean()
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    words: Sequence[str], folder: Path, variables: Mapping[str, str], stdout: int, stderr: int
) -> subprocess.Popen[Any]:
    # In a session of its own: an interrupt reaches the driver alone, and it ends the group.
    return subprocess.Popen(
        words,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")

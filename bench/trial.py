"""One measurement seen from outside: a fresh interpreter in a group of its own, a deadline, and a clean end."""

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import environment, group


def run(order: dict[str, Any], python: Path, timeout: float) -> dict[str, Any]:
    """Give the record of one measurement: a figure, what the system lacks, or the last line of its error."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    processes = group.make(folder.name)
    late = ""
    answer, complaint = folder / "answer", folder / "complaint"
    try:
        with answer.open("wb") as stdout, complaint.open("wb") as stderr:
            order = order | {"folder": str(folder), "group": processes.name, "born": time.monotonic()}
            with subprocess.Popen(
                [str(python), "-m", "bench.measure", json.dumps(order)],
                cwd=folder,
                env=environment.variables(python, folder),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # an interrupt reaches the driver alone, and it ends the group
            ) as process:
                try:
                    process.wait(timeout)
                except subprocess.TimeoutExpired:
                    late = f"no figure within {timeout:.0f} s"
                    process.kill()
        if text := answer.read_text():
            return json.loads(text)
        return {"error": late or _last_line(complaint) or f"ended with {process.returncode}"}
    finally:
        group.end(processes)
        shutil.rmtree(folder, ignore_errors=True)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")

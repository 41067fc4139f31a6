"""One system, one workload, one line of JSON: runs inside the system's own environment, in a fresh interpreter.

It imports little, because the time from its start to the first result is one of the figures.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bench import group, system, workload

STOP_SECONDS = 20


class Meter:
    """Wall and CPU seconds of the stretch that a workload times, of every process of the system."""

    def __init__(self, processes: group.Group, born: float, tasks: int) -> None:
        self.processes = processes
        self.born = born  # when the driver started this interpreter, on the monotonic clock
        self.tasks = tasks  # lowered by a workload that stops early
        self.seconds = self.cpu = self.foreign = 0.0

    def __enter__(self) -> None:
        self._busy, self._cpu, self._began = _busy(), self.processes.cpu(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self.cpu = self.processes.cpu() - self._cpu
        self.foreign = max(0.0, _busy() - self._busy - self.cpu) / self.seconds

    def record(self) -> dict[str, float]:
        return {
            "tasks": self.tasks,
            "seconds": self.seconds,
            "cpu_us": self.cpu / self.tasks * 1e6,
            "foreign_cores": self.foreign,
        }


def main() -> None:
    """Carry out the order in the first argument."""
    order = json.loads(sys.argv[1])
    # Systems print what they like: the answer keeps the standard output to itself.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        subject = system.find(order["system"])(order["workers"], Path(order["folder"]))
        print(json.dumps(_measure(subject, order)), file=answer)
    signal.alarm(STOP_SECONDS)  # the figure is safe: a system that cannot stop is killed with all it started
    subject.stop()


def _measure(subject: Any, order: dict[str, Any]) -> dict[str, Any]:
    chosen = (workload.WORKLOADS | workload.CLUSTER_WORKLOADS)[order["workload"]]
    meter = Meter(group.join(order["group"]), order["born"], order["tasks"])
    try:
        if chosen.warm:
            subject.start()
            subject.warm()
        figure = chosen.run(subject, order["tasks"], meter)
        return {"figure": figure, "version": subject.version(), **meter.record()}
    except NotImplementedError as reason:
        return {"lacks": str(reason)}
    except Exception as error:
        import traceback

        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}".strip().splitlines()[-1]}


def _busy() -> float:
    """Give the CPU seconds that the whole machine has worked."""
    user, nice, kernel, _idle, _waiting, interrupt, soft = map(int, _first_line("/proc/stat").split()[1:8])
    return (user + nice + kernel + interrupt + soft) / os.sysconf("SC_CLK_TCK")


def _first_line(path: str) -> str:
    with open(path) as file:
        return file.readline()


if __name__ == "__main__":
    main()

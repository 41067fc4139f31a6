"""The driver: `python -m bench`. Environments first, then rounds in which the systems take turns, then the table."""

import argparse
import json
import os
import platform
import random
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import ROOT, environment, report, trial
from bench.cluster import NODES, Cluster
from bench.system import SYSTEMS, find
from bench.workload import CLUSTER_WORKLOADS, WORKLOADS, Workload

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure (or read an earlier run), keep the records, print the table."""
    options = _options(arguments)
    runs = [json.loads(file.read_text()) for file in options.render] if options.render else [_measured(options)]
    for run in runs:
        print(report.table(run))
    if options.render:
        PAGE.write_text(report.page(runs))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure heald against its peers.")
    parser.add_argument("--systems", type=_names(SYSTEMS), help="names with commas between; all if not given")
    parser.add_argument("--workloads", type=_names(WORKLOADS | CLUSTER_WORKLOADS), help="the same")
    parser.add_argument(
        "--cluster", action="store_true", help=f"on {NODES} nodes of a Slurm, which is started here for it: needs root"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="workers a system")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the task counts: 0.01 for a trial")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one measurement")
    parser.add_argument("--json", type=Path, help="where the records go (default: a new file in bench/results)")
    parser.add_argument("--title", help="of the records, in the documentation")
    parser.add_argument(
        "--render",
        type=Path,
        nargs="+",
        metavar="JSON",
        help=f"measure nothing, and write {PAGE.relative_to(ROOT)} from the records of earlier runs",
    )
    options = parser.parse_args(arguments)
    known = CLUSTER_WORKLOADS if options.cluster else WORKLOADS
    options.workloads = options.workloads or list(known)
    options.systems = options.systems or [name for name in SYSTEMS if find(name).cluster is options.cluster]
    if options.cluster:
        options.workers = NODES
    if wrong := [name for name in options.workloads if name not in known]:
        parser.error(f"{', '.join(wrong)}: {'not for' if options.cluster else 'only with'} --cluster")
    if wrong := [name for name in options.systems if find(name).cluster is not options.cluster]:
        parser.error(f"{', '.join(wrong)}: {'not for' if options.cluster else 'only with'} --cluster")
    return options


def _names(known: dict[str, Any]) -> Any:
    def names(text: str) -> list[str]:
        asked = text.split(",")
        if unknown := [name for name in asked if name not in known]:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)} among {', '.join(known)}")
        return asked

    return names


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    now = datetime.now(UTC)
    run: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "title": options.title or (f"{NODES} nodes of a Slurm" if options.cluster else "One machine"),
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "machine": _machine(),
        "workers": options.workers,
        "rounds": options.rounds,
        "systems": options.systems,
        "workloads": {name: _about(_workload(name)) for name in options.workloads},
        "records": [],
    }
    file = options.json or RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Cluster() if options.cluster else nullcontext() as cluster:
            _rounds(options, cluster, run["records"])
    finally:  # an interrupted run keeps what it has
        file.write_text(json.dumps(run, indent=1))
    return run


def _rounds(options: argparse.Namespace, cluster: Cluster | None, records: list[dict[str, Any]]) -> None:
    """Let the systems follow each other closely at each workload: the machine's mood changes within minutes."""
    pythons = {name: _python(name) for name in options.systems}
    for number in range(options.rounds):
        turn = random.Random(number)
        for workload in options.workloads:
            for name in turn.sample(options.systems, len(options.systems)):
                python = pythons[name]
                tasks = _tasks(name, workload, options.scale)
                order = {"system": name, "workload": workload, "workers": options.workers, "tasks": tasks}
                if isinstance(python, str):
                    outcome = {"error": python}
                else:
                    outcome = trial.run(order, python, options.timeout, cluster)
                records.append({"round": number, **order, **outcome})
                print(f"bench: round {number + 1} {workload} {name}: {_short(outcome)}", file=sys.stderr)


def _python(name: str) -> Path | str:
    """Give the Python of a system's environment, or why there is none."""
    adapter = find(name)
    try:
        return environment.make(adapter.environment, adapter.requirements)
    except environment.EnvironmentFailed as error:
        return f"not installed: {error}"


def _tasks(name: str, workload: str, scale: float) -> int:
    asked = max(1, round(_workload(workload).tasks * scale))
    return min(asked, find(name).limits.get(workload, asked))


def _workload(name: str) -> Workload:
    return (WORKLOADS | CLUSTER_WORKLOADS)[name]


def _short(outcome: dict[str, Any]) -> str:
    return report.number(outcome["figure"]) if "figure" in outcome else str(outcome)


def _about(workload: Workload) -> dict[str, Any]:
    return {"about": workload.about, "unit": workload.unit, "more_is_better": workload.more_is_better}


def _machine() -> dict[str, Any]:
    processors = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in processors if line.startswith("model name")), "unknown")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()

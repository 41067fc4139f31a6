"""From the records of a run to a table and a page. Reads nothing but the run's own file."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

REFERENCES = "heald", "heald_slurm"  # of the two, the one that was measured
NOTE_WIDTH = 120
Run = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A system at a workload: medians over the rounds; the ratio is the median of the rounds' ratios."""

    figure: float | None = None
    cpu_us: float | None = None
    tasks: int = 0
    ratio: float | None = None
    note: str = ""
    lacks: bool = False


def cells(run: Run, workload: str) -> dict[str, Cell]:
    """Give the cell of every system that was asked, in the order of the table."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in run["systems"]}
    for record in run["records"]:
        if record["workload"] == workload:
            rounds[record["system"]].append(record)
    reference = {record["round"]: record.get("figure") for record in rounds.get(_reference(run), [])}
    more_is_better = run["workloads"][workload]["more_is_better"]
    return {name: _cell(records, reference, more_is_better) for name, records in rounds.items() if records}


def _cell(records: list[dict[str, Any]], reference: dict[int, float | None], more_is_better: bool) -> Cell:
    good = [record for record in records if "figure" in record]
    failures = [record.get("error") or record.get("lacks", "") for record in records if "figure" not in record]
    if not good:
        if all("lacks" in record for record in records):
            return Cell(lacks=True)
        return Cell(note=f"FAILED: {failures[-1]}"[:NOTE_WIDTH])
    pairs = [(reference.get(record["round"]), record["figure"]) for record in good]
    ratios = [mine / its if more_is_better else its / mine for mine, its in pairs if mine and its]
    return Cell(
        figure=median(record["figure"] for record in good),
        cpu_us=median(record["cpu_us"] for record in good),
        tasks=good[0]["tasks"],
        ratio=median(ratios) if ratios else None,
        note=f"FAILED {len(failures)} of {len(records)} rounds: {failures[-1]}"[:NOTE_WIDTH] if failures else "",
    )


def table(run: Run) -> str:
    """Give every figure: a line for each workload and system."""
    better = f"{_reference(run)} is better by"
    header = ("workload", "system", "figure", "unit", "CPU us a task", better, "tasks", "note")
    rows = []
    for workload, about in run["workloads"].items():
        for name, cell in cells(run, workload).items():
            if cell.lacks:
                continue
            figures = (number(cell.figure), about["unit"], number(cell.cpu_us), times(cell.ratio))
            rows.append((workload, name, *figures, f"{cell.tasks:,}" if cell.tasks else "", cell.note))
    return markdown(header, rows)


def summary(run: Run) -> str:
    """Give the ratios alone: a line for each system, a column for each workload; the reference has its figures."""
    columns = {workload: cells(run, workload) for workload in run["workloads"]}
    own = _reference(run)
    rows = [(name, *(_mark(name == own, column.get(name)) for column in columns.values())) for name in run["systems"]]
    return markdown(("system", *columns), rows)


def _reference(run: Run) -> str:
    return next((name for name in REFERENCES if name in run["systems"]), REFERENCES[0])


def _mark(own: bool, cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.lacks:
        return "-"
    if cell.figure is None:
        return "failed"
    return number(cell.figure) if own else times(cell.ratio)


def page(runs: Sequence[Run]) -> str:
    """Give the documentation's page: a part for each run, under its title."""
    parts = "\n".join(_part(run) for run in runs)
    return f"""# Benchmarks

How it is measured is told in `bench/README.md`. Above 1, heald is better; below 1, the peer is; the line of heald has
its figures. The ratios are of figures taken in the same round. A dash: the system has no such thing.

{parts}"""


def _part(run: Run) -> str:
    machine = run["machine"]
    versions = {record["system"]: record["version"] for record in run["records"] if "version" in record}
    foreign = [record["foreign_cores"] for record in run["records"] if "foreign_cores" in record]
    about = [(name, each["about"], each["unit"]) for name, each in run["workloads"].items()]
    return f"""## {run["title"]}

Made by `{run["command"]}` on {run["date"]}: {run["workers"]} workers a system, {run["rounds"]} interleaved rounds,
medians. The machine: {machine["cores"]} cores ({machine["processor"]}), {machine["memory_gib"]} GiB,
Linux {machine["kernel"]}, Python {machine["python"]}; meanwhile other programs used
{number(median(foreign or [0]))} cores (median).

### How many times better {_reference(run)} is

{summary(run)}

### The workloads

{markdown(("workload", "what", "unit"), about)}

### Every figure

CPU is of all processes of the system: client, scheduler, workers.
A slow system ran fewer tasks where its count is lower.

{table(run)}

### Versions

{markdown(("system", "version"), list(versions.items()))}
"""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a table that reads well as text too.

    >>> print(markdown(("a", "long"), [("1", "2")]))
    | a | long |
    |---|------|
    | 1 | 2    |
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def number(value: float | None) -> str:
    """Give three significant digits.

    >>> number(80123.4), number(0.012345), number(None)
    ('80,100', '0.0123', '')
    """
    if value is None:
        return ""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.3g}"


def times(ratio: float | None) -> str:
    """Give a ratio in two significant digits.

    >>> times(123.4), times(0.456)
    ('x120', 'x0.46')
    """
    return "" if ratio is None else f"x{number(float(f'{ratio:.2g}'))}"

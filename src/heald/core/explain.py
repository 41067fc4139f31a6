"""Why a task is where it is, and why it ended as it did, in sentences for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from heald.core.event import Failure, Usage
from heald.core.graph import Graph, Node
from heald.core.history import History, Record
from heald.core.state import State
from heald.core.task import FOREIGN

_SHOWN = 3  # tasks named before the rest are only counted


def explain(
    graph: Graph,
    task: int,
    why_not_placed: Callable[[Node], str] | None = None,
    ahead: Callable[[Node], Sequence[int]] | None = None,
) -> str:
    """Why a task that is not over is where it is.

    `why_not_placed` knows about places, `ahead` which tasks come first on the worker that has it.
    """
    node = graph.nodes.get(task)
    if node is None:
        return f"task {task} is over, or was never here"
    before = f"; attempt {node.attempt} failed: {node.tries.message}" if node.tries else ""
    if node.work.kind == FOREIGN:
        return f"{node.label} stands for a future of another executor, which is not over"
    if node.state is State.ready:
        reason = (why_not_placed(node) or "it is next in line") if why_not_placed else "it waits for a place"
        return f"{node.label} is ready to run: {reason}{before}"
    if node.state is State.placed:
        first = _named(graph, ahead(node) if ahead else ())
        return f"{node.label} is with a worker, attempt {node.attempt}, {f'behind {first}' if first else 'and begins'}"
    if node.state is State.running:
        return f"{node.label} runs, attempt {node.attempt}"
    if node.missing:
        what = "it waits for" if node.join is None else "its body has run; it waits for what that returned:"
        return f"{node.label}: {what} {_needs(graph, node)}"
    pause = f" of {node.tries.pause:g} s" if node.tries else ""
    return f"{node.label} waits for the end of a pause{pause} before attempt {node.attempt + 1}{before}"


def _needs(graph: Graph, node: Node) -> str:
    """What it waits for, and what that, in the end, waits for."""
    missing = _missing(graph, node)
    last = graph.nodes[missing[0]]
    while last.state is State.waiting and last.missing:  # there are no cycles: the graph refuses them
        last = graph.nodes[_missing(graph, last)[0]]
    root = f"; in the end for {last.label} ({last.state.name})" if last.record.id not in missing else ""
    return _named(graph, missing) + root


def _missing(graph: Graph, node: Node) -> list[int]:
    return [task for task in dict.fromkeys(node.needed) if task in graph.nodes]


def _named(graph: Graph, tasks: Iterable[int]) -> str:
    """The first of `tasks` with their states, and how many there are besides."""
    nodes = [node for node in map(graph.nodes.get, tasks) if node is not None]
    names = ", ".join(f"{node.label} ({node.state.name})" for node in nodes[:_SHOWN])
    return names + (f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else "")


def told(history: History, task: int) -> str:
    """What became of a task, from the events of its run: how it ended and why, or where it is.

    The first line says it; those that follow, indented, give the attempts, the chain, the logs and a hint.
    """
    record = history.records.get(task)
    if record is None:
        return f"there is no task {task} in this run"
    label = f"{history.work(record).name}#{task}"
    asked = ["somebody asked for it to be run again"] if task in history.former else []
    if record.state.final:
        return "\n  ".join((ended(label, record.failure), *asked, *_course(record)))
    if task in history.graph.nodes:
        return "\n  ".join((explain(history.graph, task), *asked, *_course(record)))
    if asked:
        return "\n  ".join((f"{label} is to be run again, the next time that the script comes to it", *_course(record)))
    return f"{label} was not over when the process that drove it ended; it is run when the run is taken up again"


def ended(label: str, failure: Failure | None) -> str:
    """How a task ended, in a line: well, or because of `failure`.

    >>> ended("square#3", Failure("user", "ValueError: no"))
    'square#3 failed: ValueError: no'
    """
    if failure is None:
        return f"{label} is done"
    if failure.kind == "cancelled":
        return f"{label} was cancelled: {failure.message.removeprefix('cancelled ')}"
    if failure.kind == "dependency":
        return f"{label} failed, since {failure.message}"
    return f"{label} failed: {failure.message}"


def _course(record: Record) -> list[str]:
    """How it came to that, a line each."""
    failure = record.failure
    lines = [f"attempt {attempt} failed: {message}" for attempt, message in record.failed]
    if record.recalled and failure is None:
        lines.append("it was not run: its value was known, from a memo or from an earlier process")
    elif record.recalled:
        lines.append("it was not run")
    elif record.attempt and record.state.final:
        where = f" on {record.worker} of {record.executor}" if record.worker else ""
        lines.append(f"it ended with attempt {record.attempt}{where}{_used(record.usage)}")
    if failure is not None:
        if len(failure.chain) > 1:
            lines.append("needed by: " + " <- ".join(reversed(failure.chain)))
        lines.extend(f"{stream}: {path}" for stream, path in _logs(failure) if path)
        if failure.hint:
            lines.append(f"hint: {failure.hint}")
    return lines


def _used(usage: Usage | None) -> str:
    if usage is None or not usage.started:
        return ""
    memory = f", {usage.memory / 1e6:.3g} MB" if usage.memory else ""
    return f": {usage.seconds:.3g} s, {usage.cpu:.3g} s of CPU{memory}"


def _logs(failure: Failure) -> tuple[tuple[str, str], ...]:
    return ("stdout", failure.stdout), ("stderr", failure.stderr)

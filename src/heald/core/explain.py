"""Why a task is where it is, in sentences for people."""

from __future__ import annotations

from collections.abc import Callable

from heald.core.graph import Graph, Node
from heald.core.state import State

_SHOWN = 3  # tasks named before the rest are only counted


def explain(graph: Graph, task: int, why_not_placed: Callable[[Node], str]) -> str:
    """Why a task that is not over is where it is; `why_not_placed` knows about places."""
    node = graph.nodes.get(task)
    if node is None:
        return f"task {task} is over, or was never here"
    if node.state is State.ready:
        return f"{node.label} is ready to run: {why_not_placed(node) or 'it is next in line'}"
    if node.state is State.placed:
        return f"{node.label} is with a worker, attempt {node.attempt}, behind others that are expected to be short"
    if node.state is State.running:
        return f"{node.label} runs, attempt {node.attempt}"
    if node.missing:
        got = node.got or {}
        needed = node.join.children if node.join is not None else node.record.inputs
        missing = [other for other in dict.fromkeys(needed) if other not in got]
        names = [f"{one.label} ({one.state.name})" for one in map(graph.nodes.get, missing[:_SHOWN]) if one]
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        what = "its body has run; it waits for the tasks that it returned" if node.join is not None else "it waits for"
        return f"{node.label}: {what} {', '.join(names)}{more}"
    return f"{node.label} waits for the end of the pause before attempt {node.attempt + 1}"

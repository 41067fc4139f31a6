"""A Gantt chart as text: when each task ran, or each sort of tasks when there are many, and how busy the cores were."""

from __future__ import annotations

from collections.abc import Sequence

from heald.core.history import History
from heald.core.quantity import duration
from heald.core.state import State
from heald.report.figures import Figures, Span, figures
from heald.report.scale import ticks

_ROWS = 20
_LEVELS = " ▁▂▃▄▅▆▇█"
_NAME = 24  # columns that names may take
_TAIL = 10  # columns of figures at the end of a row, at least
_NARROWEST = 10


def gantt_text(history: History, width: int = 80, now: float | None = None) -> str:
    """The chart, `width` columns wide; empty when nothing has run.

    A row is a task while there are few, else a name, with bars as high as the share of its tasks that ran then. A
    cell with a failed task is marked ×. The last row shows how many cores were busy.
    """
    found = figures(history, now)
    if not found.spans or not found.seconds:
        return ""
    rows = _rows(found)
    titles = [title for title, _ in rows]
    room = min(_NAME, width // 4, max(len("cores busy"), *map(len, titles)))
    tails = [_tail(spans) for _, spans in rows]
    cells = max(_NARROWEST, width - room - max(_TAIL, *map(len, tails)) - 2)
    lines = [
        f"{_cut(title, room):<{room}} {_bars(found, spans, cells)} {tail}".rstrip()
        for (title, spans), tail in zip(rows, tails, strict=True)
    ]
    left = len({span.name for span in found.spans}) - len(rows)
    if left > 0:
        lines.append(f"and {left} names more")
    busy = found.busy_cores(cells)
    most = max(busy)
    lines.append(f"{_cut('cores busy', room):<{room}} {_heights(busy, most)} max {most:.1f}")
    return "\n".join([*lines, f"{'':<{room}} {_axis(found.seconds, cells)}".rstrip()])


def _rows(found: Figures) -> list[tuple[str, list[Span]]]:
    if len(found.spans) <= _ROWS:
        return [(f"{span.name}#{span.task}", [span]) for span in found.spans]
    named: dict[str, list[Span]] = {}
    for span in found.spans:
        named.setdefault(span.name, []).append(span)
    most = named if len(named) <= _ROWS else sorted(named, key=lambda name: -_seconds(named[name]))[:_ROWS]
    return [(name, spans) for name, spans in named.items() if name in most]  # in the order of their first starts


def _tail(spans: Sequence[Span]) -> str:
    if len(spans) == 1:
        return duration(spans[0].seconds)
    return f"{len(spans)}x {duration(_seconds(spans) / len(spans))}"


def _seconds(spans: Sequence[Span]) -> float:
    return sum(span.end - span.start for span in spans)


def _bars(found: Figures, spans: Sequence[Span], cells: int) -> str:
    """A cell is full where as many ran as ever in this row."""
    width = found.seconds / cells
    heights = found.running(spans, cells)

    def place(time: float) -> int:
        return min(int(found.elapsed(time) / width), cells - 1)

    for span in spans:
        if span.end <= span.start:
            heights[place(span.start)] += 1e-9  # what took no time is seen all the same
    failed = {place(span.end) for span in spans if span.state is State.failed}
    drawn = _heights(heights, max(heights))
    return "".join("×" if place in failed else cell for place, cell in enumerate(drawn))


def _heights(values: Sequence[float], most: float) -> str:
    """One sign for each value; whatever is above nothing can be seen."""
    steps = len(_LEVELS) - 1
    return "".join(_LEVELS[0 if not most or value <= 0 else max(1, round(value / most * steps))] for value in values)


def _axis(seconds: float, cells: int) -> str:
    line = ""
    for place, label in ticks(seconds, max(2, cells // 14)):
        at = round(place * cells)
        if at >= len(line) + bool(line) and at + len(label) <= cells + _TAIL:
            line = line.ljust(at) + label
    return line


def _cut(text: str, room: int) -> str:
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return text if len(text) <= room else text[: room - 1] + "…"

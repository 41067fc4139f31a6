"""The timeline of a page: how many cores were busy, and a lane for each worker with what it ran.

Bars are placed in percent, so that they fit any window while text keeps its size. Thousands of short tasks would be
neither drawn nor seen one by one: neighbours in a lane that are too narrow are drawn together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from heald.core.quantity import duration
from heald.core.state import State
from heald.report.figures import Figures, Span
from heald.report.markup import short, text
from heald.report.scale import ticks

LANES = 48
_BARS = 6000  # drawn in all
_NARROW = 0.0015  # share of the width: less is drawn together with its neighbours
_WIDEST = 0.012  # and what is drawn together is no wider
_LABELLED = 0.05  # wide enough for a name
_BINS = 160
_TICKS = 6
_BUSY_HEIGHT = 72
_LANE_HEIGHT = 22

Colours = Mapping[str, str]  # class of a name


def timeline(found: Figures, colours: Colours) -> str:
    """The rows: busy cores, lanes, and the axis."""
    lanes = found.lanes
    shown = sorted(lanes, key=lambda lane: -sum(span.seconds for span in lanes[lane]))[:LANES]
    narrow = max(_NARROW, len(shown) / _BARS)
    grid = _grid(found)
    rows = [_busy(found, grid)]
    for lane, spans in lanes.items():
        if lane in shown:
            share = sum(span.seconds for span in spans) / found.seconds if found.seconds else 0.0
            bars = "".join(_bars(found, spans, colours, narrow))
            rows.append(
                _row("lane", lane, f'<svg height="{_LANE_HEIGHT}">{grid}{bars}</svg>', f"{min(1.0, share):.0%}")
            )
    if len(lanes) > len(shown):
        rows.append(_row("more", "", f"{len(lanes) - len(shown):,} more workers are not drawn: those least busy", ""))
    labels = "".join(
        f'<span style="left:{place:.3%}">{text(label)}</span>'
        for place, label in ticks(found.seconds, _TICKS)
        if place < 0.97
    )
    return "".join([*rows, _row("axis", "", f'<div class="ticks">{labels}</div>', "")])


def _row(kind: str, name: str, inside: str, share: str) -> str:
    return (
        f'<div class="row {kind}"><span class="name" title="{text(name)}">{text(name)}</span>'
        f'<div class="track">{inside}</div><span class="share">{share}</span></div>'
    )


def _grid(found: Figures) -> str:
    lines = [
        f'<line class="grid" x1="{place:.3%}" x2="{place:.3%}" y2="100%"/>'
        for place, _ in ticks(found.seconds, _TICKS)
        if place
    ]
    for _, end in found.gaps:
        place = found.elapsed(end) / found.seconds if found.seconds else 0.0
        mark = f'x1="{place:.3%}" x2="{place:.3%}" y2="100%"'
        lines.append(f'<line class="again" {mark}><title>the run was taken up again here</title></line>')
    return "".join(lines)


def _busy(found: Figures, grid: str) -> str:
    values = found.busy_cores(_BINS)
    most = max(values, default=0.0)
    width = 100 / _BINS
    columns = "".join(
        f'<rect x="{place * width:.3f}%" y="{100 - 100 * value / most:.2f}%" width="{width:.3f}%" '
        f'height="{100 * value / most:.2f}%"><title>{value:.2f} cores busy</title></rect>'
        for place, value in enumerate(values)
        if value > 0
    )
    drawing = f'<svg height="{_BUSY_HEIGHT}">{grid}<g class="busy">{columns}</g></svg>'
    return _row("busy-cores", "busy", drawing, f"max {most:.3g}" if most else "")


def _bars(found: Figures, spans: Sequence[Span], colours: Colours, narrow: float) -> Iterator[str]:
    """The bars of a lane: one for each task that is wide enough, one for several that are not."""
    together: list[Span] = []
    begin = end = 0.0
    for span in spans:
        first, last = (found.elapsed(time) / found.seconds if found.seconds else 0.0 for time in (span.start, span.end))
        apart = first - end > narrow or last - begin > max(_WIDEST, narrow)
        if together and (apart or last - first >= narrow):
            yield _bar(together, begin, max(end, begin + narrow), colours)
            together = []
        if last - first >= narrow:
            yield _bar([span], first, last, colours)
            continue
        if not together:
            begin = end = first
        together.append(span)
        end = max(end, last)
    if together:
        yield _bar(together, begin, max(end, begin + narrow), colours)


def _bar(spans: Sequence[Span], begin: float, end: float, colours: Colours) -> str:
    ended = [span.state for span in spans]
    failed = State.failed in ended
    state = "failed" if failed and len(spans) == 1 else "running" if State.running in ended else ""
    name = Counter(span.name for span in spans).most_common(1)[0][0]
    place = f'x="{min(begin, 1 - 0.0005):.3%}" width="{max(0.0005, end - begin):.3%}"'
    kind = f'class="bar {colours[name]} {state}"'.replace(' "', '"')
    title = f"<title>{_title(spans)}</title>"
    if end - begin < _LABELLED:
        bar = f'<rect {kind} {place} y="2" height="{_LANE_HEIGHT - 4}" rx="2">{title}</rect>'
        some = failed and len(spans) > 1
        return bar + (
            f'<rect class="bar failed" {place} y="{_LANE_HEIGHT - 7}" height="5">{title}</rect>' if some else ""
        )
    label = short(name if len(spans) > 1 else f"{name}#{spans[0].task}", 40)
    return (
        f'<svg {place} y="2" height="{_LANE_HEIGHT - 4}"><rect {kind} width="100%" height="100%" rx="2">{title}</rect>'
        f'<text x="5" y="13">{label}</text></svg>'
    )


def _title(spans: Sequence[Span]) -> str:
    if len(spans) == 1:
        span = spans[0]
        cores = f", {span.cores} cores" if span.cores > 1 else ""
        return text(f"{span.name}#{span.task}: {span.state.name}, {duration(span.seconds)}{cores}")
    names = Counter(span.name for span in spans).most_common(3)
    failed = sum(span.state is State.failed for span in spans)
    words = [f"{count} {name}" for name, count in names] + ([f"{failed} failed"] if failed else [])
    return text(f"{len(spans)} tasks of {duration(_mean(spans))} each: {', '.join(words)}")


def _mean(spans: Iterable[Span]) -> float:
    seconds = [span.seconds for span in spans]
    return sum(seconds) / len(seconds)

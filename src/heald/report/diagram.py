"""The drawing of a run's graph: boxes in layers, arrows from what is needed to what needs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from heald.core.history import History
from heald.core.state import State
from heald.report.layer import Box, Plan
from heald.report.markup import short, text

_WIDTH, _HEIGHT = 140, 30  # of a box
_PASS = 10  # room for an arrow that passes a layer
_BETWEEN = 12  # boxes of a layer
_ALONG = 44  # from a layer to the next
_MARGIN = 8
_SIGNS = 16  # of a name in a box

Point = tuple[float, float]


def diagram(plan: Plan, history: History, colours: Mapping[str, str]) -> str:
    """The drawing as SVG. Layers go across the page, unless there are more of them than boxes in the widest."""
    down = len(plan.layers) > max(map(len, plan.layers))
    centres, width, height = _centres(plan, down)
    arrows = "".join(
        _arrow(
            [centres[at] for at in (before, *plan.ways.get((before, after), ()), after)],
            down,
            count,
            f"{plan.boxes[before].label} → {plan.boxes[after].label}",
        )
        for (before, after), count in plan.arrows.items()
    )
    boxes = "".join(_box(box, centres[at], history, colours) for at, box in enumerate(plan.boxes))
    return (
        f'<svg class="dag" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" '
        'markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        f"{arrows}{boxes}</svg>"
    )


def _centres(plan: Plan, down: bool) -> tuple[dict[int, Point], float, float]:
    """The middles of boxes and passes, and the size of it all. `down`: layers stand below each other."""
    deep, broad = (_HEIGHT, _WIDTH) if down else (_WIDTH, _HEIGHT)
    breadths = [
        [_PASS if at >= len(plan.boxes) else broad for at in layer]  # what each takes in its layer
        for layer in plan.layers
    ]
    sizes = [sum(one) + _BETWEEN * (len(one) - 1) for one in breadths]
    centres: dict[int, Point] = {}
    for level, (layer, taken) in enumerate(zip(plan.layers, breadths, strict=True)):
        along = _MARGIN + deep / 2 + level * (deep + _ALONG * (0.85 if down else 1))
        across = _MARGIN + (max(sizes) - sizes[level]) / 2
        for at, breadth in zip(layer, taken, strict=True):
            centres[at] = (across + breadth / 2, along) if down else (along, across + breadth / 2)
            across += breadth + _BETWEEN
    far = max(point[down] for point in centres.values()) + deep / 2 + _MARGIN
    wide = max(sizes) + 2 * _MARGIN
    return centres, wide if down else far, far if down else wide


def _arrow(stops: Sequence[Point], down: bool, count: int, words: str) -> str:
    """A curve from the edge of the first box through the passes to the edge of the last."""
    half = (_HEIGHT if down else _WIDTH) / 2
    # Along and across the layers, whichever way those go; the way back of names that need each other is short.
    middles = [(y, x) if down else (x, y) for x, y in stops]
    curve = ""
    for (along, across), (further, aside) in pairwise(middles):
        start, end = along + half, further - half - (1 if (further, aside) == middles[-1] else 0)
        bend = max(14.0, abs(end - start) / 2)
        parts = [(start, across), (start + bend, across), (end - bend, aside), (end, aside)]
        drawn = [f"{b:.0f} {a:.0f}" if down else f"{a:.0f} {b:.0f}" for a, b in parts]
        curve += f"{'L' if curve else 'M'}{drawn[0]}C{' '.join(drawn[1:])}"  # straight where it passes a layer
    many = f": {count:,} dependencies" if count > 1 else ""
    weight = 1.2 + min(2.0, 0.4 * len(str(count - 1))) if count > 1 else 1.2
    return f'<path d="{curve}" stroke-width="{weight:.1f}"><title>{text(words + many)}</title></path>'


def _box(box: Box, centre: Point, history: History, colours: Mapping[str, str]) -> str:
    states = Counter(history.records[task].state for task in box.tasks)
    kind = "failed" if states[State.failed] else "" if states[State.done] == len(box.tasks) else "open"
    words = ", ".join(f"{count:,} {state.name}" for state, count in sorted(states.items()))
    many = f"×{len(box.tasks):,}" if len(box.tasks) > 1 else ""
    label = short(box.label, _SIGNS - len(many))
    count = f'<text class="count" x="{_WIDTH - 8}" y="19">{many}</text>' if many else ""
    corner = f"{centre[0] - _WIDTH / 2:.1f} {centre[1] - _HEIGHT / 2:.1f}"
    return (
        f'<g class="box {kind}" transform="translate({corner})"><title>{text(box.label)}: {words}</title>'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="5"/>'
        f'<rect class="strip {colours[box.name]}" x="1" y="1" width="5" height="{_HEIGHT - 2}" rx="2"/>'
        f'<text x="13" y="19">{label}</text>{count}</g>'
    )

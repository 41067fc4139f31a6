"""A run as one page: to keep beside the results, to send, to open without a network years later.

Nothing in it is loaded from elsewhere and nothing in it is a program: what users named cannot become one either.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from heald.core.event import Failure
from heald.core.history import History
from heald.core.quantity import duration
from heald.core.retry import CANCELLED, DEPENDENCY
from heald.core.state import State
from heald.core.text import printed
from heald.report.diagram import diagram
from heald.report.figures import Fault, Figures, Span, figures
from heald.report.layer import plan
from heald.report.markup import text
from heald.report.timeline import timeline
from heald.run import log

_COLOURS = 9  # in style.css; names beyond share one
_NAMES = 30
_FAULTS = 30
_LINES = 25  # of a log


def report_html(history: History, folder: str | os.PathLike[str], now: float | None = None) -> str:
    """The page of a run, from its history and its folder (for the logs). `now`: as in `figures`."""
    found = figures(history, now)
    path = Path(folder)
    colours = {sort.name: f"c{place}" if place < _COLOURS else "rest" for place, sort in enumerate(found.sorts)}
    title = f"heald run {path.name}"
    parts = [
        _head(found, path),
        _tiles(found),
        _timeline(found, colours),
        _failures(found, path),
        _graph(history, colours),
        _names(found, colours),
        _slowest(found, colours),
    ]
    style = Path(__file__).with_name("style.css").read_text()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{text(title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n'
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def write_report(history: History, folder: str | os.PathLike[str], file: str | os.PathLike[str]) -> Path:
    """Write the page to a file; the path of it."""
    path = Path(file)
    path.write_text(report_html(history, folder), encoding="utf-8")
    return path


def _head(found: Figures, path: Path) -> str:
    failed = found.counts.get(State.failed, 0)
    left = sum(count for state, count in found.counts.items() if not state.final)
    word, kind = ("all done", "good") if not failed and not left else (f"{failed:,} failed", "bad")
    if not failed and left:
        word, kind = f"{left:,} not done", "open"
    if not found.tasks:
        word, kind = "no tasks", "open"
    when = f"{datetime.fromtimestamp(found.start, UTC):%d %B %Y, %H:%M:%S} UTC" if found.start else ""
    facts = [f"<code>{text(shlex.join(found.command))}</code>" if found.command else "", text(found.host), text(when)]
    return (
        f'<header><h1>{text(path.name)}<span class="badge {kind}">{word}</span></h1>'
        f"<p>{' · '.join(fact for fact in facts if fact)}</p></header>"
    )


def _tiles(found: Figures) -> str:
    counts = found.counts
    tiles = [
        ("tasks", f"{found.tasks:,}", ""),
        ("done", f"{counts.get(State.done, 0):,}", "good"),
        ("failed", f"{counts.get(State.failed, 0):,}", "bad"),
        ("cancelled", f"{counts.get(State.cancelled, 0):,}", ""),
        ("not done", f"{sum(count for state, count in counts.items() if not state.final):,}", ""),
        ("known before", f"{found.recalled:,}", ""),
        ("lasted", duration(found.seconds), ""),
        ("core time", duration(found.busy), ""),
        ("cores busy", f"{found.busy / found.seconds if found.seconds else 0:.2f}", ""),
    ]
    always = ("tasks", "done", "lasted", "core time", "cores busy")
    shown = [tile for tile in tiles if tile[0] in always or tile[1] != "0"]
    cells = "".join(f'<div class="{kind}"><dt>{name}</dt><dd>{value}</dd></div>' for name, value, kind in shown)
    return f'<dl class="tiles">{cells}</dl>'


def _timeline(found: Figures, colours: Mapping[str, str]) -> str:
    if not found.spans:
        return _section("timeline", "Timeline", '<p class="note">Nothing has run.</p>')
    ran = [sort for sort in found.sorts if sort.seconds > 0]
    items = [_key(sort.name, colours[sort.name], f"{sort.tasks:,}") for sort in ran[:_COLOURS]]
    if len(ran) > _COLOURS:
        items.append(_key("all others", "rest", f"{sum(sort.tasks for sort in ran[_COLOURS:]):,}"))
    if any(span.state is State.failed for span in found.spans):
        items.append(_key("failed", "failed", ""))
    return _section("timeline", "Timeline", f'{timeline(found, colours)}<ul class="legend">{"".join(items)}</ul>')


def _key(name: str, colour: str, count: str) -> str:
    return f'<li><i class="{colour}"></i><span>{text(name)}</span> <small>{count}</small></li>'


def _graph(history: History, colours: Mapping[str, str]) -> str:
    found = plan(history)
    if not found.arrows:
        return ""
    notes = ["A box is all tasks of one name."] if found.grouped else []
    if found.omitted:
        notes.append(f"{found.omitted:,} names with fewer tasks are not drawn.")
    if found.alone:
        notes.append(f"{found.alone:,} {'names' if found.grouped else 'tasks'} without any dependency are not drawn.")
    note = f'<p class="note">{" ".join(notes)}</p>' if notes else ""
    return _section("graph", "Dependencies", f'<div class="scroll">{diagram(found, history, colours)}</div>{note}')


def _names(found: Figures, colours: Mapping[str, str]) -> str:
    most = max((sort.seconds for sort in found.sorts), default=0.0) or 1.0
    rows = [
        f'<tr><td class="wide"><i class="{colours[sort.name]}"></i>{text(sort.name)}</td><td>{sort.tasks:,}</td>'
        f"<td>{sort.done:,}</td><td{' class=bad' if sort.failed else ''}>{sort.failed:,}</td>"
        f"<td>{_time(sort.mean)}</td><td>{_time(sort.longest)}</td><td>{_time(sort.seconds)}</td>"
        f'<td class="meter"><b class="{colours[sort.name]}" style="width:{sort.seconds / most:.1%}"></b></td></tr>'
        for sort in found.sorts[:_NAMES]
    ]
    heads = ("name", "tasks", "done", "failed", "mean", "longest", "together", "")
    left = len(found.sorts) - len(rows)
    note = f'<p class="note">and {left:,} more names</p>' if left > 0 else ""
    return _section("names", "By name", _table(heads, rows) + note) if rows else ""


def _slowest(found: Figures, colours: Mapping[str, str]) -> str:
    def row(span: Span) -> str:
        return (
            f'<tr><td class="wide"><i class="{colours[span.name]}"></i>{text(span.name)}#{span.task}</td>'
            f"<td>{span.state.name}</td><td>{_time(span.seconds)}</td><td>{span.cores}</td>"
            f"<td>{_time(found.elapsed(span.start))}</td><td>{text(span.lane)}</td></tr>"
        )

    heads = ("task", "state", "took", "cores", "began at", "worker")
    return _section("slowest", "Slowest tasks", _table(heads, map(row, found.slowest))) if found.spans else ""


def _time(seconds: float) -> str:
    return duration(seconds) if seconds else "–"


def _table(heads: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f'<th class="{"wide" if not place else ""}">{name}</th>' for place, name in enumerate(heads))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _failures(found: Figures, folder: Path) -> str:
    if not found.faults:
        return ""
    logs = folder / "logs"
    shown = [_fault(fault, logs, first=not place) for place, fault in enumerate(found.faults[:_FAULTS])]
    left = len(found.faults) - len(shown)
    note = f'<p class="note">and {left:,} more sorts of failures</p>' if left > 0 else ""
    return _section("failures", "Failures", "".join(shown) + note)


def _fault(fault: Fault, logs: Path, *, first: bool) -> str:
    many = f"{fault.count:,} × " if fault.count > 1 else ""
    summary = f"{many}{text(fault.name)} <small>{text(fault.kind)}</small>"
    examples = fault.examples[:1] if fault.kind in (DEPENDENCY, CANCELLED) else fault.examples
    inside = "".join(_example(fault, *example, logs, first=not place) for place, example in enumerate(examples))
    left = fault.count - len(examples)
    more = f'<p class="note">and {left:,} more like {"this" if len(examples) == 1 else "these"}</p>' if left else ""
    return f"<details{' open' if first else ''}><summary>{summary}</summary>{inside}{more}</details>"


def _example(fault: Fault, task: int, attempt: int, failure: Failure, logs: Path, *, first: bool) -> str:
    chain = " needs ".join(failure.chain) if len(failure.chain) > 1 else ""
    tries = f", attempt {attempt}" if attempt > 1 else ""
    parts = [f'<p class="message">{text(printed(failure.message))}</p>']
    parts += [f'<p class="note">{text(words)}</p>' for words in (failure.hint, chain) if words]
    streams = (("out", failure.stdout), ("err", failure.stderr))
    tails = [(f"std{stream}", _tail(logs, task, stream, named)) for stream, named in streams]
    for name, content in (("traceback", failure.traceback.strip()), *tails):
        if content:
            lines = content.splitlines()[-_LINES:]
            parts.append(f"<h4>{name}</h4><pre>{text(printed(chr(10).join(lines)))}</pre>")
    summary = f"<summary>{text(fault.name)}#{task}{tries}</summary>"
    return f"<article><details{' open' if first else ''}>{summary}{''.join(parts)}</details></article>"


def _tail(logs: Path, task: int, stream: str, named: str) -> str:
    """The end of what the task printed: from the run's folder, which may have moved since, else from the named file."""
    file = log.latest(logs, task, stream) or named
    return log.tail(file, _LINES).strip() if file else ""


def _section(name: str, title: str, inside: str) -> str:
    return f'<section id="{name}"><h2>{title}</h2>{inside}</section>'

"""Tables and JSON as text: records in, lines out; what prints them is elsewhere.

By hand, since rich takes a tenth of a second to load and a millisecond for ten rows, and a run may have a million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any
from unicodedata import combining, east_asian_width

import msgspec

_GAP = 2
_NARROWEST = 8
_CELLS = 4096  # texts of a column that are remembered: but for the ids, most are alike
_AT_ONCE = 1000  # records turned into text at once
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "dim": 2}


class Column(msgspec.Struct, frozen=True):
    """A column: `title`, the text of a row's cell, whether numbers stand right, whether it may be cut (`flexible`), and
    the colour of a cell by its text.
    """

    title: str
    cell: Callable[[Any], str]
    right: bool = False
    flexible: bool = False
    colour: Callable[[str], str] | None = None


def table(columns: Sequence[Column], rows: Iterable[Any], width: int | None = None) -> list[str]:
    """The lines of a table: titles, then the rows; `width` columns of a terminal, or as many as it takes for None.

    A column that is empty in every row is left out. When the lines are too wide, the widest flexible columns are cut.

    >>> table([Column("ID", str, right=True), Column("NAME", lambda n: "x" * n, flexible=True)], [9, 20], width=14)
    ['ID  NAME', ' 9  xxxxxxxxx', '20  xxxxxxxxx…']
    """
    shared = lru_cache(_CELLS)(_plain)  # texts that are alike are one in memory, and need not be looked at again
    texts: list[list[str]] = [[] for _ in columns]
    for row in rows:
        for column, cells in zip(columns, texts, strict=True):
            cells.append(shared(column.cell(row)))
    shown = [place for place, cells in enumerate(texts) if any(cells)]
    if not shown:
        return []
    widths = {place: max(map(_width, (columns[place].title, *set(texts[place])))) for place in shown}
    if width is not None:
        _fit(widths, [place for place in shown if columns[place].flexible], width)
    titles = [_drawn(columns[place].title, columns[place], widths[place]) for place in shown]
    drawn = [map(_drawing(columns[place], widths[place]), texts[place]) for place in shown]
    return [(" " * _GAP).join(cells).rstrip() for cells in (titles, *zip(*drawn, strict=True))]


def _drawing(column: Column, room: int) -> Callable[[str], str]:
    """What draws a text as a cell of that column."""
    colour = column.colour or (lambda text: "")
    return lru_cache(_CELLS)(lambda text: _drawn(text, column, room, colour(text)))


def _drawn(text: str, column: Column, room: int, colour: str = "") -> str:
    cell = _cut(text, room)
    padding = " " * (room - _width(cell))
    cell = coloured(cell, colour)
    return padding + cell if column.right else cell + padding


def coloured(text: str, colour: str) -> str:
    """The text with the signs that colour it on a terminal; as it is for no colour."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and text else text


def document(value: Any) -> str:
    """JSON of records, which people can read too; times are ISO 8601.

    >>> print(document([{"name": "fit", "seconds": 1.5}]))
    [
      {
        "name": "fit",
        "seconds": 1.5
      }
    ]
    """
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def documents(values: Iterable[Any]) -> Iterator[str]:
    """The JSON of a list, as `document` writes it, in parts: a million records take no more memory than a thousand.

    >>> print(*documents([1, 2]), sep="")
    [
      1,
      2
    ]
    """
    values, before = iter(values), "["
    while some := list(islice(values, _AT_ONCE)):
        yield before + document(some)[1:-2]
        before = ","
    yield "[]" if before == "[" else "\n]"


def _fit(widths: dict[int, int], flexible: list[int], width: int) -> None:
    """Narrow the widest of `flexible`, again and again, until all fit or none can give."""
    over = sum(widths.values()) + _GAP * (len(widths) - 1) - width
    while over > 0 and (wide := [place for place in flexible if widths[place] > _NARROWEST]):
        widest = max(wide, key=widths.__getitem__)
        widths[widest] -= 1
        over -= 1


def _plain(text: str) -> str:
    # What people named their tasks, and errors, may have line ends in it, or signs that a terminal would obey.
    return text if text.isprintable() else "".join(sign if sign.isprintable() else " " for sign in text)


def _width(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(sign: str) -> int:
    return 0 if combining(sign) else 2 if east_asian_width(sign) in "WF" else 1


def _cut(text: str, room: int) -> str:
    if _width(text) <= room:
        return text
    kept, taken = "", 0
    for sign in text:
        taken += _cells(sign)
        if taken >= room:
            break
        kept += sign
    return kept + "…"

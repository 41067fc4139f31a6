"""How many inputs one job gets: one, a number of them (-N), or as many as fit in a line (-X, -m, --xargs)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from heald.cli.parallel.option import Options
from heald.cli.parallel.source import Row
from heald.cli.parallel.template import Template


def repeats(options: Options) -> bool:
    """Whether the word around `{}` is written again for each value."""
    return not options.many and (options.many_words or options.xargs or _number(options) is not None)


def batches(rows: Iterator[Row], options: Options, template: Template, jobs: int) -> Iterator[tuple[str, ...]]:
    """The values of each job."""
    number = _number(options)
    if options.many or options.many_words or options.xargs:
        yield from _filled(rows, options, template, jobs, number)
    elif number is None:
        yield from rows
    elif number == 0:
        yield from (() for _ in rows)
    else:
        while taken := tuple(itertools.islice(rows, number)):
            yield _flat(taken)


def _number(options: Options) -> int | None:
    return options.max_replace if options.max_replace is not None else options.max_lines


def _filled(
    rows: Iterator[Row], options: Options, template: Template, jobs: int, number: int | None
) -> Iterator[tuple[str, ...]]:
    """Lines as long as they may be; the last ones shared out, so that every job that can run at once has some."""
    repeat = repeats(options)
    empty = len(template.text((), repeat=repeat))
    taken: list[Row] = []
    length = empty
    for row in rows:
        grown = sum(template.growth(value, repeat=repeat) for value in row)
        if taken and (length + grown > options.max_chars or len(taken) == number):
            yield _flat(taken)
            taken, length = [], empty
        taken.append(row)
        length += grown
    each = len(taken) if options.xargs or not jobs else -(-len(taken) // jobs)
    for begin in range(0, len(taken), max(1, each)):
        yield _flat(taken[begin : begin + each])


def _flat(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(itertools.chain.from_iterable(rows))

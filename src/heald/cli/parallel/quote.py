"""Quoting for the shell, by where in the command line a value stands.

A value comes out of the shell as it went in, whatever bytes it has (NUL excepted, which no program can be given):
in the open, inside of the user's own quotes, and inside of `$(...)` and backticks.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

OPEN, SINGLE, DOUBLE, BACKTICK, COMMAND = "", "'", '"', "`", ")"
_IN_DOUBLE = re.compile(r'([\\$`"])')
_IN_BACKTICKS = re.compile(r"([\\$`])")


def contexts(text: str) -> Iterator[str]:
    """For each sign of a command line, the quotes that it stands in, from the outermost.

    >>> list(contexts("a 'b'"))
    ['', '', '', "'", "'"]
    """
    stack: list[str] = []
    escaped = False
    for place, sign in enumerate(text):
        yield "".join(stack)
        top = stack[-1] if stack else OPEN
        if escaped:
            escaped = False
        elif top == SINGLE:
            if sign == SINGLE:
                stack.pop()
        elif sign == "\\":
            escaped = True
        elif sign == BACKTICK:
            if BACKTICK in stack:
                del stack[stack.index(BACKTICK) :]
            else:
                stack.append(BACKTICK)
        elif sign == DOUBLE:
            if top == DOUBLE:
                stack.pop()
            else:
                stack.append(DOUBLE)
        elif sign == SINGLE and top != DOUBLE:
            stack.append(SINGLE)
        elif sign == "(" and (text[place - 1 : place] == "$" or top == COMMAND):
            stack.append(COMMAND)
        elif sign == ")" and top == COMMAND:
            stack.pop()


def quote(value: str, context: str = OPEN) -> str:
    """The value as the shell must read it in that context, one of those that `contexts` gives.

    >>> quote("it's 1 $"), quote("1 $", '"'), quote("it's", "'")
    ('\\'it\\'"\\'"\\'s 1 $\\'', '1 \\\\$', 'it\\'"\\'"\\'s')
    """
    where = context[-1:]
    if where == DOUBLE:
        quoted = _IN_DOUBLE.sub(r"\\\1", value)
    elif where == SINGLE:
        quoted = value.replace("'", "'\"'\"'")
    else:
        quoted = shlex.quote(value)
    # The shell takes one level of backslashes off the text between backticks before it reads that.
    return _IN_BACKTICKS.sub(r"\\\1", quoted) if BACKTICK in context else quoted


def fields(text: str) -> list[tuple[int, int]]:
    """Where in a command line its words begin and end: they are parted by blanks outside of quotes.

    >>> fields("a 'b c'")
    [(0, 1), (2, 7)]
    """
    found: list[tuple[int, int]] = []
    begin = -1
    for place, (sign, context) in enumerate(zip(text, contexts(text), strict=True)):
        blank = sign.isspace() and context == OPEN and text[place - 1 : place] != "\\"
        if not blank and begin < 0:
            begin = place
        elif blank and begin >= 0:
            found.append((begin, place))
            begin = -1
    if begin >= 0:
        found.append((begin, len(text)))
    return found

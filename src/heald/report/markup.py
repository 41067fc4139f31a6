"""Text that users and tasks wrote, made safe to stand in a page."""

from __future__ import annotations

import html
import re

_TERMINAL = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")


def text(value: object) -> str:
    """The text of anything, for the inside of an element or an attribute in quotes.

    >>> text('<b> & "c"')
    '&lt;b&gt; &amp; &quot;c&quot;'
    """
    return html.escape("".join(sign if sign.isprintable() or sign in "\n\t" else "�" for sign in str(value)))


def printed(value: str) -> str:
    """What a program printed: the same, without the signs that colour a terminal.

    >>> printed(chr(27) + "[31mred" + chr(27) + "[0m")
    'red'
    """
    return text(_TERMINAL.sub("", value).replace("\r\n", "\n").replace("\r", "\n"))


def short(value: str, room: int) -> str:
    """A text of at most `room` signs, made safe.

    >>> short("simulation", 6)
    'simul…'
    """
    return text(value if len(value) <= room else value[: room - 1] + "…")

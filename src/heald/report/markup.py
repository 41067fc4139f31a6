"""Text that users and tasks wrote, made safe to stand in a page."""

from __future__ import annotations

import html

from heald.core.text import printable


def text(value: object) -> str:
    """The text of anything, for the inside of an element or an attribute in quotes.

    >>> text('<b> & "c"')
    '&lt;b&gt; &amp; &quot;c&quot;'
    """
    return html.escape(printable(str(value)))


def short(value: str, room: int) -> str:
    """A text of at most `room` signs, made safe.

    >>> short("simulation", 6)
    'simul…'
    """
    return text(value if len(value) <= room else value[: room - 1] + "…")

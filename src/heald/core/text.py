"""Text from outside, such as names of files and messages of users, made fit for records.

Python keeps the bytes of a name that are no UTF-8 as surrogates, which no record can hold.
"""

from __future__ import annotations


def legible(text: str) -> str:
    """The text with whatever is no Unicode in it as an escape.

    >>> legible("caf\\u00e9 \\udcff")
    'café \\\\udcff'
    """
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """The text with its control characters, which could do anything to a terminal, as question marks.

    >>> printable("one\\ttwo\\n\\x1b[31mred")
    'one\\ttwo\\n\\ufffd[31mred'
    """
    return "".join(sign if sign.isprintable() or sign in "\t\n" else "\ufffd" for sign in text)

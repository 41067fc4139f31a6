"""Text from outside, such as names of files and what programs print, made fit for records and for people.

Python keeps the bytes of a name that are no UTF-8 as surrogates, which no record can hold.
"""

from __future__ import annotations

import re

from heald.core.errors import UsageError

_TERMINAL = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")


def legible(text: str) -> str:
    """The text with whatever is no Unicode in it as an escape.

    >>> legible("caf\\u00e9 \\udcff")
    'café \\\\udcff'
    """
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """The text with what nobody sees, such as control characters, as question marks; lines and tabs stay.

    >>> printable("one\\ttwo\\n\\x00")
    'one\\ttwo\\n\ufffd'
    """
    return "".join(sign if sign.isprintable() or sign in "\t\n" else "\ufffd" for sign in text)


def printed(text: str) -> str:
    """What a program printed: the same, without the signs that colour a terminal.

    >>> printed(chr(27) + "[31mred" + chr(27) + "[0m")
    'red'
    """
    return printable(_TERMINAL.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def recordable(what: str, text: str) -> str:
    """The text, which records can hold; raises UsageError when it has bytes that are no UTF-8, as names of files may.

    >>> recordable("name", "liquid argon")
    'liquid argon'
    """
    if legible(text) != text:
        raise UsageError(f"{what}={text!r}: has bytes that are no UTF-8", hint="give it another name")
    return text

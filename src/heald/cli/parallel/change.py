"""What a placeholder does to a value: `{.}` takes the ending off, `{/}` the folder, and so on.

Those of `--plus` stand here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Change = Callable[[str], str]


def whole(value: str) -> str:
    """`{}`"""
    return value


def no_ending(value: str) -> str:
    """`{.}`: without the ending.

    >>> no_ending("a.b/c.tar.gz"), no_ending("a.b/c")
    ('a.b/c.tar', 'a.b/c')
    """
    return re.sub(r"\.[^/.]+\Z", "", value)


def name(value: str) -> str:
    """`{/}`: without the folder."""
    return value.rpartition("/")[2]


def folder(value: str) -> str:
    """`{//}`: the folder alone.

    >>> folder("a/b.c"), folder("b"), folder("/"), folder("a/")
    ('a', '.', '/', '.')
    """
    head, slash, _ = value.rstrip("/").rpartition("/")
    if not value.rstrip("/"):
        return "/" if value else "."
    return head.rstrip("/") or ("/" if slash else ".")


def stem(value: str) -> str:
    """`{/.}`: without folder and ending."""
    return no_ending(name(value))


PLAIN: dict[str, Change] = {"": whole, ".": no_ending, "/": name, "//": folder, "/.": stem}


def _endings(count: int, *, kept: bool, base: Change) -> Change:
    pattern = re.compile(rf"((?:\.[^/.]*){{{count}}})\Z")

    def change(value: str) -> str:
        value = base(value)
        found = pattern.search(value)
        if kept:
            return found[1][1:] if found else ""
        return value[: found.start()] if found else value

    return change


def _parent(value: str) -> str:
    return value.rpartition("/")[0]


PLUS: dict[str, Change] = {
    "..": _endings(2, kept=False, base=whole),
    "...": _endings(3, kept=False, base=whole),
    "/..": _endings(2, kept=False, base=name),
    "/...": _endings(3, kept=False, base=name),
    "+/": _parent,
    "+.": _endings(1, kept=True, base=whole),
    "+..": _endings(2, kept=True, base=whole),
    "+...": _endings(3, kept=True, base=whole),
}
# Those with arguments of their own, longest sign first.
DYNAMIC = re.compile(r":-[^}]*|:\d+(?::\d+)?|\#[^}]+|%[^}]+|/[^/}]+/[^}]*|\^\^[^}]|\^[^}]|,,[^}]|,[^}]")


def dynamic(text: str) -> Change:
    """The change that `text`, which `DYNAMIC` matches, stands for.

    >>> [dynamic(text)("abcAd") for text in (":-x", ":2", ":1:2", "#ab", "%d", "/b/X", "^a", "^^a", ",A", ",,A")]
    ['abcAd', 'cAd', 'bc', 'cAd', 'abcA', 'aXcAd', 'AbcAd', 'AbcAd', 'abcAd', 'abcad']
    >>> dynamic(":-x")("")
    'x'
    """
    if text.startswith(":-"):
        return lambda value: value or text[2:]
    if text.startswith(":"):
        begin, _, length = text[1:].partition(":")
        first = int(begin)
        last = first + int(length) if length else None
        return lambda value: value[first:last]
    if text[0] == "#":
        return lambda value: value.removeprefix(text[1:])
    if text[0] == "%":
        return lambda value: value.removesuffix(text[1:])
    if text[0] == "/":
        old, _, new = text[1:].partition("/")
        return lambda value: value.replace(old, new, 1)
    upper, everywhere, sign = text[0] == "^", text[:2] in ("^^", ",,"), text[-1]
    changed = sign.upper() if upper else sign.lower()
    if everywhere:
        return lambda value: value.replace(sign, changed)
    return lambda value: changed + value[1:] if value.startswith(sign) else value

"""The command line with its placeholders, and what it becomes for the values of one job."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from heald.cli.parallel.change import DYNAMIC, PLAIN, PLUS, Change, dynamic, whole
from heald.cli.parallel.quote import OPEN, contexts, fields, quote
from heald.core.errors import UsageError
from heald.run.command import words as plain_words

ALL, SEQUENCE, SLOT, TOTAL = "all", "sequence", "slot", "total"
_MARK = re.compile("\ue000(\\d+)\ue001")
# What a shell does itself, or otherwise than the program of that name.
_SHELL_OWN = frozenset(
    [
        ".",
        ":",
        "alias",
        "bg",
        "bind",
        "break",
        "builtin",
        "caller",
        "case",
        "cd",
        "command",
        "compgen",
        "complete",
        "continue",
        "coproc",
        "declare",
        "dirs",
        "disown",
        "do",
        "done",
        "elif",
        "else",
        "enable",
        "esac",
        "eval",
        "exec",
        "exit",
        "export",
        "fc",
        "fg",
        "fi",
        "for",
        "function",
        "getopts",
        "hash",
        "help",
        "history",
        "if",
        "in",
        "jobs",
        "kill",
        "let",
        "local",
        "logout",
        "mapfile",
        "popd",
        "pushd",
        "pwd",
        "read",
        "readarray",
        "readonly",
        "return",
        "select",
        "set",
        "shift",
        "shopt",
        "source",
        "suspend",
        "then",
        "time",
        "times",
        "trap",
        "type",
        "typeset",
        "ulimit",
        "umask",
        "unalias",
        "unset",
        "until",
        "wait",
        "while",
    ]
)


class Placeholder(msgspec.Struct, frozen=True):
    """A placeholder: `which` is ALL, SEQUENCE, SLOT, TOTAL or the position of a value (from 1, or from behind if
    negative); `context`: the quotes that it stands in.
    """

    which: str | int
    change: Change = whole
    context: str = OPEN


Piece = str | Placeholder


class Facts(msgspec.Struct, frozen=True):
    """What a job's placeholders stand for, besides its values."""

    sequence: int = 1
    slot: int = 1
    total: int = 0


class Spelling(msgspec.Struct, frozen=True):
    """How placeholders are written: other signs for the usual ones, names from a header, `plus` for those of --plus."""

    renamed: Mapping[str, str] = {}  # {"{}": ",,"}
    names: Sequence[str] = ()
    plus: bool = False


class Template:
    """A command line with placeholders. `append`: put ` {}` at the end of one that has none.

    >>> template = Template("convert {} {.}.png")
    >>> template.text(["a b.jpg"]), template.words(["a b.jpg"])
    ("convert 'a b.jpg' 'a b'.png", ['convert', 'a b.jpg', 'a b.png'])
    """

    def __init__(self, text: str, spelling: Spelling | None = None, *, append: bool = True) -> None:
        self._spelling = spelling or Spelling()
        self._pattern = _pattern(self._spelling)
        _refuse_code(text)
        if append and not self._pattern.search(text):
            text = f"{text} {self._spelling.renamed.get('{}', '{}')}" if text else "{}"
        self.source = text
        whole_line = self._pattern.fullmatch(text) is not None
        self._lines = self._split(text, quoted=not whole_line)
        self._words = None if whole_line else self._without_shell()

    @property
    def placeholders(self) -> list[Placeholder]:
        """Those in the line."""
        return [piece for _, pieces in self._lines for piece in pieces if isinstance(piece, Placeholder)]

    def uses(self, which: str | int) -> bool:
        """Whether such a placeholder is in the line."""
        return any(one.which == which for one in self.placeholders)

    def check(self, width: int) -> None:
        """Raise UsageError when the line has a position beyond the `width` values that every job has."""
        for one in self.placeholders:
            if isinstance(one.which, int) and abs(one.which) > width:
                raise UsageError(
                    f"{{{one.which}}} stands for nothing: the number of input sources is {width}",
                    hint="count from 1; columns of an input need --colsep, several inputs for a job -N",
                )

    def text(self, values: Sequence[str], facts: Facts | None = None, *, repeat: bool = False) -> str:
        """The line for a shell. `repeat`: a word with `{}` is written once for each value."""
        known = facts or Facts()
        parts: list[str] = []
        for blank, pieces in self._lines:
            parts.append(blank)
            if repeat and len(values) > 1 and any(_is_all(piece) for piece in pieces):
                parts.append(" ".join(self._written(pieces, [value], values, known) for value in values))
            else:
                parts.append(self._written(pieces, values, values, known))
        return "".join(parts)

    def words(self, values: Sequence[str], facts: Facts | None = None, *, repeat: bool = False) -> list[str] | None:
        """The words of the line, when no shell is needed to make them."""
        if self._words is None:
            return None
        known = facts or Facts()
        found: list[str] = []
        for pieces in self._words:
            spread = len(values) != 1 and any(_is_all(piece) for piece in pieces)
            if spread and repeat:
                found.extend(_joined(pieces, [value], values, known)[0] for value in values)
            elif len(pieces) == 1 and isinstance(pieces[0], str):
                found.append(pieces[0])
            else:
                found.extend(_joined(pieces, values, values, known))
        return found

    def growth(self, value: str, *, repeat: bool = False) -> int:
        """By how many signs one more value makes the line longer."""
        grown = 0
        for _, pieces in self._lines:
            if any(_is_all(piece) for piece in pieces):
                grown += 1 + sum(
                    len(quote(piece.change(value))) if isinstance(piece, Placeholder) else len(piece) * repeat
                    for piece in pieces
                    if isinstance(piece, str) or piece.which == ALL
                )
        return grown

    def plainly(self, values: Sequence[str], facts: Facts | None = None) -> str:
        """The line with values as they are: for names and labels, not for a shell."""
        known = facts or Facts()
        return "".join(
            blank + "".join(" ".join(_joined([piece], values, values, known)) for piece in pieces)
            for blank, pieces in self._lines
        )

    # -- reading the line --------------------------------------------------------------------------------------------

    def _pieces(self, text: str, around: Sequence[str], *, quoted: bool = True) -> list[Piece]:
        pieces: list[Piece] = []
        end = 0
        for found in self._pattern.finditer(text):
            if found.start() > end:
                pieces.append(text[end : found.start()])
            pieces.append(self._placeholder(found, around[found.start()] if quoted else "raw"))
            end = found.end()
        if end < len(text) or not pieces:
            pieces.append(text[end:])
        return pieces

    def _placeholder(self, found: re.Match[str], context: str) -> Placeholder:
        spelling = self._spelling
        if found["renamed"]:
            inside = next(usual for usual, sign in spelling.renamed.items() if sign == found["renamed"])[1:-1]
        else:
            inside = found["inside"]
        special = {"#": SEQUENCE, "%": SLOT, "##": TOTAL}.get(inside)
        if special:
            return Placeholder(special, whole, context)
        which: str | int = ALL
        if found["which"] and not found["renamed"]:
            inside = found["change"]
            which = (
                spelling.names.index(found["which"]) + 1 if found["which"] in spelling.names else int(found["which"])
            )
        change = PLAIN.get(inside) or PLUS.get(inside) or dynamic(inside)
        return Placeholder(which, change, context)

    def _split(self, text: str, *, quoted: bool) -> list[tuple[str, list[Piece]]]:
        around = list(contexts(text))
        lines: list[tuple[str, list[Piece]]] = []
        end = 0
        for begin, stop in fields(text):
            pieces = self._pieces(text[begin:stop], around[begin:stop], quoted=quoted)
            lines.append((text[end:begin], pieces))
            end = stop
        if text[end:]:
            lines.append((text[end:], [""]))
        return lines

    def _without_shell(self) -> list[list[Piece]] | None:
        marked: list[Placeholder] = []

        def mark(found: re.Match[str]) -> str:
            marked.append(self._placeholder(found, OPEN))
            return f"\ue000{len(marked) - 1}\ue001"

        if "\ue000" in self.source or not self.source.strip():
            return None
        try:
            line = plain_words(self._pattern.sub(mark, self.source))
        except UsageError:
            return None  # a shell will say what is wrong with it
        if line[0] == "/bin/sh" or not is_program(line[0]):
            return None
        return [_unmarked(word, marked) for word in line]

    def _written(self, pieces: list[Piece], given: Sequence[str], values: Sequence[str], facts: Facts) -> str:
        parts: list[str] = []
        for piece in pieces:
            if isinstance(piece, str):
                parts.append(piece)
            elif piece.context == "raw":
                parts.append(" ".join(_values(piece, given, values, facts)))
            else:
                parts.append(" ".join(quote(value, piece.context) for value in _values(piece, given, values, facts)))
        return "".join(parts)


def is_program(word: str) -> bool:
    """Whether a shell would do no more for a line of plain words that begins so than start a program."""
    import os

    if word in _SHELL_OWN or f"BASH_FUNC_{word}%%" in os.environ:
        return False
    return shutil.which(word) is not None and (not word.startswith(".") or "/" in word)


def _pattern(spelling: Spelling) -> re.Pattern[str]:
    changes = [*PLAIN, *(PLUS if spelling.plus else ())]
    change = "|".join(re.escape(one) for one in sorted(changes, key=len, reverse=True))
    if spelling.plus:
        change = f"{change}|{DYNAMIC.pattern}"
    which = "|".join([r"-?\d+", *map(re.escape, sorted(filter(None, spelling.names), key=len, reverse=True))])
    usual = [sign for sign in ("{}", "{.}", "{/}", "{//}", "{/.}", "{#}", "{%}") if sign in spelling.renamed]
    specials = r"\#\#|\#|%" if spelling.plus else r"\#|%"
    renamed = "|".join(re.escape(sign) for sign in sorted(spelling.renamed.values(), key=len, reverse=True)) or "(?!)"
    hidden = f"(?!{'|'.join(map(re.escape, usual))})" if usual else ""
    body = rf"(?P<inside>{specials}|(?:(?P<which>{which})(?P<change>{change}))|(?:{change}))"
    return re.compile(rf"(?P<renamed>{renamed})|{hidden}\{{{body}\}}", re.DOTALL)


def _refuse_code(text: str) -> None:
    if re.search(r"\{=.*=\}", text, re.DOTALL):
        raise UsageError(
            "{= =} holds a Perl expression, and heald runs no Perl",
            hint="--plus has placeholders for the usual cuts and replacements; a Python script can do the rest",
        )


def near_name(text: str, names: Sequence[str]) -> str:
    """A warning about `{word}` in the line that is nearly one of the names from the header, or nothing."""
    for word in re.findall(r"\{(\w+)\}", text):
        if word not in names and not word.lstrip("-").isdigit():
            import difflib

            near = difflib.get_close_matches(word, names, 1)
            if near:
                return f"{{{word}}} is not a name in the header and stays as it is; did you mean {{{near[0]}}}?"
    return ""


def _unmarked(word: str, marked: Sequence[Placeholder]) -> list[Piece]:
    pieces: list[Piece] = []
    for place, part in enumerate(_MARK.split(word)):
        if place % 2:
            pieces.append(marked[int(part)])
        elif part:
            pieces.append(part)
    return pieces or [""]


def _is_all(piece: Any) -> bool:
    return isinstance(piece, Placeholder) and piece.which == ALL


def _value(one: Placeholder, values: Sequence[str], facts: Facts) -> str:
    which = one.which
    if which == ALL:
        return one.change(values[0]) if len(values) == 1 else " ".join(map(one.change, values))
    if isinstance(which, int):
        place = which - 1 if which > 0 else which
        return one.change(values[place]) if -len(values) <= place < len(values) else ""
    return str({SEQUENCE: facts.sequence, SLOT: facts.slot, TOTAL: facts.total}[which])


def _values(one: Placeholder, given: Sequence[str], values: Sequence[str], facts: Facts) -> Iterator[str]:
    if one.which == ALL:
        return map(one.change, given)
    return iter((_value(one, values, facts),)) if _present(one, values) else iter(())


def _present(one: Placeholder, values: Sequence[str]) -> bool:
    """A position without a value vanishes, where an empty value leaves an empty word."""
    return not isinstance(one.which, int) or -len(values) <= (one.which - (one.which > 0)) < len(values)


def _joined(pieces: Sequence[Piece], given: Sequence[str], values: Sequence[str], facts: Facts) -> list[str]:
    """The words that pieces of one word become: `a{}b` with two values is `a1 2b`, two words."""
    done: list[str] = []
    current: str | None = None
    for piece in pieces:
        parts = [piece] if isinstance(piece, str) else list(_values(piece, given, values, facts))
        for place, part in enumerate(parts):
            if place and current is not None:
                done.append(current)
                current = None
            current = (current or "") + part
    return done if current is None else [*done, current]

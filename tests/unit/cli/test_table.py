from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from heald.cli.table import Column, coloured, document, documents, table

NAME = Column("NAME", lambda row: row[0], flexible=True)
COUNT = Column("COUNT", lambda row: str(row[1]), right=True)
NOTE = Column("NOTE", lambda row: row[2], flexible=True)


def test_columns_are_aligned() -> None:
    assert table([NAME, COUNT, NOTE], [("fit", 5, "x"), ("simulate", 1000, "")]) == [
        "NAME      COUNT  NOTE",
        "fit           5  x",
        "simulate   1000",
    ]


def test_empty_columns_and_empty_tables_are_left_out() -> None:
    assert table([NAME, NOTE], [("fit", 5, "")]) == ["NAME", "fit"]
    assert table([NAME, NOTE], []) == []


def test_the_widest_flexible_column_is_cut() -> None:
    lines = table([NAME, COUNT, NOTE], [("n" * 30, 1, "m" * 60)], width=60)
    assert lines[1] == "n" * 25 + "     1  " + "m" * 25 + "…" or max(map(len, lines)) == 60
    assert lines[1].endswith("…")


def test_what_cannot_be_cut_is_not() -> None:
    assert table([COUNT], [("", 10**30, "")], width=10)[1] == str(10**30)


def test_wide_signs_take_two_columns() -> None:
    assert table([NAME, COUNT], [("密度", 1, ""), ("abcd", 2, "")]) == ["NAME  COUNT", "密度      1", "abcd      2"]
    (_, line) = table([NAME], [("密" * 30, 1, "")], width=9)
    assert line == "密密密密…"


def test_signs_that_a_terminal_would_obey_are_not_printed() -> None:
    assert table([NAME], [("a\nb\x1b[2Jc", 1, "")])[1] == "a b [2Jc"


def test_colours() -> None:
    column = Column("STATE", lambda row: row[0], colour=lambda text: "red" if text == "failed" else "")
    assert table([column], [("failed", 0, ""), ("done", 0, "")])[1:] == ["\x1b[31mfailed\x1b[0m", "done"]
    assert coloured("", "red") == ""


def test_document_is_json() -> None:
    text = document({"at": datetime(2026, 1, 2, tzinfo=UTC), "some": [1, None]})
    assert json.loads(text) == {"at": "2026-01-02T00:00:00Z", "some": [1, None]}


@pytest.mark.parametrize("count", [0, 1, 7, 2500])
def test_documents_are_the_parts_of_one(count: int) -> None:
    values = [{"id": number, "tags": {}} for number in range(count)]
    parts = list(documents(iter(values)))
    assert "".join(parts) == document(values)
    assert len(parts) <= 1 + (count + 999) // 1000


def test_rows_are_asked_for_once() -> None:
    """They may be made as they are asked for: a million need not be in memory."""
    assert table([NAME, COUNT], ((name, len(name), "") for name in ("a", "bb"))) == [
        "NAME  COUNT",
        "a         1",
        "bb        2",
    ]

"""What users named cannot become markup."""

from __future__ import annotations

from heald.report.markup import short, text


def test_markup_is_text() -> None:
    assert text("</title><script>'\"&") == "&lt;/title&gt;&lt;script&gt;&#x27;&quot;&amp;"


def test_signs_that_nobody_sees_are_shown() -> None:
    assert text("a\x00b‮c\n\td") == "a�b�c\n\td"


def test_short_counts_signs_before_they_are_made_safe() -> None:
    assert short("<<<<", 4) == "&lt;&lt;&lt;&lt;"
    assert short("<<<<<", 4) == "&lt;&lt;&lt;…"

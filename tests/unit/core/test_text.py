from __future__ import annotations

import pytest

from heald.core.errors import UsageError
from heald.core.text import legible, printable, printed, recordable


@pytest.mark.parametrize("text", ["", "plain", "café ☃ 漢字\n\t\x1b"])
def test_what_is_unicode_is_left_alone(text: str) -> None:
    assert legible(text) == text


def test_what_is_no_unicode_becomes_an_escape() -> None:
    assert legible("a\udcffé") == "a\\udcffé"


def test_what_is_no_unicode_is_not_recorded() -> None:
    assert recordable("name", "café") == "café"
    with pytest.raises(UsageError, match=r"name='a\\udcff': has bytes that are no UTF-8"):
        recordable("name", "a\udcff")


def test_control_characters_are_replaced() -> None:
    assert printable("a\x00b\x1b[0m\r\x07") == "a\ufffdb\ufffd[0m\ufffd\ufffd"


def test_lines_tabs_and_letters_of_all_scripts_stay() -> None:
    assert printable("one\ttwo\nдва 漢字 é") == "one\ttwo\nдва 漢字 é"


def test_terminal_signs_are_left_out_of_what_was_printed() -> None:
    assert printed("\x1b[1;31mred\x1b[0m \x1b]0;title\x07<b>\r\n10%\r20%") == "red <b>\n10%\n20%"

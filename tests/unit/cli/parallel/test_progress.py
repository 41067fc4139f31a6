from __future__ import annotations

import pytest

from heald.cli.parallel.progress import Display


def test_without_a_terminal_one_line_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(3)
    display.update(2, 1)
    display.update(3, 1)
    display.close()
    assert capsys.readouterr().err == "heald: 3 of 3 jobs are done, 1 failed\n"

from __future__ import annotations

from typer.testing import CliRunner

from heald.compat.program import app


def test_each_program_has_examples() -> None:
    for name in ("parsl-perf", "parsl-visualize"):
        text = CliRunner().invoke(app, [name, "--help"]).output
        assert text.count(f" heald compat {name} ") >= 2, text

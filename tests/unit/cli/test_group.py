from __future__ import annotations

import typer
from typer.testing import CliRunner

from heald.cli.group import Group

SENTENCE = "Weave what the loom was threaded for, with as many shuttles as it has colours, until the warp ends."

app = typer.Typer(cls=Group, rich_markup_mode=None)


@app.command("weave")
def weave() -> None:
    pass


app.command("wind", help=f"{SENTENCE}\n\nMore of it.")(weave)


def test_summaries_are_whole_sentences_within_the_width() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=80).output
    assert SENTENCE.removesuffix(".") in " ".join(shown.split())
    assert "More of it" not in shown
    assert max(map(len, shown.splitlines())) <= 80

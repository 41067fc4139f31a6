from __future__ import annotations

import re

from heald.cli.parallel.help import text
from heald.cli.parallel.option import _KNOWN, parse


def test_it_names_only_options_that_there_are() -> None:
    page = text(parse(["--help"]))
    named = set(re.findall(r"(?<![\w'{-])--?[a-zA-Z][\w-]*", page))
    of_others = {"-name", "-print0", "-c", "-l", "-so", "--seed"}
    assert named - of_others <= set(_KNOWN)


def test_it_fits_the_terminal() -> None:
    assert max(map(len, text(parse(["-h"])).splitlines())) <= 80


def test_version_and_citation() -> None:
    assert text(parse(["--version"])).startswith("heald ")
    assert "GNU Parallel" in text(parse(["--citation"]))

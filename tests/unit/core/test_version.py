from __future__ import annotations

import re

import heald
from heald.core.version import __version__


def test_the_number_is_one_and_well_formed() -> None:
    assert heald.__version__ is __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)

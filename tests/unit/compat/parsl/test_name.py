from __future__ import annotations

from importlib import import_module

import pytest

from heald.compat.parsl.name import ADVICE, MODULES


@pytest.mark.parametrize("module", MODULES)
def test_every_name_is_there(module: str) -> None:
    for name, home in MODULES[module].items():
        assert hasattr(import_module(home), name), f"{module}.{name} should be in {home}"


def test_served_or_not() -> None:
    assert not ADVICE.keys() & {name for names in MODULES.values() for name in names}

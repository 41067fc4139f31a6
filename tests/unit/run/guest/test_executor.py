from __future__ import annotations

import pickle
from typing import Any

import pytest

import heald
from heald.run.guest import executor


@pytest.mark.parametrize("kind", [heald.DaskExecutor, heald.RayExecutor])
def test_settings_can_be_printed_and_sent(kind: Any) -> None:
    made = kind("host:8786", workers=2, label="other", idle="1m", grace=1, interface="lo")
    for same in (eval(repr(made), {"heald": heald}), pickle.loads(pickle.dumps(made))):
        assert repr(same) == repr(made)
        assert (same.address, same.workers, same.label, same.idle_seconds) == ("host:8786", 2, "other", 60.0)
    assert repr(kind("host:1")) == f"heald.{kind.__name__}(address='host:1')"


@pytest.mark.parametrize("given", [{"workers": 0}, {"address": ""}, {"address": 3}, {"silence": 0.1}, {"label": ""}])
def test_what_cannot_be_is_refused(given: dict[str, Any]) -> None:
    for kind in (heald.DaskExecutor, heald.RayExecutor):
        with pytest.raises(heald.ConfigurationError):
            kind(**given)


@pytest.mark.parametrize("kind", [heald.DaskExecutor, heald.RayExecutor])
def test_a_client_that_is_missing_is_named(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "find_spec", lambda name: None)
    with pytest.raises(heald.ConfigurationError, match=f"{kind.__name__} needs {kind.module}") as raised:
        kind().submit(pow, 2, 3)
    assert raised.value.hint == f"pip install 'heald[{kind.extra}]'"

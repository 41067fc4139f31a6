from __future__ import annotations

import pytest

from heald.compat.parsl.error import BadLauncher, ScriptPathError
from heald.compat.parsl.provider import LocalChannel, LocalProvider, MpiExecLauncher, WrappedLauncher


def test_variables_of_worker_init() -> None:
    assert LocalProvider().variables() == {}
    found = LocalProvider(worker_init="export A_B='x\ny'").variables()
    assert found["A_B"] == "x\ny"


@pytest.mark.parametrize("line", ["false\nexit 3", "exit 0"])
def test_worker_init_fails(line: str) -> None:
    with pytest.raises(ScriptPathError, match="worker_init"):
        LocalProvider(worker_init=line).variables()


def test_older_spellings_and_launchers() -> None:
    provider = LocalProvider(channel=LocalChannel(), launcher=MpiExecLauncher(bind_cmd="--cpu-bind"), max_blocks=3)
    assert provider.blocks == 3
    assert "MpiExecLauncher(bind_cmd='--cpu-bind'" in repr(provider)
    assert WrappedLauncher("nice")("run", 1, 1) == "nice run"
    with pytest.raises(BadLauncher):
        LocalProvider(launcher="srun")  # type: ignore[arg-type]

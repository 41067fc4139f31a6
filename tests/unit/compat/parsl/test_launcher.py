from __future__ import annotations

import pytest

from heald.compat.parsl import launcher
from heald.compat.parsl.launcher import Launcher, MpiExecLauncher, SrunLauncher, WrappedLauncher
from heald.site.launcher import launcher as launcher_of
from heald.site.profile import Site


def test_those_of_heald() -> None:
    kinds = {
        name: kind for name, kind in vars(launcher).items() if isinstance(kind, type) and issubclass(kind, Launcher)
    }
    started = {name: kind.starts for name, kind in kinds.items() if kind.starts not in (None, "", "mpiexec")}
    assert started == {
        "SimpleLauncher": "fork",
        "GnuParallelLauncher": "ssh",
        "SrunLauncher": "srun",
        "SrunMPILauncher": "srun",
    }
    for name in started.values():
        assert launcher_of(Site("there", launcher=str(name)))


def test_as_people_write_them() -> None:
    assert "MpiExecLauncher(bind_cmd='--cpu-bind'" in repr(MpiExecLauncher(bind_cmd="--cpu-bind", overrides="--ppn 1"))
    assert SrunLauncher(overrides="-c 64").overrides == "-c 64"
    assert WrappedLauncher("nice").prepend == "nice"
    assert WrappedLauncher.starts is None
    with pytest.raises(TypeError):
        WrappedLauncher()  # type: ignore[call-arg]

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import heald
from heald.core.version import __version__
from heald.run.cluster.probe import probe
from heald.site.profile import Site


@pytest.fixture
def no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_look_around(no_programs: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head, socket.create_server(("127.0.0.1", 0)) as other:
        closed = other.getsockname()[1]
        other.close()
        deaf, heard = f"tcp://127.0.0.1:{closed}", f"tcp://127.0.0.1:{head.getsockname()[1]}"
        found = probe(Site("mine", scheduler="slurm"), [deaf, heard])
    assert (found.heald, found.launcher, found.shape.cores > 0) == (__version__, "srun", True)
    assert found.endpoint == heard
    assert 0 < found.trip < 1
    assert found.unreached == (f"{deaf}: Connection refused",)
    assert (found.mpi, "mpiexec" in found.mpi_problem) == ("", True)


def test_whose_mpiexec_it_is(no_programs: Path) -> None:
    mpiexec = no_programs / "mpiexec"
    mpiexec.write_text("#!/bin/sh\necho 'HYDRA build details:'\n")
    mpiexec.chmod(0o700)
    found = probe(Site("mine"), [])
    assert (found.mpi, found.mpi_problem, found.endpoint) == ("hydra", "", "")


def test_a_launcher_that_there_is_not_is_an_error() -> None:
    with pytest.raises(heald.ConfigurationError, match="no launcher 'mpirun'"):
        probe(Site("mine", launcher="mpirun"), [])

from __future__ import annotations

from pathlib import Path

import pytest

from heald.core.retry import REFUSED
from heald.run import singleton
from heald.run.singleton import Ear


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "stderr"
    file.write_text("singletons will be started: of the attempt before\n")
    return file


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("", False),
        ("step 1 of 2\n", False),
        ("No PMIx server was reachable, but a PMI1/2 was detected.\n... 4 singletons will be started.\n", True),
        ("Sorry!  You were supposed to get help about:\n    no-pmix-but\nfrom the file:\n", True),
        ("RuntimeWarning: suspicious MPI execution environment\nYour environment has PMI_SIZE=2 set\n", True),
    ],
)
def test_what_is_heard(file: Path, said: str, heard: bool) -> None:
    ear = Ear(str(file))
    with file.open("a") as stream:
        stream.write(said)
    assert ear.heard() is heard


def test_a_file_that_never_comes(tmp_path: Path) -> None:
    ear = Ear(str(tmp_path / "none"))
    assert not ear.heard()


def test_the_failure_says_who_does_not_fit() -> None:
    failure = singleton.failure(4, "srun --mpi=pmi2", "Open MPI v5.0.11")
    assert (failure.kind, failure.final) == (REFUSED, True)
    assert failure.message == (
        "each of its 4 ranks believes that it is the only one: the MPI of the program (Open MPI v5.0.11) is not the "
        "one that started them: srun --mpi=pmi2"
    )
    assert "`mpi` of the site" in failure.hint

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from heald.run import boot as module
from heald.run.boot import boot, boot_early

LOADS = (
    "import sys; from heald.run.boot import boot; print(*(name for name in sys.modules if name.startswith('heald')))"
)


@pytest.fixture
def booted() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Boots, and lets go of what was booted."""
    made = []

    def again() -> subprocess.Popen[bytes]:
        made.append(boot())
        return made[-1][0]

    yield again
    for process, control in made:
        control.close()
        assert process.wait(30) == 0


def test_a_spawner_ends_with_its_socket(booted: Callable[[], subprocess.Popen[bytes]]) -> None:
    assert booted().poll() is None


def test_one_that_was_started_early_is_used_once(booted: Callable[[], subprocess.Popen[bytes]]) -> None:
    boot_early()
    early = module._early[0][0]
    assert booted() is early
    assert booted() is not early


def test_one_that_has_died_is_not_used(booted: Callable[[], subprocess.Popen[bytes]]) -> None:
    boot_early()
    early = module._early[0][0]
    early.kill()
    early.wait()
    assert booted() is not early


def test_it_loads_nothing_else_of_heald() -> None:
    ran = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) == {"heald", "heald.core", "heald.core.version", "heald.run", "heald.run.boot"}

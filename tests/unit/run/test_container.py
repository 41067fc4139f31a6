from __future__ import annotations

from pathlib import Path

import pytest

from heald.run import container


@pytest.fixture
def programs(tmp_path: Path) -> str:
    """A PATH with singularity and podman."""
    for name in ("singularity", "podman"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    return str(tmp_path)


@pytest.fixture(autouse=True)
def no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "_DEVICES", {"--nv": "/dev/null", "--rocm": "/dev/heald-has-none"})


def test_a_file_is_apptainers_or_singularitys(programs: str) -> None:
    found = container.words("/images/md.sif", ["/run"], "/run/work", path=programs)
    assert found == ["singularity", "exec", "--nv", "--bind=/run", "--pwd=/run/work", "/images/md.sif"]
    assert container.words("/images/md.sif", [], "/", path="")[0] == "apptainer", "so its absence can be told"


def test_podman_has_the_variables_named(programs: str) -> None:
    found = container.words("podman:fedora:42", ["/run", "/home/ada"], "/home/ada/x", ["X", "Y"], path=programs)
    assert found == [
        "podman", "run", "--rm", "-i", "-v=/home/ada:/home/ada", "-v=/run:/run", "-w=/home/ada/x", "--env=X", "--env=Y",
        "fedora:42",
    ]  # fmt: skip


def test_bubblewrap_has_a_folder_as_its_root() -> None:
    found = container.words("bwrap:/images/md", ["/run"], "/run")
    assert found[:4] == ["bwrap", "--bind", "/images/md", "/"]
    assert found[-5:] == ["--bind", "/run", "/run", "--chdir", "/run"]


@pytest.mark.parametrize(
    ("name", "image", "words"),
    [
        ("docker://ubuntu", "/e/image.sif", ["singularity", "pull", "--force", "/e/image.sif", "docker://ubuntu"]),
        ("podman:ubuntu", "podman:ubuntu", ["podman", "pull", "--quiet", "ubuntu"]),
        ("ch:ubuntu", "ch:ubuntu", []),
        ("/images/md.sif", "/images/md.sif", []),
    ],
)
def test_what_is_far_is_brought_first(name: str, image: str, words: list[str], programs: str) -> None:
    assert container.pulled(name, Path("/e"), programs) == (image, words)

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from heald.cli.program import app
from heald.site import catalog


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No project is around, and no scheduler is on PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()


def heald(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["site", *arguments])
    assert result.exit_code == status, result.output
    return result


def test_ls() -> None:
    catalog.user_folder().mkdir(parents=True)
    (catalog.user_folder() / "mine.toml").write_text('scheduler = "slurm"\nqueue = "gpu"')
    (catalog.user_folder() / "bad.toml").write_text("queu = 1")
    rows = {line.split()[0]: line for line in heald("ls").output.splitlines()}
    assert "cannot be read" in rows["bad"]
    assert "gpu" in rows["mine"]
    assert "comes with heald" in rows["polaris"]
    sites = json.loads(heald("ls", "--json").output)
    assert next(site for site in sites if site["name"] == "mine")["site"]["queue"] == "gpu"


def test_show() -> None:
    assert heald("show", "polaris").output.startswith('name = "polaris"\nscheduler = "pbs"\n')
    assert heald("show", "polaris", "--code").output.startswith("Site(name='polaris', scheduler='pbs'")
    assert json.loads(heald("show", "polaris", "--json").output)["node"]["gpus"] == 4
    result = heald("show", "polars", status=2)
    assert "did you mean polaris?" in result.stderr


def test_detect(tmp_path: Path) -> None:
    assert heald("detect", "here", "-o", "-").output.startswith('name = "here"\n')
    path = catalog.user_folder() / "here.toml"
    assert not path.exists()
    assert str(path) in heald("detect", "here").output
    assert catalog.find("here").node.cores >= 1
    assert "is there already" in heald("detect", "here", status=2).stderr
    heald("detect", "here", "-o", str(tmp_path / "new" / "x.toml"))
    assert catalog.find(tmp_path / "new" / "x.toml").name == "here"


def test_detect_wants_to_know_which_of_several(tmp_path: Path) -> None:
    for name in ("sbatch", "bsub"):
        (tmp_path / "bin" / name).touch(stat.S_IRWXU)
    result = heald("detect", "here", "-o", "-", status=2)
    assert "there are slurm and lsf here" in result.stderr
    assert "cannot run sinfo" in heald("detect", "here", "--scheduler", "slurm", status=1).stderr


SSH = """\
#!/bin/sh
case "$*" in *-fN*) exit 1;; "-O check dark") exit 255;; "-O check"*) exit 0;; esac
while [ $# -gt 1 ]; do shift; done
exec /bin/sh -c "$1"
"""
SINFO = """\
#!/bin/sh
case "$*" in
*--exact*) echo "batch*|4|8|2|4|8000|gpu:a100:2|fast";;
*) echo "batch*|up|4|1:00:00|1-4";;
esac
"""


def test_detect_behind_a_login_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, text in ((tmp_path / "ssh", SSH), (tmp_path / "there" / "sinfo", SINFO)):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(stat.S_IRWXU)
    monkeypatch.setenv("HEALD_SSH", str(tmp_path / "ssh"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bash_profile").write_text("PATH=$HOME/there WORK=/scratch/me; export WORK")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert "there is no scheduler on me@there" in heald("detect", "far", "--login", "me@there", status=1).stderr
    (tmp_path / "there" / "sbatch").touch(stat.S_IRWXU)
    heald("detect", "far", "--login", "me@there")
    found = catalog.find("far")
    assert (found.login, found.scheduler, found.queue, found.scratch) == ("me@there", "slurm", "batch", "$WORK")
    assert found.node.gpus == 2
    assert "no connection to dark" in heald("detect", "far", "--login", "dark", status=1).stderr


def test_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("COLUMNS", "200")
    result = heald("check", "local", "--nodes", "2")
    titles, *rows = result.stdout.splitlines()
    assert titles.split()[:3] == ["HOST", "CORES", "NUMA"]
    assert len([row for row in rows if "tcp://" in row]) == 2
    assert "the first result came" in result.stdout
    assert "2 of 2 agents are here" in result.stderr
    assert len(json.loads(heald("check", "local", "--json").stdout)["nodes"]) == 1


def test_check_gives_the_job_back_when_it_is_terminated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "slow.toml").write_text('setup = ["echo $$ > job; exec sleep 100"]')
    command = [sys.executable, "-m", "heald", "site", "check", "./slow.toml"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "0 of 1 agents are here" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 130
    job = int((tmp_path / "job").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(job, 0)


def test_check_behind_a_login_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heald.flow.session.send_own_modules", lambda: None)  # which is for the whole process
    result = heald("check", "local", "--login", "me@there", status=2)
    assert "heald site detect NAME --login me@there" in result.stderr


def test_check_of_a_site_that_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "mine.toml").write_text('setup = ["echo no such module >&2; exit 3"]')
    result = heald("check", "./mine.toml", status=1)
    assert "no such module" in result.stderr
    assert "Traceback" not in result.stderr

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from heald.core.errors import ConfigurationError, SubmitFailed
from heald.site.command import ask
from heald.site.profile import NodeShape, Site
from heald.site.scheduler import Job, JobState
from heald.site.ssh import Ssh

Wait = Callable[[Callable[[], object]], None]
# Stands in for ssh: the last word is for the shell of the host before it; "dark" does not answer.
FAKE = """\
#!/bin/sh
while [ $# -gt 2 ]; do shift; done
[ "$1" != dark ] || exit 255
HOST_OF_TEST=$1 exec sh -c "$(printf '%s' "$2" | sed 's/^stty -onlcr; //')"
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Wait) -> Iterator[Ssh]:
    """Three hosts, of which the last does not answer."""
    program = tmp_path / "ssh"
    program.write_text(FAKE)
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("HEALD_SSH", str(program))
    ssh = Ssh.of(Site("lab", scheduler="ssh", hosts=("a", "b", "dark"), node=NodeShape(cores=8)), ask)
    yield ssh
    ids = list(ssh._jobs)
    ssh.cancel(ids)
    wait_until(lambda: all(status.state.final for status in ssh.status(ids).values()))


def test_a_job_gets_free_hosts_and_runs_on_the_first(ssh: Ssh, tmp_path: Path, wait_until: Wait) -> None:
    busy = ssh.submit(Job(name="a", command=("sleep", "100")))
    out = tmp_path / "out"
    id = ssh.submit(Job(name="b", command=("sh", "-c", "echo $HOST_OF_TEST $HEALD_HOSTS"), nodes=2, stdout=str(out)))
    wait_until(lambda: ssh.status([id])[id].state is JobState.done)
    assert ssh.status([busy])[busy].hosts == ("a",)
    assert ssh.status([id])[id].hosts == ("b", "dark")
    assert out.read_text() == "b b dark\n"


def test_too_few_hosts(ssh: Ssh, wait_until: Wait) -> None:
    first = ssh.submit(Job(name="a", command=("sleep", "100"), nodes=2))
    with pytest.raises(SubmitFailed, match="the job b needs 2 hosts: 1 of 3 are free"):
        ssh.submit(Job(name="b", command=("true",), nodes=2))
    ssh.cancel([first])
    wait_until(lambda: ssh.status([first])[first].state.final)
    again = ssh.submit(Job(name="b", command=("sleep", "100"), nodes=2))
    assert ssh.status([again])[again].hosts == ("a", "b")


def test_a_host_that_does_not_answer(ssh: Ssh, wait_until: Wait) -> None:
    ssh.submit(Job(name="a", command=("sleep", "100"), nodes=2))
    id = ssh.submit(Job(name="b", command=("true",), walltime=timedelta(minutes=1)))
    wait_until(lambda: ssh.status([id])[id].state is JobState.node_failed)
    assert "ssh" in ssh.status([id])[id].reason


def test_facts(ssh: Ssh) -> None:
    (kind,) = ssh.nodes()
    assert (kind.count, kind.shape.cores) == (3, 8)


def test_a_site_without_hosts() -> None:
    with pytest.raises(ConfigurationError, match="the site lab names no hosts"):
        Ssh.of(Site("lab", scheduler="ssh"), ask)

"""The fake PBS keeps what was recorded of a real one: ids, states, texts, codes, and what it does to jobs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.testbed.host import HEAD
from tests.testbed.keeper import wait_for
from tests.testbed.pbs import FakePbs

pytestmark = pytest.mark.live


def record(pbs: FakePbs, job: str) -> dict[str, str]:
    """What qstat says of a job, its lines put together again."""
    text = pbs.command("qstat", "-x", "-f", job).replace("\n\t", "")
    return dict(re.findall(r"    (\S+) = (.*)", text))


def test_a_job_runs_on_its_nodes_and_delivers_at_its_end(pbs: FakePbs, tmp_path: Path) -> None:
    pbs.turn(end_delay=0.5)
    script = "#PBS -N hello\npwd; hostname; cat $PBS_NODEFILE; ssh n2 hostname; echo $PBS_O_WORKDIR >&2"
    job = pbs.submit(script, "-l", "select=2:ncpus=2:mpiprocs=2,place=scatter", folder=tmp_path)
    assert re.fullmatch(r"\d+\.n0", job)
    pbs.await_state(job, "E")
    number, output = job.partition(".")[0], tmp_path / f"hello.o{job.partition('.')[0]}"
    assert not output.exists()
    pbs.await_state(job, "F")
    assert output.read_text().split() == [str(Path.home()), "n1", "n1", "n1", "n2", "n2", "n2"]
    assert output.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / f"hello.e{number}").read_text() == f"{tmp_path}\n"
    told = record(pbs, job)
    assert told["exec_host"] == "n1/0*2+n2/0*2"
    assert told["exec_vnode"] == "(n1:ncpus=2)+(n2:ncpus=2)"
    assert (told["Exit_status"], told["substate"]) == ("0", "92")
    assert told["comment"].endswith("and finished")


@pytest.mark.parametrize(
    ("words", "text", "status"),
    [
        ("qsub -q nowhere -- /bin/true", "qsub: Unknown queue", 170),
        ("qsub -l walltime=soon -- /bin/true", "qsub: Illegal attribute or resource value Resource_List.walltime", 166),
        ("qsub -l foo=1 -- /bin/true", "qsub: Unknown resource Resource_List.foo", 187),
        ("qsub nothing.sh", "qsub: script file:: No such file or directory", 1),
        ("qsub -l select=1 -l nodes=1 -- /bin/true", "qsub: Cannot be used with select or place: nodes", 6),
        ("qsub -N -bad- -- /bin/true", "", 0),
        ("qstat 999", "qstat: Unknown Job Id 999.n0", 153),
        ("qdel 999.n0", "qdel: Unknown Job Id 999.n0", 153),
    ],
)
def test_what_is_wrong_is_said_as_recorded(pbs: FakePbs, tmp_path: Path, words: str, text: str, status: int) -> None:
    done = pbs.hosts.run(HEAD, words.split(), folder=tmp_path, status=status)
    assert done.stderr.strip() == text
    if done.stdout:
        pbs.await_state(done.stdout.strip(), "F")


def test_a_finished_job_is_history(pbs: FakePbs, tmp_path: Path) -> None:
    job = pbs.submit("exit 7", folder=tmp_path)
    pbs.await_state(job, "F")
    assert record(pbs, job)["Exit_status"] == "7"
    told = pbs.hosts.run(HEAD, ["qstat", job], status=35).stderr
    assert told == f"qstat: {job} Job has finished, use -x or -H to obtain historical job information\n"
    assert pbs.hosts.run(HEAD, ["qdel", job], status=35).stderr == f"qdel: Job has finished {job}\n"
    pbs.turn(history=False)
    assert "not configured to maintain job history" in pbs.hosts.run(HEAD, ["qstat", "-x", job], status=1).stderr


def test_jobs_wait_for_room(pbs: FakePbs, tmp_path: Path) -> None:
    first = pbs.submit("sleep 60", "-l", "select=4:ncpus=4", folder=tmp_path)
    second = pbs.submit("true", folder=tmp_path)
    never = pbs.submit("true", "-l", "select=8:ncpus=4", folder=tmp_path)
    pbs.await_state(first, "R")
    wait_for(lambda: "comment" in record(pbs, second), "a comment")
    assert record(pbs, second)["comment"] == "Not Running: Insufficient amount of resource: ncpus (R: 1 A: 0 T: 16)"
    assert record(pbs, never)["comment"] == "Can Never Run: Insufficient amount of resource: ncpus (R: 32 A: 0 T: 16)"
    assert "state = job-busy" in pbs.command("pbsnodes", "-a")
    pbs.command("qdel", first, never)
    pbs.await_state(second, "F")
    assert record(pbs, first)["substate"] == "91"
    assert "Exit_status" not in record(pbs, never)


def test_json_is_what_text_is(pbs: FakePbs, tmp_path: Path) -> None:
    job = pbs.submit("true", folder=tmp_path)
    pbs.await_state(job, "F")
    told = json.loads(pbs.command("qstat", "-x", "-f", "-F", "json", job))["Jobs"][job]
    assert told["Resource_List"]["select"] == record(pbs, job)["Resource_List.select"] == "1:ncpus=1"
    nodes = json.loads(pbs.command("pbsnodes", "-a", "-F", "json"))["nodes"]
    assert {name: node["state"] for name, node in nodes.items()} == dict.fromkeys(pbs.hosts.nodes, "free")


def test_an_array_has_elements(pbs: FakePbs, tmp_path: Path) -> None:
    array = pbs.submit("#PBS -N arr\necho $PBS_ARRAY_INDEX", "-J", "1-5:2", folder=tmp_path)
    assert array.endswith("[].n0")
    pbs.await_state(array, "F")
    number = array.partition("[")[0]
    for index in (1, 3, 5):
        assert pbs.state(f"{number}[{index}].n0") == "F"
        assert (tmp_path / f"arr.o{number}.{index}").read_text() == f"{index}\n"


def test_a_job_over_its_walltime_gets_sigterm_then_sigkill(pbs: FakePbs, tmp_path: Path) -> None:
    pbs.turn(walltime_slack=0.1, kill_delay=0.3)
    script = "trap 'echo asked' TERM; while :; do sleep 0.05; done"
    job = pbs.submit(script, "-l", "walltime=1", folder=tmp_path)
    pbs.await_state(job, "F")
    told = record(pbs, job)
    assert told["Exit_status"] == "-29"
    assert told["comment"].endswith("exceeded resource walltime")
    assert "asked" in next(tmp_path.glob("STDIN.o*")).read_text()


def test_a_job_waits_for_another(pbs: FakePbs, tmp_path: Path) -> None:
    first = pbs.submit("sleep 0.5; exit 1", folder=tmp_path)
    good = pbs.submit("true", "-W", f"depend=afterok:{first}", folder=tmp_path)
    other = pbs.submit("true", "-W", f"depend=afterany:{first}", folder=tmp_path)
    assert pbs.state(good) == "H"
    pbs.await_state(other, "F")
    pbs.await_state(good, "F")
    assert "Exit_status" not in record(pbs, good)
    assert record(pbs, other)["Exit_status"] == "0"


def test_a_job_goes_back_into_the_queue(pbs: FakePbs, tmp_path: Path) -> None:
    job = pbs.submit("sleep 60", folder=tmp_path)
    pbs.await_state(job, "R")
    pbs.command("qhold", job)
    pbs.command("qrerun", job)
    assert pbs.state(job) == "H"
    pbs.command("qrls", job)
    pbs.await_state(job, "R")
    assert record(pbs, job)["run_count"] == "2"
    pbs.command("qdel", job)


def test_a_silent_server(pbs: FakePbs, tmp_path: Path) -> None:
    job = pbs.submit("sleep 0.3", folder=tmp_path)
    pbs.stop_server()
    failed = pbs.hosts.run(HEAD, ["qstat"], status=162)
    assert failed.stderr == "Connection refused\nqstat: cannot connect to server n0 (errno=15010)\n"
    pbs.start_server()
    pbs.await_state(job, "F")
    pbs.turn(answer_delay=0.5)
    assert not pbs.command("qstat")


def test_a_lost_job(pbs: FakePbs, tmp_path: Path) -> None:
    job = pbs.submit("sleep 60", folder=tmp_path)
    pbs.await_state(job, "R")
    pbs.lose(job)
    assert "Unknown Job Id" in pbs.hosts.run(HEAD, ["qstat", "-x", job], status=153).stderr


@pytest.mark.parametrize(("rerunable", "state"), [("y", "R"), ("n", "F")])
def test_a_node_without_its_daemon(pbs: FakePbs, tmp_path: Path, rerunable: str, state: str) -> None:
    pbs.turn(requeue_delay=0.3)
    job = pbs.submit("sleep 60", "-l", "select=1:ncpus=1", "-r", rerunable, folder=tmp_path)
    pbs.await_state(job, "R")
    node = record(pbs, job)["exec_host"].partition("/")[0]
    pbs.stop_node(node)
    assert "state = down" in pbs.command("pbsnodes", node)
    assert pbs.state(job) == "R"
    wait_for(lambda: node not in record(pbs, job).get("exec_host", "") or pbs.state(job) == "F", "the job elsewhere")
    pbs.await_state(job, state)
    assert [process.name() for process in pbs.hosts.strangers(node)] == ["bash", "sleep"], "the old one runs on"
    if state == "R":
        pbs.command("qdel", job)
    else:
        assert record(pbs, job)["Exit_status"] == "-20"


def test_nobody_tells_of_a_node_without_power(pbs: FakePbs, tmp_path: Path) -> None:
    job = pbs.submit("sleep 60", "-l", "select=1:ncpus=1:host=n3", folder=tmp_path)
    pbs.await_state(job, "R")
    pbs.hosts.crash("n3")
    assert "state = free" in pbs.command("pbsnodes", "n3")
    pbs.hosts.boot("n3")
    assert pbs.state(job) == "R"
    pbs.command("qdel", job)


def test_pbsdsh_starts_one_a_chunk(pbs: FakePbs, tmp_path: Path) -> None:
    job = pbs.submit("pbsdsh -- hostname", "-l", "select=3:ncpus=1,place=scatter", folder=tmp_path)
    pbs.await_state(job, "F")
    output = next(tmp_path.glob("STDIN.o*")).read_text()
    assert sorted(output.split()) == ["n1", "n2", "n3"]

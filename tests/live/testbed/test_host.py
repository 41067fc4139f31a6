"""Hosts are as separate as machines, fail as machines do, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.testbed import keeper
from tests.testbed.host import HEAD, Hosts, python
from tests.testbed.keeper import TestbedFailed, wait_for

pytestmark = pytest.mark.live


def reaches(hosts: Hosts, host: str) -> bool:
    return hosts.run(HEAD, ["ping", "-c1", "-W1", host], status=None).returncode == 0


def test_hosts_have_names_processes_and_disks_of_their_own(hosts: Hosts) -> None:
    for host in ("n1", "n2"):
        hosts.run(host, ["touch", f"/run/local/{host}", f"/dev/shm/{host}"])
        assert hosts.run(HEAD, ["ssh", host, "hostname; ls /run/local /dev/shm"]).stdout.split().count(host) == 3
        hosts.run(host, ["rm", f"/run/local/{host}", f"/dev/shm/{host}"])
    assert len(hosts.run("n1", ["ps", "-e"]).stdout.splitlines()) < 6
    assert Path("/proc/net/dev").read_text() != hosts.run("n1", ["cat", "/proc/net/dev"]).stdout
    assert os.uname().nodename != "n1"


def test_a_program_runs_on_a_host_with_this_interpreter(hosts: Hosts, tmp_path: Path) -> None:
    source = "import heald, os, socket, sys\nprint(socket.gethostname(), os.getcwd(), os.environ['MY'], *sys.argv[1:])"
    done = hosts.run(HEAD, python(tmp_path, source, 1, "a b"), folder=tmp_path, environment={"MY": "yes"})
    assert done.stdout == f"n0 {tmp_path} yes 1 a b\n"


def test_a_failing_command_tells_what_it_printed(hosts: Hosts) -> None:
    with pytest.raises(TestbedFailed, match=r"(?s)n2: .*status 3.*broken"):
        hosts.run("n2", ["sh", "-c", "echo broken >&2; exit 3"])
    with pytest.raises(TestbedFailed, match="no host 'n9': there are n0, n1"):
        hosts.run("n9", ["true"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_program_itself(hosts: Hosts, number: signal.Signals) -> None:
    with hosts.start("n1", ["sleep", "60"]) as process:
        inner = process.inner
        process.send_signal(number)
        assert process.wait(10) == -number
    assert not psutil.pid_exists(inner)


def test_a_cut_host_is_silent_until_healed(hosts: Hosts) -> None:
    assert reaches(hosts, "n3")
    hosts.network.cut("n3")
    assert not reaches(hosts, "n3")
    assert reaches(hosts, "n4")
    hosts.network.heal("n3")
    assert reaches(hosts, "n3")


def test_a_host_that_hears_nobody(hosts: Hosts) -> None:
    hosts.network.oneway("n3")
    assert not reaches(hosts, "n3")
    hosts.network.heal("n3")
    assert reaches(hosts, "n3")


def test_a_long_and_a_lossy_cable(hosts: Hosts) -> None:
    hosts.network.delay("n3", 25, jitter=1)
    answer = hosts.run(HEAD, ["ping", "-c2", "-i0.1", "n3"]).stdout
    fastest = float(answer.rpartition("= ")[2].split("/")[0])
    assert 45 < fastest < 80
    assert len(hosts.run(HEAD, ["ssh", "n3", "head -c 3000000 /dev/zero | tr '\\0' x"]).stdout) == 3_000_000
    hosts.network.heal("n3")
    hosts.network.loss("n3", 60)
    answer = hosts.run(HEAD, ["ping", "-c30", "-i0.01", "-W0.2", "n3"], status=None).stdout
    assert " 0% packet loss" not in answer


def test_a_slow_cable(hosts: Hosts) -> None:
    seconds = "import subprocess, time\nstart = time.monotonic()\n"
    seconds += "subprocess.run(['ssh', 'n3', 'cat >/dev/null'], input=bytes(100_000), check=True)\n"
    seconds += "print(time.monotonic() - start)"
    hosts.network.slow("n3", "1mbit")
    assert float(hosts.run(HEAD, [sys.executable, "-c", seconds]).stdout) > 0.6


def test_a_crash_ends_every_process_and_a_boot_starts_anew(hosts: Hosts) -> None:
    hosts.run("n2", ["sh", "-c", "sleep 60 >/dev/null 2>&1 &"])
    left = hosts.strangers("n2")
    assert [process.name() for process in left] == ["sleep"]
    hosts.crash("n2")
    assert not hosts.is_up("n2")
    assert not left[0].is_running()
    with pytest.raises(TestbedFailed, match="n2 is switched off"):
        hosts.run("n2", ["true"])
    hosts.boot("n2")
    assert hosts.run(HEAD, ["ssh", "n2", "hostname"]).stdout == "n2\n"


def test_a_process_left_on_a_host_is_told(hosts: Hosts) -> None:
    hosts.run("n2", ["sh", "-c", "sleep 60 >/dev/null 2>&1 &"])
    with pytest.raises(AssertionError, match=r"left on the hosts:\n  n2: \d+: sleep 60"):
        hosts.assert_quiet(patience=0.1)
    hosts.assert_quiet()


def test_a_killed_starter_takes_its_testbed_along(tmp_path: Path) -> None:
    name = f"test-{os.getpid()}-killed"
    source = f"from tests.testbed.host import Hosts\nHosts.up({name!r}, 1)\nprint('up', flush=True)\ninput()"
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        assert starter.stdout.readline() == "up\n"
        hosts = Hosts.find(name)
        inits = [psutil.Process(hosts.pid(host)) for host in hosts.names]
        starter.kill()
    wait_for(lambda: not any(init.is_running() for init in inits), "the end of the testbed")
    with pytest.raises(TestbedFailed, match="no testbed"):
        Hosts.find(name)


def test_two_testbeds_by_command_line() -> None:
    def testbed(*words: str) -> str:
        return subprocess.check_output([sys.executable, "-m", "tests.testbed", *words], text=True)

    names = [f"test-{os.getpid()}-{letter}" for letter in "ab"]
    try:
        for name in names:
            testbed("hosts", "up", "--nodes", "1", "--name", name)
        assert set(names) <= set(keeper.names())
        for name in names:
            testbed("exec", "--name", name, "n0", "touch", f"/run/local/{name}")
            assert testbed("exec", "--name", name, "n0", "ls", "/run/local") == f"{name}\n"
        testbed("crash", "n1", "--name", names[0])
        assert {f"{names[0]} n0 (n1 is off)", f"{names[1]} n0 n1"} <= set(testbed("status").splitlines())
    finally:
        for name in names:
            testbed("down", "--name", name)
    assert not set(names) & set(keeper.names())

"""A real warden and its agents, in processes of their own; the head is the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from heald.run.cluster import warden
from heald.run.cluster.dialogue import Ended, Retire, Stands
from heald.run.cluster.pilot import program
from heald.site import node
from heald.site.profile import Site

from .conftest import Head

Begin = Callable[..., tuple[Head, subprocess.Popen[str]]]


@pytest.fixture
def begin(open_head: Callable[..., Head], start: Callable[..., subprocess.Popen[str]]) -> Begin:
    """Starts a warden as a pilot does; its agent has come unless the head refuses it."""

    def make(*, refusal: str = "", **given: object) -> tuple[Head, subprocess.Popen[str]]:
        head = open_head(**given)
        head.refusal = refusal
        process = start(program("warden", "", head.file, sys.path))
        head.until(lambda: head.hellos)
        if not refusal:
            head.next(Stands)
        return head, process

    return make


def end(head: Head, process: subprocess.Popen[str]) -> tuple[int, str]:
    """Serve until the warden has ended: its status, and what it printed."""
    head.until(lambda: process.poll() is not None)
    return process.returncode, process.communicate()[0]


def test_a_dead_agent_is_replaced(begin: Begin) -> None:
    head, process = begin()
    (first,) = head.hellos
    os.kill(first.pid, signal.SIGSEGV)
    head.next(Stands)
    _, second = head.hellos
    assert second.place == first.place == process.pid
    assert second.pid != first.pid
    head.tell(Retire("that is all"))
    status, said = end(head, process)
    assert status == 0
    assert said.splitlines() == ["the agent was killed by SIGSEGV (signal 11)", "that is all"]


def test_five_deaths_within_a_minute_are_enough(begin: Begin) -> None:
    head, process = begin()
    for number in range(1, 6):
        assert process.poll() is None
        os.kill(head.hellos[-1].pid, signal.SIGKILL)
        if number < 5:
            head.next(Stands)
    status, said = end(head, process)
    assert status == 1
    assert said.endswith("5 agents died within a minute: no more are started\n")
    assert len(head.hellos) == 5


def test_a_head_that_does_not_want_it_is_not_asked_again(begin: Begin) -> None:
    head, process = begin(refusal="it was given up")
    assert end(head, process) == (0, "Refused: it was given up\n")
    assert len(head.hellos) == 1


def test_a_head_that_nobody_can_reach_is_told_of_with_its_addresses(
    open_head: Callable[..., Head], start: Callable[..., subprocess.Popen[str]]
) -> None:
    head = open_head()
    head.close()
    process = start(program("warden", "", head.file, sys.path))
    said = process.communicate(timeout=40)[0]
    assert (process.returncode, said.split(": ")[:2]) == (75, ["Unreachable", "nobody answers"])
    assert head.given.endpoints[0] in said


def test_behind_a_login_node_the_line_to_the_head_may_be_cut_for_now(
    open_head: Callable[..., Head], start: Callable[..., subprocess.Popen[str]]
) -> None:
    gone = open_head(site=Site("mine", login="there"))
    gone.close()
    process = start(program("warden", "", gone.file, sys.path))
    assert process.stdout is not None
    assert "nobody answers" in process.stdout.readline()
    head = open_head(site=Site("mine", login="there"))  # at another port: the file says which
    head.next(Stands)
    head.tell(Retire("that is all"))
    assert end(head, process) == (0, "that is all\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_end_is_the_end_of_all(begin: Begin, number: int, wait_until: Callable[..., None]) -> None:
    head, process = begin()
    head.open(1)
    head.run(1, os.getpid)
    pids = [head.hellos[0].pid, head.value(head.next(Ended).outcome)]
    process.send_signal(number)
    end(head, process)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_tasks_run_where_they_should_or_at_home(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for directory in ("/", "/no/such/folder"):
        head, process = begin(directory=directory)
        head.open(1)
        head.run(1, os.getcwd)
        assert head.value(head.next(Ended).outcome) == (directory if directory == "/" else str(tmp_path))
        head.run(1, os.getenv, "HEALD_ALLOCATION")
        assert head.value(head.next(Ended).outcome) == "a1"
        head.tell(Retire("that is all"))
        end(head, process)


def test_settings_say_what_of_the_node_is_used(open_head: Callable[..., Head]) -> None:
    found = node.machine()
    assert warden._machine(open_head().given).cpus == tuple(core[0] for core in found.cores)
    assert len(warden._machine(open_head(workers=1).given).cpus) == 1
    given = open_head(workers=1000, gpus=("7",), memory=10**9).given
    machine = warden._machine(given)
    assert (len(machine.cpus), machine.gpus, machine.memory) == (1000, ("7",), 10**9)


def test_how_long_the_node_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.delenv(node.ENDS, raising=False)
    assert warden.left() == float("inf")
    monkeypatch.setenv(node.ENDS, "100")
    assert warden.left() < 0


@pytest.mark.parametrize(
    ("ahead", "launch", "expected"),
    [(0, 30, 3570), (7200, 30, 3600), (-7200, 30, 3600), (0, 0, 3600)],
)
def test_a_clock_that_is_wrong_is_not_asked(ahead: float, launch: float, expected: float) -> None:
    """The pilot saw an hour left, so many seconds ago."""
    ends = time.time() + ahead + 3600 - launch
    assert warden.left({node.ENDS: f"{ends:.0f}", node.LEFT: "3600"}) == pytest.approx(expected, abs=2)

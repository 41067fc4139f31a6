"""Tasks that outlast the nodes they run on, or their walltime: told of it, they save their state and go on later."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from tests.testbed.host import python
from tests.testbed.slurm import Slurm

import heald
from heald.core.attempt import Attempt, attempts
from heald.flow.run import Run

pytestmark = pytest.mark.live


def simulate(folder: str, times: int) -> int:
    """Steps until it was told so many times that its time ends; their number, over all attempts."""
    state = Path(folder, "state")
    told, steps = json.loads(state.read_text()) if state.exists() else (0, 0)
    if told == times:
        return int(steps)
    attempt = heald.current_attempt()
    while not attempt.ending:
        steps += 1
    state.write_text(json.dumps([told + 1, steps]))
    raise heald.Requeue(f"saved step {steps}")


SCRIPT = f"""
import json, sys
from pathlib import Path
import heald

{inspect.getsource(simulate)}

site, folder = sys.argv[1:]
executor = heald.ClusterExecutor(site, workers=1, walltime="1m", notice="54s", silence=2)
with heald.Session([executor], memo=None, journal="run.heald") as session:
    print(json.dumps(session.submit(simulate, folder, 2).result()))
"""


def shell(folder: str, action: str) -> str:
    """Begins once, and waits for the notice; the second attempt ends well."""
    return f"[ -e {folder}/begun ] && exit; touch {folder}/begun; {action}; sleep 100 & wait"


def block(walltime: float = 5.0, **options: Any) -> heald.ClusterExecutor:
    """Nodes are this machine, for so many seconds at a time."""
    return heald.ClusterExecutor("local", workers=1, walltime=walltime, silence=1, **options)


def run(folder: Path, executor: heald.Executor, function: Any, *args: Any) -> tuple[Any, list[Attempt]]:
    """The value of one task, and its attempts."""
    with heald.Session([executor], memo=None, journal=folder / "run.heald", progress=False) as session:
        value = session.submit(function, *args).result(timeout=60)
    return value, attempts(Run(folder / "run.heald").events(), 1)


class TestTheEndOfAnAllocation:
    def test_a_function_goes_on_in_the_next(self, tmp_path: Path) -> None:
        value, tries = run(tmp_path, block(notice=3), simulate, str(tmp_path), 2)
        assert value > 0
        assert [one.failure is not None and one.failure.kind for one in tries] == ["requeued", "requeued", False]
        assert [one.worker.partition(".")[0] for one in tries] == ["a1", "a2", "a3"]

    def test_a_task_has_a_notice_of_its_own(self, tmp_path: Path) -> None:
        _, tries = run(tmp_path, block(), heald.task(notice=3)(simulate), str(tmp_path), 1)
        assert [one.worker.partition(".")[0] for one in tries] == ["a1", "a2"]

    @pytest.mark.parametrize("action", ["trap 'exit 75' USR1", "true"])
    def test_a_command_goes_on_in_the_next(self, tmp_path: Path, action: str) -> None:
        value, tries = run(tmp_path, block(notice=3), heald.command(shell), str(tmp_path), action)
        assert value.returncode == 0
        assert [one.failure is not None and one.failure.kind for one in tries] == ["requeued", False]

    def test_who_is_killed_by_it_is_run_again(self, tmp_path: Path) -> None:
        ignores = heald.command(shell).options(notice=2)
        value, tries = run(tmp_path, block(), ignores, str(tmp_path), "trap '' USR1")
        assert value.returncode == 0
        assert [(one.number, one.failure) for one in tries] == [(2, None)]  # the first was given back as not run

    def test_what_does_not_fit_before_it_is_not_begun(self, tmp_path: Path) -> None:
        nap = heald.command(walltime=3)(lambda: "sleep 2")
        with heald.Session([block()], memo=None, journal=tmp_path / "run.heald", progress=False) as session:
            for future in [session.submit(nap) for _ in range(3)]:
                future.result(timeout=60)
        found = [attempts(Run(tmp_path / "run.heald").events(), task) for task in (1, 2, 3)]
        assert [len(tries) for tries in found] == [1, 1, 1]
        assert [tries[0].worker.partition(".")[0] for tries in found] == ["a1", "a2", "a3"]


class TestTheEndOfTheWalltime:
    @pytest.mark.parametrize("executor", [heald.ProcessExecutor(1), block(60)])
    def test_a_function_goes_on(self, tmp_path: Path, executor: heald.Executor) -> None:
        limited = heald.task(walltime=3, notice=2)(simulate)
        value, tries = run(tmp_path, executor, limited, str(tmp_path), 2)
        assert value > 0
        assert [one.number for one in tries] == [1, 2, 3]

    def test_a_command_that_ends_of_it_has_failed(self, tmp_path: Path) -> None:
        limited = heald.command(walltime=3, notice=2)(shell)
        with pytest.raises(heald.CommandFailed, match="SIGUSR1"):
            run(tmp_path, heald.ProcessExecutor(1), limited, str(tmp_path), "true")


def test_on_slurm(slurm: Slurm, tmp_path: Path) -> None:
    site = tmp_path / "testbed.toml"
    site.write_text('name = "testbed"\nscheduler = "slurm"\n')
    done = slurm.hosts.run("n0", python(tmp_path, SCRIPT, site, tmp_path), folder=tmp_path, timeout=90)
    assert json.loads(done.stdout) > 0
    tries = attempts(Run(tmp_path / "run.heald").events(), 1)
    assert [one.worker.partition(".")[0] for one in tries] == ["a1", "a2", "a3"]

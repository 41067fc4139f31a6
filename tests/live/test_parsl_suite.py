"""Parsl's own test-suite, from its package, run with `parsl` served by heald.

The tests come from the package index and are run where they lie; Parsl itself is not installed. Those in LEFT_OUT are
not black boxes over what heald serves, and the reason says why; all others must pass, and their number is known.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("typeguard")

VERSION = "2026.10.26"
SUITE = Path(__file__).parent / "parsl_suite"
# Parsl's suite is run over a configuration, or over those that its tests bring ("local"). How many pass of each.
EXPECTED = {"configs/local_threads.py": 130, "configs/htex_local.py": 130, "local": 212}

# Reason -> tests, by the beginning of their names.
LEFT_OUT = {
    "not run by Parsl's own `make test` either: they need sites, hands or hours": ["integration/", "manual_tests/"],
    "the parts of Parsl below executors: interchange, managers, sockets, keys, radios, serialisers, worker scripts": [
        "test_curvezmq.py",
        "test_execute_task.py",
        "test_htex/mpi/test_mpi_prefix.py",
        "test_htex/mpi/test_mpi_scheduler.py",
        "test_htex/mpi/test_resource_spec.py",
        "test_htex/test_block_manager_selector_unit.py",
        "test_htex/test_command_client_timeout.py",
        "test_htex/test_command_concurrency_regression_1321.py",
        "test_htex/test_htex.py",
        "test_htex/test_interchange_exit_bad_registration.py",
        "test_htex/test_manager_failure.py",
        "test_htex/test_resource_spec_validation.py",
        "test_htex/test_worker_interchange_bad_messages_3262.py",
        "test_htex/test_zmq_binding.py",
        "test_monitoring/test_exit_helper.py",
        "test_monitoring/test_htex_fuzz_zmq.py",
        "test_monitoring/test_radio_",
        "test_serialization/test_3495_deserialize_managerlost.py",
        "test_serialization/test_basic.py",
        "test_serialization/test_htex_code_cache.py",
        "test_serialization/test_proxystore",
        "test_shutdown/test_kill_monitoring.py",
        "unit/test_launchers.py",
    ],
    "blocks that come and go: on one machine there is one, its workers start with the first task": [
        "test_htex/test_connected_blocks.py",
        "test_htex/test_disconnected_blocks",
        "test_htex/test_drain.py",
        "test_htex/test_manager_selector_by_block.py",
        "test_htex/test_multiple_disconnected_blocks.py",
        "test_monitoring/test_basic.py::test_row_counts_base[htex",
        "test_providers/test_local_provider.py",
        "test_scaling/",
    ],
    "job scripts: heald writes its own": [
        "test_providers/test_pbspro_template.py",
        "test_providers/test_slurm_template.py",
    ],
    "the number of workers guessed for scaling; here it is the number that really runs": [
        "test_htex/test_maxworker_computation_executor.py",
    ],
    "a `launch_cmd` of a worker: heald starts its own": ["test_htex/test_missing_worker.py"],
    "other executors, providers, launchers and tools: NotServed says what to use": [
        "test_flux.py",
        "test_htex/mpi/test_bad_mpi_config.py::test_bad_launcher",
        "test_monitoring/test_basic.py::test_row_counts_tv",
        "test_monitoring/test_basic.py::test_row_counts_wq",
        "test_monitoring/test_viz_colouring.py",
        "test_providers/test_kubernetes_provider.py",
        "test_radical/",
        "unit/test_globus_compute_executor.py",
    ],
    "the wording of docstrings, signatures and deprecations": [
        "test_htex/mpi/test_mpiex.py::test_docstring",
        "test_htex/mpi/test_mpiex.py::test_init",
        "test_providers/test_submiterror_deprecation.py",
        "unit/test_address.py::test_tcp_url[::ffff",
    ],
    "log lines of each task, logs of workers and interchange: heald writes none, they cost Parsl most of its speed": [
        "sites/test_dynamic_executor.py",
        "test_error_handling/test_wrap_with_logs.py",
        "test_htex/test_log_config.py",
        "test_htex/test_priority_queue.py",
        "test_logging/test_dfk_",
        "test_logging/test_oneshot.py",
        "test_monitoring/test_log_config.py",
        "test_python_apps/test_basic.py::test_log",
        "test_python_apps/test_dependencies.py::test_diamond_dag",
    ],
    "faults that heald has not: equal calls at the same time run twice": [
        "test_checkpointing/test_periodic.py",
    ],
    "faults that heald has not: an argument that has no hash fails the task": [
        "test_python_apps/test_memoize_bad_id_for_memo.py::test_python_unmemoizable",
    ],
    "faults that heald has not: futures are left unresolved at the end of `with`": [
        "test_python_apps/test_context_manager.py::test_exit_wait_exception",
    ],
    "typeguard's own exception; here it is BadStdStreamFile": [
        "test_bash_apps/test_stdout.py::test_bad_stdout_specs[list_not_tuple]",
        "test_bash_apps/test_stdout.py::test_bad_stdout_specs[null_mode]",
        "test_bash_apps/test_stdout.py::test_bad_stdout_specs[not_a_string]",
        "test_bash_apps/test_stdout.py::test_bad_stdout_specs[3tuple]",
        "test_bash_apps/test_stdout.py::test_bad_stdout_specs[1tuple]",
    ],
    "they write to a folder of the root directory, which root may": [
        "test_bash_apps/test_stdout.py::test_bad_stderr_file",
        "test_bash_apps/test_stdout.py::test_bad_stdout_file",
    ],
    "they need the Internet, or a package of their own (pandas)": [
        "test_regression/test_226.py",
        "test_staging/test_staging_https.py",
        "test_staging/test_staging_globus.py",
    ],
    "40 seconds of sleep": ["test_monitoring/test_db_locks.py"],
}


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `parsl/tests`, and nothing else of Parsl."""
    folder = tmp_path_factory.mktemp("parsl-suite")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    ran = subprocess.run([*pip, f"parsl=={VERSION}"], capture_output=True, text=True, timeout=120)
    if ran.returncode:
        pytest.skip(f"the package index has no parsl for us: {ran.stderr[-300:]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith("parsl/tests/")])
    (folder / "parsl" / "__init__.py").touch()  # so that pytest names the modules parsl.tests.…
    mocks = folder / "parsl" / "tests" / "test_htex" / "mpi" / "mocks"  # which the package lacks
    mocks.mkdir()
    (mocks / "pbs_nodefile").write_text("".join(f"node{number}\n" for number in range(1, 9)))
    return folder


@pytest.mark.timeout(400)
@pytest.mark.parametrize("config", EXPECTED)
def test_suite(suite: Path, tmp_path: Path, config: str) -> None:
    tests = suite / "parsl" / "tests"
    left_out = "\n".join(test for names in LEFT_OUT.values() for test in names)
    environment = {
        **os.environ,
        "PYTHONPATH": str(SUITE),
        "PARSL_SUITE": str(suite),
        "PARSL_LEFT_OUT": left_out,
    }
    line = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "plugin"]
    line += ["--noconftest", "-c", os.devnull, "--rootdir", str(suite), "--timeout", "60", "-m", "not cleannet"]
    line += ["--config", config if config == "local" else str(tests / config), str(tests)]
    ran = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=390)
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", ran.stdout.splitlines()[-1])}
    assert not ran.returncode, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert counts["passed"] == EXPECTED[config], ran.stdout[-500:]


def test_what_is_left_out_is_there(suite: Path) -> None:
    """A name that fits nothing any more would hide that Parsl's suite has changed."""
    files = [path.relative_to(suite / "parsl" / "tests").as_posix() for path in suite.glob("parsl/tests/**/*.py")]
    for name in (name.partition("::")[0] for names in LEFT_OUT.values() for name in names):
        assert any(file.startswith(name) for file in files), name

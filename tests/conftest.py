"""What every test gets: folders of its own, and a check that it leaves nothing running.

In CI a live test may not skip: what is skipped there is never tried anywhere.
"""

from __future__ import annotations

import contextlib
import copyreg
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import TracebackType

import psutil
import pytest

_LIVE = Path(__file__).parent / "live"
# Every process that the tests start inherits this variable, also those that outlive their parents.
_MARK = "HEALD_TEST_RUN"
_PATIENCE = 5.0  # seconds that what a test started may take to end


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Waits for a fact of another process, which cannot wake us; a fact of this process has an Event or a Future."""

    def wait(predicate: Callable[[], object], timeout: float = 10.0) -> None:
        deadline = time.monotonic() + timeout
        while not predicate():
            assert time.monotonic() < deadline, f"not within {timeout} s: {predicate}"
            time.sleep(0.01)

    return wait


@pytest.fixture(autouse=True)
def exceptions_pickle_as_usual() -> None:
    """Dask has tblib pickle all exceptions of the process, which loses what some of them hold: not in other tests."""
    for kind in [one for one in copyreg.dispatch_table if issubclass(one, BaseException | TracebackType)]:
        del copyreg.dispatch_table[kind]


@pytest.fixture(autouse=True)
def modules_travel_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site without a shared file system changes that for the whole process: not for other tests."""
    monkeypatch.setattr("heald.run.function._own_sent", False)


@pytest.fixture(scope="session", autouse=True)
def no_orphans() -> Iterator[None]:
    """At the end of all tests, no process that any of them started runs on with somebody else as its parent."""
    mark = uuid.uuid4().hex
    os.environ[_MARK] = mark
    yield
    del os.environ[_MARK]
    below = set(psutil.Process().children(recursive=True))  # what the default session keeps until the interpreter ends
    _end([process for process in psutil.process_iter() if process not in below and _marked(process, mark)], "the tests")


@pytest.fixture(autouse=True)
def no_leftovers(no_orphans: None) -> Iterator[None]:
    """After a test, no process and no thread that would hold up the interpreter's end is left."""
    this = psutil.Process()
    processes, threads = set(this.children(recursive=True)), set(threading.enumerate())
    yield
    _end([process for process in this.children(recursive=True) if process not in processes], "the test")
    left = [thread for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    deadline = time.monotonic() + _PATIENCE
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in left), f"the test left threads behind: {left}"


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """State, cache, settings and sockets of the test are its own, and the user's stay as they are."""
    home = tmp_path_factory.mktemp("xdg")
    for name in ("STATE_HOME", "CACHE_HOME", "CONFIG_HOME", "RUNTIME_DIR"):
        folder = home / name.partition("_")[0].lower()
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(f"XDG_{name}", str(folder))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turns the skip of a live test into its failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") and item.get_closest_marker("live"):
        report.outcome, report.longrepr = "failed", f"a live test may not skip in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole live module that skips, as `pytest.importorskip` at its top makes it."""
    report = yield
    if report.skipped and os.environ.get("CI") and collector.path.is_relative_to(_LIVE):
        report.outcome, report.longrepr = "failed", f"live tests may not skip in CI: {report.longrepr}"
    return report


def _end(processes: list[psutil.Process], culprit: str) -> None:
    """Gives processes time to end by themselves, then kills what is left and fails."""
    ours = [process for process in processes if not _serves_multiprocessing(process)]
    _, left = psutil.wait_procs(ours, timeout=_PATIENCE)
    lines = [_describe(process) for process in left]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_PATIENCE)
    assert not left, f"{culprit} left processes behind:\n" + "\n".join(lines)


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get(_MARK) == mark)
    except psutil.Error:  # it has ended, or it is another user's
        return False


def _serves_multiprocessing(process: psutil.Process) -> bool:
    """The standard library keeps its tracker of shared memory until the interpreter ends."""
    try:
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"  {process.pid} ({process.status()}): {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"  {process.pid}"

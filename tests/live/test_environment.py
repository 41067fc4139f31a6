"""Tasks in software of their own: real virtual environments, uv, containers; a `module` and a `conda` of ours."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import heald
from heald.core.environment import Environment

pytestmark = pytest.mark.live

Wait = Callable[..., None]
Survivors = Callable[[], list[psutil.Process]]

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing installed."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def python(venv: Path) -> str:
    """The interpreter of that."""
    return str(venv / "bin" / "python")


@pytest.fixture(scope="session")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter of another minor version, 3.8 or later; where there is none, this one, which says that it is."""
    installed = Path("~/.pyenv/versions").expanduser()
    for minor in (8, 9, 10, 12, 13, 14):
        found = next(map(str, installed.glob(f"3.{minor}.*/bin/python3")), shutil.which(f"python3.{minor}"))
        if found is not None and sys.version_info[1] != minor:
            said = subprocess.run([found, "-c", "print(1)"], capture_output=True, text=True)
            if said.stdout == "1\n":  # shims of version managers need not have it
                return found
    folder = tmp_path_factory.mktemp("pretence")
    (folder / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 99, 0, 'final', 0)\n")
    (folder / "python").write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    (folder / "python").chmod(0o755)
    return str(folder / "python")


# What stands in this module would be looked for by name, where pytest is not installed.
_source: dict[str, Any] = {"__name__": "__main__"}
exec(
    """
def where():
    import sys
    return sys.prefix, "heald" in sys.modules and hasattr(sys.modules["heald"], "__version__")

def threads():
    import heddle_frame
    return heddle_frame.threads
""",
    _source,
)
where: Callable[[], tuple[str, bool]] = _source["where"]
threads: Callable[[], int] = _source["threads"]


# -- functions in another Python ---------------------------------------------------------------------------------------


def test_a_function_runs_in_the_python_that_it_asks_for(session: heald.Session, venv: Path, python: str) -> None:
    there = heald.task(python=python)(where)
    assert there.submit().result(30) == (str(venv), False)
    assert session.submit(where).result(30) == (sys.prefix, True), "the worker is as it was"
    assert there() == (sys.prefix, True), "and so is a plain call"


def test_arguments_values_and_futures_travel(session: heald.Session, python: str) -> None:
    def combine(x: Any, *rest: Any, **named: Any) -> Any:
        return [x, rest, named, lambda: x]

    there = heald.task(python=python)(combine)
    first = there.submit({"a": {1, 2}})
    x, rest, named, function = there.submit(first, [first], late=first).result(30)
    assert x[0] == {"a": {1, 2}}
    assert rest[0][0][0] == named["late"][0] == {"a": {1, 2}}
    assert function()[0] == {"a": {1, 2}}


def test_large_values_go_through_shared_memory_on_both_sides(session: heald.Session) -> None:
    @heald.task(setup=["true"])  # in a process of its own, which has numpy
    def double(x: Any) -> Any:
        x *= 2  # they are its own
        return {"twice": x}

    x = np.arange(1e6)
    result = double.submit(double.submit(x)).exception(30)
    assert isinstance(result, TypeError), "a dict is no array"
    assert np.array_equal(double.submit(x).result(30)["twice"], 2 * x)
    assert x[1] == 1


def test_the_process_is_kept_and_put_right_after_each_call(session: heald.Session, python: str, tmp_path: Path) -> None:
    @heald.task(python=python, variables={"MINE": "1"}, directory=str(tmp_path / "here"))
    def change(x: int) -> Any:
        import os
        import subprocess

        subprocess.Popen(["sleep", "991"])
        os.environ["LEFT"] = "behind"
        seen = os.getcwd(), os.environ["MINE"], os.environ.get("BEFORE"), os.getpid()
        os.environ["BEFORE"] = "x"
        os.chdir("/")
        return seen

    with heald.Session([heald.ProcessExecutor(1)], memo=None):
        seen = [change.submit(x).result(30) for x in range(3)]
    assert {place[:3] for place in seen} == {(str(tmp_path / "here"), "1", None)}
    assert len({pid for *_, pid in seen}) == 1


def test_what_it_prints_is_the_tasks(session: heald.Session, python: str, tmp_path: Path) -> None:
    def talk(x: int) -> None:
        import os
        import sys

        print("out", x)
        os.system(f"echo err {x} >&2")
        print("last", file=sys.stderr)

    there = heald.task(python=python)(talk)
    for x in range(2):
        future = there.submit(x)
        future.result(30)
        assert future.stdout is not None
        assert future.stderr is not None
        assert future.stdout.read_text() == f"out {x}\n"
        assert future.stderr.read_text() == f"err {x}\nlast\n"
    there.options(stdout=str(tmp_path / "mine.txt")).submit(7).result(30)
    assert (tmp_path / "mine.txt").read_text() == "out 7\n"


def test_files_arrive_as_paths_and_are_delivered(session: heald.Session, python: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("weft")

    @heald.task(python=python)
    def shout(file: Any, outputs: Any = ()) -> str:
        outputs[0].write_text(file.read_text().upper())
        return type(file).__name__

    out = heald.File(tmp_path / "deep" / "out.txt")
    future = shout.submit(heald.File(tmp_path / "in.txt"), outputs=[out])
    assert future.result(30) == "PosixPath"
    assert out.read_text() == "WEFT"


def test_an_exception_says_where_it_was(session: heald.Session, python: str) -> None:
    class Own(Exception):
        pass

    def wrong(kind: str) -> None:
        if kind == "own":
            raise Own("of the script")
        if kind == "exit":
            raise SystemExit(4)
        __import__("heald_has_no_such_module")

    there = heald.task(python=python)(wrong)
    with pytest.raises(Own, match="of the script") as caught:
        there.submit("own").result(30)
    assert any(python in note and "in wrong" in note for note in caught.value.__notes__)
    with pytest.raises(ModuleNotFoundError) as missing:
        there.submit("module").result(30)
    assert any(f"{python} (Python {HERE}" in note and "looked for it" in note for note in missing.value.__notes__)
    with pytest.raises(heald.TaskError, match=r"sys\.exit\(4\)"):
        there.submit("exit").result(30)


def test_a_crash_costs_its_task_and_no_other(session: heald.Session, python: str) -> None:
    def crash(x: int) -> int:
        import os

        if x == 3:
            os.abort()
        return x

    there = heald.task(python=python)(crash)
    futures = [there.submit(x) for x in range(8)]
    with pytest.raises(heald.WorkerLost, match="SIGABRT"):
        futures[3].result(30)
    assert [one.result(30) for one in futures if one is not futures[3]] == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize("deaf", [False, True])
def test_walltime_and_cancel_reach_it(
    deaf: bool, session: heald.Session, python: str, tmp_path: Path, wait_until: Wait, survivors: Survivors
) -> None:
    def busy(folder: str, deaf: bool) -> None:
        import pathlib
        import signal
        import subprocess
        import time

        if deaf:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "992"])
        pathlib.Path(folder, "began").touch()
        try:
            time.sleep(1000)
        finally:
            pathlib.Path(folder, "tidied").touch()

    there = heald.task(python=python)(busy)
    heald.task(python=python)(where).submit().result(30)  # what it takes to prepare counts too
    with pytest.raises(heald.WalltimeExceeded):
        there.options(walltime=2).submit(str(tmp_path), deaf).result(30)
    assert (tmp_path / "tidied").exists() is not deaf
    (tmp_path / "began").unlink()
    running = there.submit(str(tmp_path), deaf)
    wait_until((tmp_path / "began").exists)
    running.cancel()
    wait_until(lambda: not [one for one in survivors() if one.info["name"] == "sleep"])
    assert heald.task(python=python)(where).submit().result(30)[0]


def test_nothing_is_left_when_the_driver_is_killed(
    python: str, tmp_path: Path, wait_until: Wait, survivors: Survivors
) -> None:
    code = (
        "import heald, time\n"
        f"@heald.task(python={python!r})\n"
        "def wait():\n"
        "    open('began', 'w').close()\n"
        "    time.sleep(1000)\n"
        "wait.submit().result()\n"
    )
    code = code.replace("    time.sleep", "    import time; time.sleep")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    wait_until((tmp_path / "began").exists, 30)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    wait_until(lambda: not survivors())


# -- other versions of Python ------------------------------------------------------------------------------------------

TASKS = """
import sys
import heald

@heald.task
def version(x):
    return x, tuple(sys.version_info[:2])
"""


def test_code_does_not_travel_between_versions_and_names_do(
    session: heald.Session, other_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_value = heald.task(python=other_python)(lambda: None)
    with pytest.raises(heald.UsageError, match=f"as code from Python {HERE} to .*Python 3") as caught:
        by_value.submit().result(30)
    assert "put it into a module" in caught.value.hint
    with pytest.raises(heald.ResultError, match="in the value cannot travel"):
        heald.task(python=other_python)(eval).submit("lambda: 1").result(30)
    script = tmp_path / "script.py"
    (tmp_path / "tasks_of_mine.py").write_text(TASKS)
    script.write_text(
        "import heald, tasks_of_mine\n"
        f"print(tasks_of_mine.version.options(python={other_python!r}, memo=False).submit('x').result())\n"
    )
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60).stdout
    version = subprocess.run(
        [other_python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
    ).stdout.strip()
    assert said == f"('x', {version})\n", "a module of tasks is imported there, though heald is not"


def test_a_python_that_does_not_start_says_so(session: heald.Session, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'the licence has expired' >&2; exit 7\n")
    fake.chmod(0o755)
    future = heald.task(python=str(fake))(where).submit()
    with pytest.raises(heald.StagingError, match="exited with status 7 before it said anything") as caught:
        future.result(30)
    assert any("the licence has expired" in note for note in caught.value.__notes__)


# -- setup, modules, conda ---------------------------------------------------------------------------------------------

MODULE = """
module() {
    test "$1" = load || return 1
    shift
    for one in "$@"; do
        case $one in
            gcc/12) export CC=gcc-12 PATH="$MODULESHOME/bin:$PATH";;
            *) echo "ERROR: Unable to locate a modulefile for '$one'" >&2; return 1;;
        esac
    done
}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site with one module, gcc/12."""
    init = tmp_path / "modules" / "init" / "sh"
    init.parent.mkdir(parents=True)
    init.write_text(MODULE)
    compiler = tmp_path / "modules" / "bin" / "gcc-12"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\necho gcc 12\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("MODULESHOME", str(tmp_path / "modules"))


@heald.command
def compile_it() -> str:
    return "gcc-12; echo $CC $LEVEL"


@pytest.mark.usefixtures("module")
def test_modules_and_setup_are_there_for_commands_and_functions() -> None:
    def compiler() -> Any:
        import os
        import shutil
        import sys

        return os.environ["CC"], shutil.which("gcc-12") is not None, sys.executable

    around: dict[str, Any] = {"modules": ["gcc/12"], "setup": ["LEVEL=3", "export LEVEL"]}
    with heald.Session([heald.ProcessExecutor(2)], memo=None):
        assert compile_it.options(**around).submit().result(30).text == "gcc 12\ngcc-12 3\n"
        assert heald.task(**around)(compiler).submit().result(30) == ("gcc-12", True, sys.executable)
    with heald.Session([heald.ProcessExecutor(2, environment=around)], memo=None) as session:
        assert compile_it.submit().result(30).text == "gcc 12\ngcc-12 3\n"
        assert session.submit(compiler).result(30)[0] == "gcc-12"


@pytest.mark.usefixtures("module")
def test_a_module_that_there_is_not_fails_with_the_words_of_the_tool(tmp_path: Path) -> None:
    with (
        heald.Session([heald.ProcessExecutor(2)], journal=tmp_path / "run.heald", memo=None),
        pytest.raises(heald.StagingError, match="Unable to locate a modulefile for 'gcc/99'") as caught,
    ):
        compile_it.options(modules=["gcc/99"]).submit().result(30)
    script = caught.value.hint.rpartition("bash ")[2]
    assert subprocess.run(["bash", script], capture_output=True).returncode == 1, "as the hint says, by hand"


def test_it_is_prepared_once_however_many_workers_want_it(tmp_path: Path) -> None:
    @heald.task(setup=[f"echo x >> {tmp_path}/prepared", "sleep 0.2", "export NUMBER=$RANDOM"])
    def number(x: int) -> str:
        import os

        return os.environ["NUMBER"]

    with heald.Session([heald.ProcessExecutor(8)], memo=None):
        assert len({one.result(60) for one in number.map(range(64))}) == 1
    assert (tmp_path / "prepared").read_text() == "x\n"


def test_who_waited_shares_the_failure_and_who_comes_later_tries_again(tmp_path: Path) -> None:
    line = f"echo x >> {tmp_path}/tried; sleep 1; test -e {tmp_path}/repaired || (echo the disk is full >&2; exit 3)"

    @heald.command(setup=[line], retries=heald.Retry(limit=1, delay=0.5))
    def work() -> str:
        return "true"

    with heald.Session([heald.ProcessExecutor(4)], memo=None):
        futures = [work.submit() for _ in range(4)]
        with pytest.raises(heald.StagingError, match="the disk is full"):
            futures[0].result(60)
        assert all(one.exception(60) for one in futures)
        assert len((tmp_path / "tried").read_text().split()) < 8, "eight attempts"
        (tmp_path / "repaired").touch()
        assert work.submit().result(60).returncode == 0


def test_walltime_ends_a_preparation_too(session: heald.Session, survivors: Survivors) -> None:
    begun = time.monotonic()
    with pytest.raises(heald.WalltimeExceeded):
        compile_it.options(setup=["sleep 993"], walltime=0.5).submit().result(30)
    assert time.monotonic() - begun < 20
    assert not [one for one in survivors() if one.info["name"] == "sleep"]


def test_conda_is_asked_for_its_own_activation(venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conda = tmp_path / "conda"
    conda.write_text(
        f'#!/bin/sh\n[ "$3" = md ] || {{ echo "EnvironmentNameNotFound: $3" >&2; exit 1; }}\n'
        f"echo 'export CONDA_PREFIX={venv}; export PATH={venv}/bin:$PATH; false'\n"
    )
    conda.chmod(0o755)
    monkeypatch.setenv("CONDA_EXE", str(conda))
    with heald.Session([heald.ProcessExecutor(1)], memo=None):
        assert heald.task(conda="md")(where).submit().result(30)[0] == str(venv)
        with pytest.raises(heald.StagingError, match="EnvironmentNameNotFound: qm"):
            heald.task(conda="qm")(where).submit().result(30)


def test_a_cluster_has_it_on_its_nodes(python: str, venv: Path, tmp_path: Path) -> None:
    executor = heald.ClusterExecutor("local", workers=2, environment={"python": python, "setup": ["export X=1"]})
    assert executor.environment == Environment(setup=("export X=1",), python=python)
    with heald.Session([executor], journal=tmp_path / "run.heald", memo=None) as session:
        assert session.submit(where).result(60)[0] == str(venv)
        assert heald.command(lambda: "echo $X").submit().result(60).text == "1\n"


# -- uv ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with one module."""
    file = tmp_path_factory.mktemp("wheel") / "heddle_frame-1.0-py3-none-any.whl"
    facts = "heddle_frame-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("heddle_frame.py", "threads = 1200\n")
        package.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: heddle-frame\nVersion: 1.0\n")
        package.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        package.writestr(f"{facts}/RECORD", "")
    return file


def test_uv_makes_what_is_asked_for(session: heald.Session, wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("uv")
    assert heald.task(uv=[str(wheel)])(threads).submit().result(60) == 1200
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"{wheel}\n")
    line = heald.command(uv=requirements)(lambda: "python -c 'import heddle_frame; print(heddle_frame.threads)'")
    assert line.submit().result(60).text == "1200\n"
    with pytest.raises(heald.StagingError, match=r"heddle_frame-2\.0"):
        heald.task(uv=[str(wheel).replace("1.0", "2.0")])(threads).submit().result(60)


# -- containers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is the root of a small system: a shell, a few programs, and Python."""
    root = tmp_path_factory.mktemp("image")
    for name in ("dev", "etc", "home", "proc", "root", "sys", "tmp"):
        (root / name).mkdir()
    for name in ("passwd", "group", "hosts", "resolv.conf"):
        (root / "etc" / name).touch()
    (root / "etc" / "marker").write_text("inside\n")
    programs = {f"/bin/{name}": str(shutil.which(name)) for name in ("sh", "cat", "pwd", "true")}
    programs["/opt/bin/python3"] = f"{sys.base_prefix}/bin/python{HERE}"
    for place, program in programs.items():
        _copy(program, root, place)
    skipped = shutil.ignore_patterns("test", "tests", "*-packages", "__pycache__", "config-*", "idlelib", "ensurepip")
    library = root / "opt" / "lib" / f"python{HERE}"
    shutil.copytree(f"{sys.base_prefix}/lib/python{HERE}", library, ignore=skipped)
    for compiled in library.rglob("*.so"):
        _copy_libraries(str(compiled), root)
    return root


def _copy(source: str, root: Path, place: str) -> None:
    target = root / place.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(os.path.realpath(source), target)
    _copy_libraries(source, root)


def _copy_libraries(file: str, root: Path) -> None:
    said = subprocess.run(["ldd", file], capture_output=True, text=True).stdout
    for library in (word for line in said.splitlines() for word in line.split() if word.startswith("/")):
        target = root / library.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(library), target)


@pytest.fixture(params=["bwrap", "ch"])
def container(request: pytest.FixtureRequest, image: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """That image, in bubblewrap and in charliecloud."""
    if shutil.which({"ch": "ch-run"}.get(request.param, request.param)) is None:
        pytest.skip(f"no {request.param} here (python3 -m tests.testbed.install)")
    monkeypatch.setenv("USER", "root")  # charliecloud wants one
    return f"{request.param}:{image}"


def test_commands_run_in_a_container(container: str, tmp_path: Path) -> None:
    @heald.command(container=container, variables={"X": "a b"}, directory=str(tmp_path))
    def look(words: bool) -> Any:
        return ["cat", "/etc/marker"] if words else "pwd; echo $X $HEALD_TASK > written; exit 0"

    with heald.Session([heald.ProcessExecutor(1)], journal=tmp_path / "run.heald", memo=None):
        assert look.submit(True).result(30).text == "inside\n"
        assert look.submit(False).result(30).text == f"{tmp_path}\n"
    assert (tmp_path / "written").read_text() == "a b 2\n"


def test_functions_run_in_a_container(container: str, tmp_path: Path) -> None:
    @heald.task(container=container, python="/opt/bin/python3", variables={"X": "1"})
    def look(x: Any) -> Any:
        import os
        import pathlib
        import sys

        return x, sys.executable, pathlib.Path("/etc/marker").read_text(), os.environ["X"], os.getcwd()

    with heald.Session([heald.ProcessExecutor(1)], journal=tmp_path / "run.heald", memo=None):
        first = look.options(directory="auto").submit([1])
        x, *there, directory = look.submit(first).result(30)
    assert x[0] == [1]
    assert x[4].endswith("work/1")
    assert there == ["/opt/bin/python3", "inside\n", "1"]
    assert directory == os.getcwd()


def test_a_container_that_does_not_start_says_why(tmp_path: Path) -> None:
    look = heald.command(container=f"bwrap:{tmp_path}/nowhere")(lambda: "true")
    with heald.Session([heald.ProcessExecutor(1)], memo=None):
        with pytest.raises(heald.StagingError, match="nowhere"):
            look.submit().result(30)
        with pytest.raises(heald.StagingError, match="there is no podman here"):
            heald.command(container="podman:no/such")(lambda: "true").submit().result(30)

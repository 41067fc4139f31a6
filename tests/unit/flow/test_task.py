from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import heald
from heald.core.errors import NotPicklable, UsageError
from heald.core.task import COMMAND, FUNCTION, JOIN
from heald.flow.task import Function, command, join, plain, task


@pytest.fixture
def threads() -> Iterator[heald.Session]:
    with heald.Session([heald.ThreadExecutor(workers=2)], memo=None) as session:
        yield session


@pytest.fixture
def process() -> Iterator[heald.Session]:
    with heald.Session([heald.ProcessExecutor(workers=1)], memo=None) as session:
        yield session


@task
def square(x: int) -> int:
    """The square of a number."""
    return x * x


@task(cpus=2, retries=1)
def double(x: float, *, more: float = 0.0) -> float:
    return 2 * x + more


# -- still the function ----------------------------------------------------------------------------------------------


def test_plain_call_is_the_function() -> None:
    assert square(3) == 9
    assert double(2, more=1) == 5


def test_looks_like_the_function() -> None:
    assert (square.__name__, square.__doc__) == ("square", "The square of a number.")
    assert str(inspect.signature(double)) == "(x: 'float', *, more: 'float' = 0.0) -> 'float'"
    assert square.__wrapped__ is square.function  # type: ignore[attr-defined]


def test_three_kinds() -> None:
    kinds = {
        FUNCTION: task(print),
        COMMAND: command(lambda: "ls"),
        JOIN: join(lambda: []),
    }
    assert {kind: one.kind for kind, one in kinds.items()} == {kind: kind for kind in kinds}
    assert [repr(one) for one in (square, command(echo), join(echo))] == [
        "<heald.function square>",
        "<heald.command echo>",
        "<heald.join echo>",
    ]


def echo(word: str) -> list[str]:
    return ["echo", word]


@pytest.mark.parametrize("decorate", [task, command, join])
def test_decorates_with_and_without_options(decorate: Any) -> None:
    assert decorate(echo)("a") == decorate()(echo)("a") == decorate(name="say")(echo)("a") == ["echo", "a"]
    assert decorate(name="say")(echo).name == "say"


def test_options_make_another_and_leave_this_one() -> None:
    other = double.options(cpus=4, name="twice")
    assert (double.settings.resources.cpus, double.name) == (2, "double")
    assert (other.settings.resources.cpus, other.name, other.settings.retry.limit) == (4, "twice", 1)
    assert other(3) == 6


def test_wrong_options_are_refused_when_they_are_written() -> None:
    with pytest.raises(UsageError, match="no option 'cpu'"):
        task(cpu=2)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="cpus=0"):
        square.options(cpus=0)


@pytest.mark.parametrize("decorate", [task, command, join])
def test_only_functions_are_decorated(decorate: Any) -> None:
    with pytest.raises(UsageError, match="3 is no function"):
        decorate(3)

    async def later() -> None:
        pass

    with pytest.raises(UsageError, match=r"later at 0x\w+> is an async function"):
        decorate(later)


# -- methods ---------------------------------------------------------------------------------------------------------


class Model:
    def __init__(self, weight: int) -> None:
        self.weight = weight

    @task(name="apply")
    def scaled(self, x: int) -> int:
        return self.weight * x

    @staticmethod
    @task
    def shifted(x: int) -> int:
        return x + 1

    def __call__(self, x: int) -> int:
        return self.weight + x


def test_methods(process: heald.Session) -> None:
    model = Model(3)
    assert model.scaled(2) == 6
    assert model.scaled.name == "apply"
    assert Model.scaled(model, 2) == 6
    assert model.scaled.submit(2).result() == 6
    assert model.scaled.options(priority=1).submit(3).result() == 9
    assert Model.shifted.submit(1).result() == 2
    assert list(model.scaled.map([1, 2]).results()) == [3, 6]


def test_methods_of_short_lived_objects_are_not_confused(threads: heald.Session) -> None:
    futures = [Model(weight).scaled.submit(1) for weight in range(200)]
    assert [future.result() for future in futures] == list(range(200))


def test_joins_of_short_lived_closures_are_not_confused(threads: heald.Session) -> None:
    def made(number: int) -> Function[[], int]:
        return join(lambda: number)

    assert [future.result() for future in [made(number).submit() for number in range(50)]] == list(range(50))


@pytest.mark.parametrize("session", ["threads", "process"])
def test_objects_and_bound_methods_are_sent_as_they_are_now(session: str, request: pytest.FixtureRequest) -> None:
    current: heald.Session = request.getfixturevalue(session)
    model = Model(1)
    values = []
    for weight in (1, 10):
        model.weight = weight
        values.append([current.submit(model, 1).result(), current.submit(model.__call__, 1).result()])
    assert values == [[2, 2], [11, 11]]


# -- travelling ------------------------------------------------------------------------------------------------------


def test_by_value_when_no_module_holds_it() -> None:
    @task(cpus=2)
    def local(x: int) -> int:
        return x + 1

    copied = cloudpickle.loads(cloudpickle.dumps(local))
    assert copied(1) == 2
    assert (copied.kind, copied.settings) == (FUNCTION, local.settings)


def test_by_name_when_a_module_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("held.py").write_text("import heald\n@heald.task\ndef inc(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import held  # type: ignore[import-not-found]

    try:
        assert len(pickle.dumps(held.inc)) < 200
        assert pickle.loads(pickle.dumps(held.inc)) is held.inc
        shipped = held.inc.shipped(coded=False, travels=True)
        assert pickle.loads(shipped.pickled) is held.inc.function
    finally:
        del sys.modules["held"]


def test_script_and_its_helpers(tmp_path: Path) -> None:
    """Functions of `__main__`, decorated and not, that call each other."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import heald

            FACTOR = 3

            def scaled(x):
                return FACTOR * x

            @heald.task
            def inner(x):
                return scaled(x) + 1

            @heald.task
            def outer(x):
                return inner(x) + inner.function(x)

            if __name__ == "__main__":
                with heald.Session([heald.ProcessExecutor(workers=1)], memo=None):
                    print(outer.submit(2).result())
            """
        )
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert run.stdout == "14\n"


class Notebook:
    """Cells that run one after another in one namespace that no module holds."""

    def __init__(self) -> None:
        self.space: dict[str, Any] = {"__name__": "notebook", "heald": heald}

    def run(self, cell: str) -> Any:
        exec(textwrap.dedent(cell), self.space)
        return self.space.get("result")


NOTEBOOK = """
    FACTOR = 2

    def helper(x):
        return FACTOR * x

    @heald.task
    def direct(x):
        return FACTOR * x

    @heald.task
    def through(x):
        return helper(x)

    @heald.task
    def nested(x):
        return [direct(y) for y in (x,)][0]
"""


def test_function_is_sent_again_when_what_it_reads_is_bound_anew(process: heald.Session) -> None:
    notebook = Notebook()
    notebook.run(NOTEBOOK)
    ask = "result = [one.submit(1).result() for one in (direct, through, nested)]"
    assert notebook.run(ask) == [2, 2, 2]
    assert notebook.run("FACTOR = 3\n" + ask) == [3, 3, 3]
    assert notebook.run("def helper(x):\n    return 100\n" + ask) == [3, 100, 3]


def test_function_is_sent_once_while_nothing_changes() -> None:
    notebook = Notebook()
    notebook.run(NOTEBOOK)
    for name in ("direct", "through", "nested"):
        function = notebook.space[name]
        shipped = function.shipped(coded=False, travels=True)
        assert function.shipped(coded=False, travels=True) is shipped
        notebook.run("unrelated = 1")
        assert function.shipped(coded=False, travels=True) is shipped


def test_closure_whose_variable_comes_later() -> None:
    @task
    def early() -> int:
        return late

    assert early.shipped(coded=False, travels=True).pickled
    late = 3
    assert cloudpickle.loads(early.shipped(coded=False, travels=True).pickled)() == late


def test_works_differ_by_options_and_hooks(threads: heald.Session) -> None:
    def fails() -> None:
        raise ValueError("no")

    asked: list[str] = []
    tried = task(retries=3)(fails)
    first = tried.options(retry_if=lambda failure, attempt: asked.append("first"))
    second = tried.options(retry_if=lambda failure, attempt: asked.append("second"))
    for one in (tried, first, second):
        assert isinstance(one.submit().exception(), ValueError)
    assert asked == ["first", "second"]
    digests = {
        one.shipped(coded=False, travels=True).digest for one in (tried, first, second, tried.options(priority=1))
    }
    assert len(digests) == 4


def test_what_cannot_travel_is_refused_at_once(process: heald.Session) -> None:
    lock = threading.Lock()

    @task
    def locked() -> object:
        return lock

    with pytest.raises(NotPicklable, match="the function locked cannot be pickled") as refused:
        locked.submit()
    assert refused.value.hint
    with pytest.raises(NotPicklable, match="argument 1 of square"):
        square.submit(lock)
    assert process.submit(abs, -1).result() == 1


# -- functions that nobody decorated ---------------------------------------------------------------------------------


def test_a_function_is_wrapped_once_and_an_object_each_time() -> None:
    assert plain(square) is square
    assert plain(echo) is plain(echo)
    assert plain(Model) is plain(Model)
    model = Model(1)
    assert plain(model) is not plain(model)
    assert plain(model).name == "Model"
    assert plain(model.__call__).name == "__call__"
    assert plain(abs).name == "abs"


def test_wrapped_functions_are_let_go() -> None:
    import weakref

    ends = []
    for number in range(3000):
        function = eval(f"lambda: {number}")
        plain(function)
        ends.append(weakref.ref(function))
    del function
    assert sum(end() is not None for end in ends) < 1000


# -- types -----------------------------------------------------------------------------------------------------------

SNIPPET = """
import heald
from pathlib import Path

@heald.task
def square(x: int) -> int:
    return x * x

@heald.task(cpus=2)
def name(x: int) -> str:
    return str(x)

@heald.command
def melt(deck: heald.File, tinit: float, outputs: list[heald.File]) -> str:
    return f"lmp -in {deck}"

@heald.join(priority=1)
def both(x: int) -> list[heald.Future[int]]:
    return [square.submit(x)]

async def wait() -> None:
    reveal_type(await square.submit(3))

reveal_type(square(3))
reveal_type(square.submit(3))
reveal_type(square.submit(3).result())
reveal_type(square.submit(square.submit(3)))
reveal_type(name.submit(3))
reveal_type(square.options(cpus=2).submit(3))
reveal_type(next(square.map(range(3))))
reveal_type(next(square.map(range(3)).results()))
reveal_type(melt.submit(heald.File("in"), 1.0, outputs=[]))
reveal_type(both.submit(3))
reveal_type(square.submit(3)["a"])
with heald.Session() as session:
    reveal_type(session)
    reveal_type(session.submit(pow, 2, 3).done())
"""
REVEALED = """
int
int
Future[int]
int
Future[int]
Future[str]
Future[int]
Future[int]
int
Future[Completed]
Future[Any]
Future[Any]
Session
bool
"""


def test_types_are_those_of_the_function(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    from mypy import api

    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET)
    cache = pytestconfig.rootpath / ".mypy_cache"
    out, _, _ = api.run(["--strict", "--no-error-summary", "--cache-dir", str(cache), str(file)])
    revealed = [line.partition("Revealed type is ")[2].strip('"') for line in out.splitlines()]
    assert all(revealed), out
    short = [text.replace("builtins.", "").replace("heald.", "") for text in revealed]
    for prefix in ("run.future.", "run.command.", "flow.session."):
        short = [text.replace(prefix, "") for text in short]
    assert short == REVEALED.split()

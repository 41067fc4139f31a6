from __future__ import annotations

import functools
import importlib.util
import pickle
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

import heald
from heald.run import function
from heald.run.function import Imported, attribute, folders, importable, imported, look_in

SOURCE = """
import heald

@heald.task
def double(x):
    return 2 * x

class Outer:
    @staticmethod
    def inner():
        return 1
"""

Load = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads a module of this name from its file, as `spec_from_file_location` does; found by name if wished."""
    loaded: list[ModuleType] = []

    def make(name: str, *, found: bool) -> ModuleType:
        file = tmp_path / f"{name}.py"
        file.write_text(SOURCE)
        if found:
            monkeypatch.syspath_prepend(str(tmp_path))
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        loaded.append(module)
        return module

    yield make
    function._is_found.cache_clear()
    for module in loaded:
        if module.__name__ in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.unregister_pickle_by_value(module)


def test_modules_beside_the_script_go_by_value_where_workers_have_others(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("heald_beside", found=True)
    load("mine", found=True)
    assert importable("mine")
    monkeypatch.setattr(function, "_own_sent", False)  # and so again after this test
    sent: list[ModuleType] = []
    monkeypatch.setattr(function, "send_by_value", sent.append)
    function.send_own_modules()
    assert not importable("__main__")
    assert {sys.modules["mine"], sys.modules["heald_beside"]} <= set(sent), "a function of the script may use them"
    assert not importable("mine")
    assert all(map(importable, ("json", "msgspec", "heald.run.function", "sys")))
    assert not {sys.modules["json"], sys.modules["msgspec"], function, sys.modules["__main__"]} & set(sent)


def test_attribute_goes_down() -> None:
    assert attribute("pathlib", "Path.exists") is Path.exists
    with pytest.raises(AttributeError):
        attribute("pathlib", "Nothing")
    with pytest.raises(ModuleNotFoundError):
        attribute("no_such_module", "x")


def test_a_decorated_name_gives_the_function_itself(load: Load) -> None:
    module = load("decorated", found=True)
    assert isinstance(module.double, heald.Function)
    assert imported("decorated", "double") is module.double.function
    assert imported("decorated", "Outer.inner")() == 1


def test_imported_pickles_to_the_function(load: Load) -> None:
    module = load("by_name", found=True)
    data = pickle.dumps(Imported("by_name", "double"))
    assert len(data) < 120
    assert pickle.loads(data) is module.double.function


@pytest.mark.parametrize("name", ["os", "os.path", "sys", "math", "json.decoder", "heald.run.worker", "numpy"])
def test_what_is_installed_is_found(name: str) -> None:
    pytest.importorskip(name)
    assert importable(name)


def test_a_module_on_the_path_is_found(load: Load) -> None:
    load("on_the_path", found=True)
    assert importable("on_the_path")


def test_a_file_loaded_by_its_path_travels_by_value(load: Load) -> None:
    module = load("by_path", found=False)
    assert not importable("by_path")
    pickled = cloudpickle.dumps(module.Outer)
    del sys.modules["by_path"]
    assert pickle.loads(pickled).inner() == 1


def test_another_module_of_the_same_name_is_not_it(load: Load) -> None:
    load("json.tool", found=False)
    assert not importable("json.tool")


def test_one_in_a_package_that_is_not_found(load: Load) -> None:
    load("no_such_package.inner", found=False)
    assert not importable("no_such_package.inner")


SCRIPT = """
model = None

def load(name):
    return {"name": name}

def set_up(name):
    global model, seed
    model, seed = load(name), 7

def use(more):
    return model["name"], seed + more
"""


@pytest.fixture
def script() -> dict[str, Any]:
    """What stands in a script, which no worker can import."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(SCRIPT, names)
    return names


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    monkeypatch.setattr(function, "_left", kept)
    return kept


def test_tasks_see_what_the_initializer_left(script: dict[str, Any], left: dict[str, Any]) -> None:
    function.initialise(cloudpickle.dumps(functools.partial(script["set_up"], "lj")))
    use = function.loaded(cloudpickle.dumps(script["use"]))
    assert use(1) == ("lj", 8)
    assert script["model"] is None


def test_functions_of_other_modules_do_not(script: dict[str, Any], left: dict[str, Any]) -> None:
    function.initialise(cloudpickle.dumps(functools.partial(script["set_up"], "lj")))
    script["__name__"] = "elsewhere"
    with pytest.raises(TypeError):
        function.loaded(cloudpickle.dumps(script["use"]))(1)


@pytest.mark.parametrize("initializer", [len, textwrap.dedent, str])
def test_an_initializer_that_is_imported_leaves_nothing(initializer: Any, left: dict[str, Any]) -> None:
    function.initialise(cloudpickle.dumps(functools.partial(initializer, "")))
    assert left == {}
    assert function.loaded(cloudpickle.dumps(abs)) is abs


def test_folders_are_told_as_others_can_look_in_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/lib", Path("/no/text"), "no-\udcff-text", "own"])
    assert folders() == (str(tmp_path), "/lib", str(tmp_path / "own"))


def test_what_was_told_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/here", "/both", "/lib"])
    look_in(("/new", "/both"))
    assert sys.path == ["/new", "/both", "/here", "/lib"]

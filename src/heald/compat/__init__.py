"""Other tools' names, served by heald: thin layers over its public API.

import heald.compat
heald.compat.install("parsl")     # from here on, `import parsl` is heald's
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from heald import UsageError

__all__ = ["NotServed", "install", "installed"]

_TOOLS = {"parsl": "heald.compat.parsl.name"}


class NotServed(UsageError, NotImplementedError):
    """A name of another tool that heald does not serve; the hint says what to use."""

    code = "not-served"


def install(tool: str) -> None:
    """Serve the names of another tool ("parsl") from here on, in this process and in its workers.

    >>> install("parsl")
    >>> import parsl
    >>> parsl.python_app.__module__
    'heald.compat.parsl.app'

    Raises UsageError for a tool that is not served, and when the tool itself was imported already.
    """
    if tool not in _TOOLS:
        raise UsageError(f"the names of {tool!r} are not served", hint=f"there are {', '.join(_TOOLS)}")
    if installed(tool):
        return
    if tool in sys.modules:
        raise UsageError(f"{tool} itself was imported already", hint=f"call install({tool!r}) before importing it")
    names = import_module(_TOOLS[tool])
    sys.meta_path.insert(0, _Finder(tool, names.MODULES, names.ADVICE))


def installed(tool: str) -> bool:
    """Whether the names of that tool are heald's."""
    return any(isinstance(finder, _Finder) and finder.tool == tool for finder in sys.meta_path)


def served(tool: str, module: str) -> ModuleType:
    """A module of that tool, served by heald: what one in a task's function becomes in a worker."""
    install(tool)
    return import_module(module)


class _Finder(MetaPathFinder, Loader):
    """Finds the modules of a tool, and makes each a view on the modules that serve its names."""

    def __init__(self, tool: str, modules: Mapping[str, Mapping[str, str]], advice: Mapping[str, str]) -> None:
        self.tool = tool
        self.modules = modules
        self.advice = advice

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] != self.tool:
            return None
        if name in self.modules:
            return ModuleSpec(name, self, is_package=True)
        parent = sys.modules.get(name.rpartition(".")[0])
        if parent is not None and parent.__path__:
            return None  # somebody put files of their own under the tool's name
        hint = self.advice.get(name, "it is an inner part of the tool: heald has none like it")
        raise ModuleNotFoundError(f"heald serves no {name}: {hint}", name=name)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _View(spec.name, self)

    def exec_module(self, module: ModuleType) -> None:
        """Names come when they are asked for."""


class _View(ModuleType):
    """A module of the tool; each name is loaded from its home when it is first used."""

    def __init__(self, name: str, finder: _Finder) -> None:
        super().__init__(name, f"{name}, served by heald.")
        self._finder = finder
        self._homes = finder.modules.get(name, {})
        self.__all__ = sorted(self._homes)

    def __getattr__(self, name: str) -> Any:
        home = self._homes.get(name)
        if home is not None:
            value = getattr(import_module(home), name)
        elif name in self._finder.advice:
            value = _stand_in(self._finder.tool, name, self._finder.advice[name])
        elif f"{self.__name__}.{name}" in self._finder.modules:
            value = import_module(f"{self.__name__}.{name}")
        else:
            raise AttributeError(f"heald serves no {self.__name__}.{name}")
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return self.__all__

    def __reduce__(self) -> tuple[Any, ...]:
        return served, (self._finder.tool, self.__name__)


def _stand_in(tool: str, name: str, advice: str) -> type:
    """A class that can be imported and named, and tells what to use instead when somebody uses it."""

    def refuse(cls: type, *args: object, **kwargs: object) -> Any:
        raise NotServed(f"heald does not serve {tool}'s {name}", hint=advice)

    return type(name, (), {"__new__": refuse, "__doc__": f"Not served: {advice}."})

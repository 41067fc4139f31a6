"""Functions that travel: how a worker finds one by its name, and what one that came by value finds around it."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import pickle
import sys
from collections.abc import Collection
from types import ModuleType
from typing import Any

from heald.data.payload import send_by_value

# The global variables that this worker's initializer left, when it came by value.
_left: dict[str, Any] = {}
_own_sent = False  # some workers are on machines that have other modules


def folders() -> tuple[str, ...]:
    """Where this process finds modules, as processes elsewhere can be told."""
    found = (os.path.abspath(one) for one in sys.path if isinstance(one, str))  # Python takes no notice of others
    return tuple(one for one in found if one.encode(errors="ignore").decode() == one)


def look_in(folders: Collection[str]) -> None:
    """Find modules there first, in this order, and then where this process did so far."""
    sys.path[:] = [*folders, *(one for one in sys.path if one not in folders)]


def importable(module: str) -> bool:
    """Whether a worker, which has the same `sys.path`, finds a loaded module by its name.

    What stands in one that it would not find (a file that was loaded by its path, say) travels by value from now on.

    >>> importable("os.path"), importable("__main__")
    (True, False)
    """
    if _own_sent:
        for own in filter(_is_own, list(sys.modules.values())):  # it may use others of them
            send_by_value(own)
    if module == "__main__" or (_own_sent and _is_own(sys.modules[module])):
        return False
    return _is_found(module)


@functools.cache
def _is_found(module: str) -> bool:
    spec, path = None, None
    for name in itertools.accumulate(module.split("."), "{}.{}".format):
        spec = next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, path))), None)
        path = spec.submodule_search_locations if spec else None
        if path is None:  # nothing, or no package: importing it makes what seems to be in it (os.path)
            break
    file = getattr(sys.modules[module], "__file__", None)
    if spec is None or (spec.name == module and spec.has_location and spec.origin != file):
        send_by_value(sys.modules[module])
        return False
    return True


def send_own_modules() -> None:
    """From now on there are workers on machines without the modules beside the script: so these travel by value."""
    global _own_sent
    _own_sent = True


def _is_own(module: ModuleType) -> bool:
    """It is one of the user's, rather than installed as Python and its packages are."""
    file = getattr(module, "__file__", None) or ""
    name = module.__name__.partition(".")[0]
    return file.endswith(".py") and name not in ("heald", "__main__") and not file.startswith(_installed())


@functools.cache
def _installed() -> tuple[str, ...]:
    import site

    folders = sys.prefix, sys.base_prefix, sys.exec_prefix, site.getusersitepackages()
    return tuple(f"{folder}/" for folder in folders)


def attribute(module: str, qualname: str) -> Any:
    """What stands under that name.

    >>> attribute("os.path", "join").__name__
    'join'
    """
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def imported(module: str, qualname: str) -> Any:
    """The function under that name; of a decorated one, the function itself."""
    found = attribute(module, qualname)
    return found.__heald_code__() if hasattr(found, "__heald_code__") else found


class Imported:
    """Pickles to the function that stands under a name where it is unpickled."""

    def __init__(self, module: str, qualname: str) -> None:
        self.module = module
        self.qualname = qualname

    def __reduce__(self) -> tuple[Any, ...]:
        return imported, (self.module, self.qualname)


def initialise(pickled: bytes) -> None:
    """Call a worker's initializer.

    A function that came by value has global variables of its own; those of the initializer are what functions of its
    module expect to find, as they would if the module were here.
    """
    call = pickle.loads(pickled)
    call()
    names = getattr(getattr(call, "func", call), "__globals__", {})
    if not _is_module(names):
        _left.update((name, value) for name, value in names.items() if name == "__name__" or not name.startswith("__"))


def loaded(pickled: bytes) -> Any:
    """The function in it, which sees the global variables that the initializer of its module left."""
    function = pickle.loads(pickled)
    names = getattr(function, "__globals__", {})
    if _left and names.get("__name__") == _left["__name__"] and not _is_module(names):
        names.update(_left)
    return function


def _is_module(names: dict[str, Any]) -> bool:
    """Whether these are the variables of a module that is really here."""
    return names is getattr(sys.modules.get(names.get("__name__", "")), "__dict__", names)

"""Functions that travel by name: how a worker finds the function behind a decorated name."""

from __future__ import annotations

import functools
import importlib
import itertools
import sys
from typing import Any

from heald.data.payload import send_by_value


@functools.cache
def importable(module: str) -> bool:
    """Whether a worker, which has the same `sys.path`, finds a loaded module by its name.

    What stands in one that it would not find (a file that was loaded by its path, say) travels by value from now on.

    >>> importable("os.path"), importable("__main__")
    (True, False)
    """
    if module == "__main__":
        return False
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

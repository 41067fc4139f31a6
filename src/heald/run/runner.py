"""Calls functions in another Python than heald's own: `python runner.py [FOLDER...]`, kept warm by a worker.

Any Python from 3.8 on serves, with nothing installed: this file and a copy of cloudpickle stand in one folder. What
travels is what a worker gets, as it was pickled; names of heald in it are given a meaning here. `interpreter` is the
other side. FOLDERs are where the user's own modules may be.

A message is a length (8 bytes, little-endian), a pickle, and the buffers whose lengths stand in the pickle. Requests
come on standard input, replies go to standard output; what calls print goes to the files that requests name.
"""

from __future__ import annotations

import importlib
import io
import os
import pathlib
import pickle
import resource
import signal
import sys
import traceback
from types import ModuleType
from typing import Any, BinaryIO

_NAME = "{} (Python {}.{}.{})".format(sys.executable, *sys.version_info[:3])
_calling = False
_values: Any = ()  # for the gaps of the pickle that is being read
_paths: dict[str, str] = {}  # of the Files in it, by URL


class _Stopped(BaseException):
    """Raised in a call that is to end."""


# -- what names of heald mean here -------------------------------------------------------------------------------------


def _fill(index: int, path: Any = ()) -> Any:
    value = _values[index]
    for item in path:
        value = value[item]
    return value


def _load(data: bytes, buffers: Any, values: Any) -> Any:
    global _values
    outer, _values = _values, values
    try:
        return _Unpickler(data, buffers).load()
    finally:
        _values = outer


def _attribute(module: str, qualname: str) -> Any:
    found = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _imported(module: str, qualname: str) -> Any:
    found = _attribute(module, qualname)
    return found.__heald_code__() if hasattr(found, "__heald_code__") else found


def _file(url: str, digest: str) -> pathlib.Path:
    return pathlib.Path(_paths.get(url, url))


class _Nothing:
    """Stands for what only heald has a use for."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


_MEANT: dict[tuple[str, str], Any] = {
    ("heald.data.payload", "fill"): _fill,
    ("heald.data.payload", "load"): _load,
    ("heald.data.file", "restore"): _file,
    ("heald.run.function", "attribute"): _attribute,
    ("heald.run.function", "imported"): _imported,
    ("heald.flow.task", "Function"): lambda function, kind, settings: function,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, buffers: Any) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _MEANT:
            return _MEANT[module, name]
        if module.partition(".")[0] == "heald" and isinstance(sys.modules.get("heald"), _Heald):
            return _Nothing
        return super().find_class(module, name)


class _Heald(ModuleType):
    """Stands for heald in modules of tasks, where it is not installed: decorated functions stay as they are."""

    def __getattr__(self, name: str) -> Any:
        if name in ("task", "command", "join"):
            return lambda function=None, **options: function if function is not None else lambda given: given
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


def _stand_in() -> None:
    try:
        importlib.import_module("heald.flow.task")
    except Exception:  # it is not here, or lacks something, or is for a later Python
        for name in [one for one in sys.modules if one.partition(".")[0] == "heald"]:
            del sys.modules[name]
        sys.modules["heald"] = _Heald("heald")


# -- one call ----------------------------------------------------------------------------------------------------------


def _opened(tree: Any, buffers: Any) -> Any:
    """The value of a tree of pickles: each with how many of the buffers are its own, and what fills its gaps."""
    data, count, inputs = tree
    own = [next(buffers) for _ in range(count)]
    return _load(data, own, [_opened(one, buffers) for one in inputs])


def _call(functions: dict[bytes, Any], told: dict[str, Any], buffers: Any) -> Any:
    global _calling
    _paths.clear()
    _paths.update(told["paths"])
    os.chdir(told["directory"])
    sys.argv[:] = told["argv"]
    os.environ.update(told["variables"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, told["cores"])
    _calling = True
    digest = told["digest"]
    if digest not in functions:
        functions[digest] = _Unpickler(told["function"], ()).load()
    args, kwargs = _opened(told["arguments"], iter(buffers))
    return functions[digest](*args, **kwargs)


def _dumped(value: Any) -> tuple[bytes, list[Any]]:
    buffers: list[Any] = []
    try:
        data = pickle.dumps(value, 5, buffer_callback=buffers.append)
        if b"__main__" not in data:
            return data, [buffer.raw() for buffer in buffers]
    except Exception:  # a lambda, for one
        pass
    import cloudpickle

    buffers.clear()
    return cloudpickle.dumps(value, 5, buffer_callback=buffers.append), [buffer.raw() for buffer in buffers]


def _failure(raised: BaseException) -> dict[str, Any]:
    """What the worker is told of an exception: the fields of a Failure, and the exception itself where it travels."""
    if isinstance(raised, _Stopped):
        return {"failure": {"kind": "cancelled", "message": "stopped"}, "exception": b""}
    if isinstance(raised, SystemExit):
        hint = "return a value or raise an exception: a task shares its process with others"
        code = raised.code if isinstance(raised.code, int) else 1
        told: dict[str, Any] = {
            "kind": "user",
            "message": f"it called sys.exit({raised.code!r})",
            "hint": hint,
            "exit": code,
        }
        return {"failure": told, "exception": b""}
    trace = raised.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    told = {
        "kind": "out-of-memory" if isinstance(raised, MemoryError) else "user",
        "message": traceback.format_exception_only(type(raised), raised)[-1].strip()[:500],
        "traceback": "".join(traceback.format_exception(type(raised), raised, trace)),
        "hint": f"{_NAME}, of the task's environment, is who looked for it" if isinstance(raised, ImportError) else "",
    }
    try:
        raised.__notes__ = [*getattr(raised, "__notes__", ()), f"in {_NAME}:\n{told['traceback'].rstrip()}"]
        exception, _ = _dumped(raised)
        pickle.loads(exception)  # one whose constructor wants other arguments fails only here
    except Exception:
        exception = b""
    return {"failure": told, "exception": exception}


def _answer(functions: dict[bytes, Any], told: dict[str, Any], buffers: Any) -> tuple[dict[str, Any], list[Any]]:
    global _calling
    try:
        value = _call(functions, told, buffers)
        _calling = False
        data, views = _dumped(value)
        return {"data": data}, views
    except BaseException as raised:
        return _failure(raised), []
    finally:
        _calling = False


# -- the process -------------------------------------------------------------------------------------------------------


def read(stream: BinaryIO) -> tuple[Any, list[Any]] | None:
    """The next message and its buffers; None at the end."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    told = pickle.loads(stream.read(int.from_bytes(head, "little")))
    buffers = [bytearray(size) for size in told["buffers"]]
    for buffer in buffers:
        stream.readinto(buffer)  # type: ignore[attr-defined]
    return told, buffers


def write(stream: BinaryIO, told: dict[str, Any], views: Any) -> None:
    """Send a message and its buffers."""
    data = pickle.dumps(dict(told, buffers=[view.nbytes for view in views]), 4)
    stream.write(len(data).to_bytes(8, "little") + data)
    for view in views:
        stream.write(view)
    stream.flush()


def _print_to(paths: Any) -> None:
    for descriptor, path in zip((1, 2), paths):  # noqa: B905  (`strict` is not in 3.8)
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)


def _text(descriptor: int) -> Any:
    return open(descriptor, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")


def _on_stop(number: int, frame: Any) -> None:
    if _calling:
        raise _Stopped


def _end_children() -> None:
    """Kill and reap what the call left; the worker adopts what has no parent any more, and does the same."""
    pids = []
    try:
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as children:
                pids += children.read().split()
    except OSError:
        return
    for pid in map(int, pids):
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except OSError:
            pass


def main(folders: list[str]) -> None:
    """Serve until standard input ends."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    stdout, stderr = sys.stdout, sys.stderr = _text(1), _text(2)
    for number in (signal.SIGINT, signal.SIGUSR1):  # the second is how commands are told that their time ends
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _on_stop)
    sys.path.extend(one for one in folders if one not in sys.path)
    write(replies, {"version": tuple(sys.version_info[:3]), "name": _NAME}, ())
    _stand_in()
    functions: dict[bytes, Any] = {}
    home, around = os.getcwd(), dict(os.environ)
    while True:
        request = read(requests)
        if request is None:
            break
        told, buffers = request
        _print_to(told["files"])
        before = resource.getrusage(resource.RUSAGE_SELF)
        answer, views = _answer(functions, told, buffers)
        after = resource.getrusage(resource.RUSAGE_SELF)
        answer["cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        answer["memory"] = after.ru_maxrss * 1024
        sys.stdout, sys.stderr = stdout, stderr
        for stream in (stdout, stderr):
            stream.flush()
        _end_children()
        os.chdir(home)
        os.environ.clear()
        os.environ.update(around)
        write(replies, answer, views)
        del told, buffers, request, answer, views


if __name__ == "__main__":
    main(sys.argv[1:])

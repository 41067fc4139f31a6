"""Moves one file between a URL and a local path: whole or not at all, checked, and with an end to every wait.

fsspec speaks the protocols. What it leaves open is closed here: pages that are no data, files cut short, peers gone
silent, sessions left behind, errors that say nothing. Knows nothing of Files, tasks or shared folders.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from heald.core.errors import StagingError
from heald.data import checksum
from heald.data import url as urls

T = TypeVar("T")

TIMEOUT = 60.0  # seconds without one byte after which a peer is given up
ATTEMPTS = 3
PAUSE = 0.5  # seconds before the second attempt, doubled before each further one
# Uploads do not tell how far they are, so they are given up when they are slower than this.
_SLOWEST = 64 * 1024  # bytes a second
_HTTP = ("http", "https")
_GONE = (404, 410)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fetch(url: str, target: Path, *, digest: str = "", timeout: float = TIMEOUT, attempts: int = ATTEMPTS) -> int:
    """Brings the file at `url` to the path `target`, and gives its size in bytes.

    The target is replaced in one step when all of it is there and its content has the `digest`, where one is given.
    Connections that fail are tried again, `attempts` in all. Raises StagingError for every failure.
    """
    part = target.with_name(f".{os.urandom(8).hex()}.part")

    def arrived(progress: Any) -> tuple[int, int]:
        return progress.value, _size(part)  # SFTP and FTP leave the first at 0

    def bring() -> int:
        source = urls.local_path(url)
        if source is not None and target.exists() and os.path.samefile(source, target):
            checksum.verify(target, digest, urls.redacted(url))
            return _size(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source is not None:
            shutil.copy(source, part)
        else:
            download = partial(_download, url, part, timeout)
            _persistently(download, measure=arrived, timeout=timeout, attempts=attempts)
        checksum.verify(part, digest, urls.redacted(url))
        os.replace(part, target)
        return _size(target)

    try:
        return explained("bring", url, bring, timeout)
    finally:
        with suppress(OSError):  # mostly it has been renamed, or there was no folder to begin with
            part.unlink()


def deliver(source: Path, url: str, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS) -> int:
    """Sends the local file `source` to `url`, and gives its size in bytes.

    Where the far side can rename, and where it shows files only when they are whole (object stores), nobody sees a
    part of it. HTTP servers get a PUT. Raises StagingError for every failure.
    """
    target = urls.local_path(url)
    if target is not None:
        return fetch(source.absolute().as_uri(), Path(target))

    def send() -> int:
        size = source.stat().st_size
        upload = partial(_upload, source, size, url, timeout)
        _persistently(upload, measure=lambda _: size, timeout=timeout + size / _SLOWEST, attempts=attempts)
        return size

    return explained("deliver", url, send, timeout)


def info(url: str, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS) -> dict[str, Any] | None:
    """What the far side says of a file (size, etag, time of change, …), or None when it is not there.

    Raises StagingError when the far side cannot tell.
    """

    def ask(_: object) -> dict[str, Any] | None:
        with _connected(url, timeout) as (system, path):
            try:
                return dict(system.info(path))
            except FileNotFoundError as error:
                if _root(error) is error or getattr(_root(error), "status", 0) in _GONE:
                    return None
                raise

    def persist() -> dict[str, Any] | None:
        return _persistently(ask, measure=lambda _: None, timeout=timeout, attempts=attempts)

    return explained("ask for", url, persist, timeout)


def stream(url: str, mode: str, *, encoding: str | None = None, timeout: float = TIMEOUT) -> IO[Any]:
    """A far file opened: what is read of it comes when it is read. Raises StagingError when it cannot be opened."""
    import fsspec

    def opened() -> IO[Any]:
        options = {scheme: _http_options(part, timeout) for scheme, part in _links(url) if scheme in _HTTP}
        file: IO[Any] = fsspec.open(url, mode, encoding=encoding or "utf-8", **options).open()
        return file

    return explained("open", url, opened, timeout)


def _download(url: str, part: Path, timeout: float, progress: Any) -> None:
    try:
        with _connected(url, timeout) as (system, path):
            # These tell the size as they answer; the others are asked, and say also what is not there.
            told = {} if system.async_impl else system.info(path)
            if told.get("type") == "directory":
                raise IsADirectoryError("it is a folder")
            system.get_file(path, str(part), callback=progress)
        progress.call()
        expected = told.get("size", progress.size)
        if expected is not None and _size(part) != expected:
            raise ConnectionError(f"only {_size(part)} of {expected} bytes arrived")
    except BaseException:
        # also when given up in the meantime: then nobody else tidies up
        part.unlink(missing_ok=True)
        raise


def _upload(source: Path, size: int, url: str, timeout: float, _progress: object) -> None:
    from fsspec import AbstractFileSystem

    with _connected(url, timeout) as (system, path):
        if urls.scheme(url) in _HTTP:
            # a stated length, because object stores behind signed URLs refuse chunks
            system.put_file(str(source), path, method="put", headers={"Content-Length": str(size)})
            return
        if type(system).mv is AbstractFileSystem.mv:
            system.put_file(str(source), path)
        else:
            folder = system._parent(path)
            part = f"{folder}/.{os.urandom(8).hex()}.part"
            try:
                system.makedirs(folder, exist_ok=True)
                system.put_file(str(source), part)
                system.mv(part, path)
            except BaseException:
                with suppress(Exception):  # the first error says more than one while tidying up
                    system.rm_file(part)
                raise
        stored = system.info(path).get("size")
        if stored is not None and stored != size:
            raise ConnectionError(f"only {stored} of {size} bytes were stored")


@contextmanager
def _connected(url: str, timeout: float) -> Iterator[tuple[Any, str]]:
    """The filesystem of a URL and the path in it; the sessions opened for it are closed at the end."""
    from fsspec.asyn import get_loop, sync
    from fsspec.core import get_filesystem_class, url_to_fs

    sessions: list[Any] = []

    async def session(**options: Any) -> Any:
        import aiohttp

        sessions.append(aiohttp.ClientSession(**options))
        return sessions[-1]

    options: dict[str, dict[str, Any]] = {}
    for scheme, part in _links(url):
        if scheme in _HTTP:
            options[scheme] = {**_http_options(part, timeout), "get_client": session, "skip_instance_cache": True}
        elif not get_filesystem_class(scheme).async_impl:
            # fsspec keeps these by thread, with connections that may be dead by the time they are used again
            options[scheme] = {"skip_instance_cache": True}
            if scheme == "ftp":
                options[scheme]["timeout"] = timeout
    try:
        yield url_to_fs(url, **options)
    finally:
        for opened in sessions:
            sync(get_loop(), opened.close, timeout=timeout)


def _links(url: str) -> list[tuple[str, str]]:
    """The links of a chained URL, each with its scheme."""
    return [(urls.scheme(part) if "/" not in part or "://" in part else "file", part) for part in url.split("::")]


def _http_options(url: str, timeout: float) -> dict[str, Any]:
    import aiohttp

    return {
        # What is ASCII without spaces is sent to the letter: quoting a signed URL anew breaks its signature.
        "encoded": url.isascii() and url.isprintable() and " " not in url,
        "client_kwargs": {
            "timeout": aiohttp.ClientTimeout(total=None, connect=timeout, sock_connect=timeout, sock_read=timeout),
            "raise_for_status": _refuse_other_than_content,
            # The bytes that are stored there, as `curl` saves them: a .gz stays one, and sizes can be compared.
            "headers": {"Accept-Encoding": "identity"},
            "auto_decompress": False,
            # Nodes of a cluster often reach out through the proxy that their environment names.
            "trust_env": True,
        },
    }


async def _refuse_other_than_content(response: Any) -> None:
    """Raises for what is not the file, nor a part that was asked for: errors, but also "202 Accepted" and the like."""
    import aiohttp

    if response.method == "GET" and response.status not in (200, 203, 206, 416):
        raise aiohttp.ClientResponseError(
            response.request_info, response.history, status=response.status, message=response.reason or ""
        )


def _persistently(work: Callable[[Any], T], *, measure: Callable[[Any], object], timeout: float, attempts: int) -> T:
    """What `work` returns; tried again, after a pause, when the connection failed."""
    for attempt in range(1, attempts + 1):
        outcome = _watched(work, measure, timeout)
        error = outcome.exception()
        if error is None or attempt == attempts or not _is_connection(_root(error)):
            break
        time.sleep(PAUSE * 2 ** (attempt - 1))
    return outcome.result()


def _watched(work: Callable[[Any], T], measure: Callable[[Any], object], timeout: float) -> Future[T]:
    """Runs `work` in a thread, and gives it up when `measure` stays the same for `timeout` seconds.

    Most of fsspec's filesystems would wait for ever on a peer that has gone silent.
    """
    from fsspec.callbacks import Callback

    outcome: Future[T] = Future()
    given_up = threading.Event()

    def stop(*_: object, **__: object) -> None:
        if given_up.is_set():
            raise TimeoutError

    progress = Callback(hooks={"stop": stop})

    def run() -> None:
        try:
            outcome.set_result(work(progress))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="heald-transfer", daemon=True).start()
    seen: object = outcome  # like no measure: the first look never gives up, so that a protocol's own time-out is first
    try:
        while not wait((outcome,), timeout).done:
            before, seen = seen, measure(progress)
            if seen == before:
                raise TimeoutError
    finally:
        given_up.set()
    return outcome


def explained(verb: str, url: str, work: Callable[[], T], timeout: float = TIMEOUT) -> T:
    """What `work` returns; what it raises becomes a StagingError that says what happened, and to what."""
    try:
        return work()
    except StagingError:
        raise
    except Exception as error:
        what, hint = _reason(_root(error), timeout)
        failure = StagingError(f"cannot {verb} {urls.redacted(url)}: {what}", hint=hint)
    # Raised out here it has no context: errors of other packages often do not pickle, and this one travels.
    raise failure


def _reason(error: BaseException, timeout: float) -> tuple[str, str]:
    """What happened, in words, and what to do about it."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        answer = f"{status} {getattr(error, 'message', '')}".rstrip()
        if status in _GONE:
            return f"it does not exist ({answer})", ""
        return f"the server answered {answer}", "it wants credentials, or others" if status in (401, 403, 407) else ""
    if isinstance(error, ImportError):
        wants_http = error.name == "aiohttp" or "aiohttp" in str(error)
        return "a package is missing here", "pip install 'heald[http]'" if wants_http else str(error)
    if isinstance(error, FileNotFoundError):
        return "it does not exist", ""
    if isinstance(error, TimeoutError):
        return f"nothing came or went for {timeout:g} s", "is the far side up, and reached from this machine?"
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"no room left on the disk ({os.strerror(error.errno)})", "free some space, or work in another folder"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, ""


def _root(error: BaseException) -> BaseException:
    """fsspec says "not found" for much; what it was stands behind it."""
    return error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error


def _is_connection(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError | EOFError):
        return True
    aiohttp = sys.modules.get("aiohttp")  # not loaded, its errors cannot be either
    return aiohttp is not None and isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

"""What `parsl.utils` and `parsl.addresses` have for scripts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import IO, Any

from heald.wire.interface import interfaces

VERSION = "2026.10.26"  # of Parsl's names
__version__ = VERSION
DISABLED, LEVEL_1, LEVEL_2, LEVEL_3 = range(4)


def get_all_checkpoints(rundir: str = "runinfo") -> Sequence[str]:
    """The checkpoint folders of all runs, the oldest first; those of folders that have no number last."""
    names = os.listdir(rundir) if os.path.isdir(rundir) else []
    ordered = sorted(names, key=lambda name: (not name.isdigit(), len(name), name))
    found = [os.path.abspath(os.path.join(rundir, name, "checkpoint")) for name in ordered]
    return [path for path in found if os.path.isdir(path)]


def get_last_checkpoint(rundir: str = "runinfo") -> Sequence[str]:
    """The checkpoint folder of the last run that has one."""
    return [path for path in get_all_checkpoints(rundir) if path.split(os.sep)[-2].isdigit()][-1:]


@contextmanager
def time_limited_open(path: str, mode: str, seconds: int = 1) -> Generator[IO[Any], None, None]:
    """Open a file that may have to appear first."""
    end = time.monotonic() + seconds
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.01)
    with open(path, mode) as file:
        yield file


def execute_wait(cmd: str, walltime: int | None = None) -> tuple[int, str, str]:
    """Run a line of shell: its status, and what it wrote to standard output and error.

    Raises subprocess.TimeoutExpired after `walltime` seconds, with all that it started ended.
    """
    with subprocess.Popen(
        cmd, shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            out, err = child.communicate(timeout=walltime)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise
    return child.returncode, out, err


def sanitize_dns_label_rfc1123(raw_string: str) -> str:
    """A name that can be a label of DNS: at most 63 lower-case letters, digits and single hyphens.

    >>> sanitize_dns_label_rfc1123("My_Pod  1")
    'my-pod-1'
    """
    label = re.sub(r"[^a-z0-9]+", "-", raw_string.lower())[:63].strip("-")
    if not label:
        raise ValueError(f"Sanitized DNS label is empty for input '{raw_string}'")
    return label


def sanitize_dns_subdomain_rfc1123(raw_string: str) -> str:
    """Labels joined by dots, at most 253 characters."""
    labels = [sanitize_dns_label_rfc1123(part) for part in raw_string.split(".") if part]
    name = ".".join(labels)[:253].strip(".-")
    if not name:
        raise ValueError(f"Sanitized DNS subdomain is empty for input '{raw_string}'")
    return name


class Timer:
    """Calls a function at once and then every `interval` seconds, in a thread of its own."""

    def __init__(
        self, callback: Callable[..., object], *args: Any, interval: float = 5, name: str | None = None
    ) -> None:
        self._callback = callback
        self._args = args
        self._interval = max(0.0, interval)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=name or "Timer", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            self.make_callback()
            if self._over.wait(self._interval):
                return

    def make_callback(self) -> None:
        """Call the function now."""
        try:
            self._callback(*self._args)
        except Exception:
            import logging

            logging.getLogger("parsl.utils").exception("a timer's function raised")

    def close(self, timeout: float | None = None) -> None:
        """Stop."""
        self._over.set()
        self._thread.join(timeout)


def wrap_with_logs(fn: Callable[..., Any] | None = None, target: str = __name__) -> Any:
    """A function whose exceptions are logged on their way."""
    import logging

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(func)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            try:
                return func(*args, **kwargs)
            except Exception:
                logging.getLogger(target).exception("%s raised", func.__name__)
                raise

        return wrapped

    return decorate if fn is None else decorate(fn)


# -- addresses: of this process, for the nodes of batch jobs -----------------------------------------------------------


def address_by_hostname() -> str:
    """The address of this machine's name; that of the machine for itself when the name has none."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def address_by_interface(ifname: str) -> str:
    """The address of a network interface. Raises OSError when there is no such one."""
    known = interfaces()
    if ifname not in known:
        raise OSError(f"there is no network interface {ifname!r} with an address here: there are {', '.join(known)}")
    return known[ifname]


def address_by_route() -> str:
    """The address from which this machine reaches others; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def address_by_query(timeout: float = 30) -> str:
    """As `address_by_route`: nobody on the Internet is asked."""
    return address_by_route()


get_any_address = address_by_route


def get_all_addresses() -> set[str]:
    """All addresses of this machine."""
    return {address_by_hostname(), address_by_route(), *interfaces().values()}


def tcp_url(address: str, port: str | int | None = None) -> str:
    """The URL of an address and a port.

    >>> tcp_url("::1", 80), tcp_url("10.0.0.1")
    ('tcp://[::1]:80', 'tcp://10.0.0.1')
    """
    host = f"[{address}]" if ":" in address else address
    return f"tcp://{host}" if port is None else f"tcp://{host}:{port}"

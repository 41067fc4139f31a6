"""A way to a head that no node can reach, such as one on a laptop: over an ssh connection that the head opens itself.

ssh passes on what comes to a socket on the far machine, a login node; a `forwarder` there takes what the nodes send.
Neither can read it: agents and head speak CURVE through it, end to end.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import secrets
import select
import shlex
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from heald.core.errors import SiteError
from heald.wire import address
from heald.wire.forwarder import MARK

PATIENCE = 20.0  # seconds until an end notices that the connection was cut
_BEATS = 4  # in that time
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before the connection is made again
_FAREWELL = 5.0  # seconds for ssh to end
_NO_CONNECTION, _NO_COMMAND = 255, 127  # what ssh and shells say
# A Ctrl-C is for the head, which has things to put in order over this connection.
_UNINTERRUPTED = 'trap "" INT; exec "$@"'


class Relay:
    """Lets agents reach the head, which listens at `endpoints` on this machine, at addresses of `host`.

    `host` is whatever ssh understands: it reads the user's own settings (names, keys, jump hosts), rides on a
    connection that is open already (ControlMaster), and asks for passwords on the terminal. Nothing is installed there,
    but it needs a `python`, 3.6 or later. `interface`: the network by which nodes reach it; by default all that it has.
    `ports`: where to listen there, one for each endpoint, if these are free.

    `control` is the path by which other ssh commands share the connection (`ssh -S`); empty when it is the user's own.
    """

    def __init__(
        self,
        host: str,
        endpoints: Sequence[str],
        *,
        interface: str = "",
        python: str = "python3",
        ports: Sequence[int] = (),
    ) -> None:
        self.host = host
        self.control = ""
        self._targets = [one.partition("://")[2] for one in endpoints]
        self._interface = interface
        self._python = python
        self._ports = list(ports) if len(ports) == len(endpoints) else [0] * len(endpoints)
        self._reached = False  # it was connected once
        self._ssh = shlex.split(os.environ.get("HEALD_SSH") or "ssh")
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)  # rings when it is over
        weakref.finalize(self, os.close, self._bell).atexit = False  # a session that is still open then needs it
        self._first: queue.SimpleQueue[list[list[str]] | SiteError] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._keep_up, name=f"heald-relay-{host}", daemon=True)

    def start(self, timeout: float = 180.0) -> list[list[str]]:
        """Connect, and keep the connection up until `close`; for each endpoint, those for agents, the likeliest first.

        The user has `timeout` seconds to answer what ssh asks. Raises SiteError with the words of ssh.
        """
        try:
            open_already = not subprocess.run([*self._ssh, "-O", "check", self.host], capture_output=True).returncode
        except OSError as raised:
            raise SiteError(f"no relay on {self.host}: {raised}", hint="is ssh installed here?") from raised
        self.control = "" if open_already else _socket()
        self._thread.start()
        try:
            first = self._first.get(timeout=timeout)
        except queue.Empty:
            first = SiteError(f"no relay on {self.host}: ssh did not connect within {timeout:g} s")
        if isinstance(first, SiteError):
            self.close()
            raise first
        return first

    def close(self) -> None:
        """End the connection, and what it started on the host."""
        if self._thread.is_alive():
            os.eventfd_write(self._bell, 1)
            self._thread.join(2 * _FAREWELL)

    # -- in its thread -----------------------------------------------------------------------------------------------

    def _over(self, timeout: float) -> bool:
        return bool(select.select([self._bell], [], [], timeout)[0])

    def _keep_up(self) -> None:
        pauses = iter(_PAUSES)
        while True:
            try:
                connected, error = self._connect()
            except OSError as raised:  # of this machine: no more processes, no room for a file
                connected, error = False, SiteError(f"no relay on {self.host}: {raised}")
            if not self._reached:
                if any(self._ports):  # perhaps somebody else has them by now
                    self._ports = [0] * len(self._ports)
                    continue
                self._first.put(error)
                return
            if connected:
                pauses = iter(_PAUSES)
            if self._over(next(pauses, _PAUSES[-1])):
                return
            logging.getLogger("heald").warning("%s; it is made again", error.message)

    def _connect(self) -> tuple[bool, SiteError]:
        """Connect, and stay so while it lasts; whether it was so at all, and why it is no more."""
        inner = [_socket() for _ in self._targets]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                ["sh", "-c", _UNINTERRUPTED, "sh", *self._words(inner)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            connected = self._serve(process.stdin, process.stdout)
            process.stdin.close()  # which ends the forwarder, and so ssh
            try:
                process.wait(_FAREWELL)
            except subprocess.TimeoutExpired:
                process.kill()
            process.stdout.close()
            errors.seek(0)
            return connected, self._error(process.wait(), errors.read().decode(errors="replace").strip())

    def _words(self, inner: Sequence[str]) -> list[str]:
        """The command that connects, and starts the forwarder; what comes to the sockets `inner` is for the head."""
        share = []
        if self.control:
            Path(self.control).unlink(missing_ok=True)  # of a connection that was killed
            share = ["-M", "-S", self.control, "-oControlPersist=no"]
        places = [f"{port}:{path}" for port, path in zip(self._ports, inner, strict=True)]
        command = shlex.join([self._python, "-c", "exec(eval(input()))", self._interface, str(PATIENCE), *places])
        alive = [f"-oServerAliveInterval={PATIENCE / _BEATS:.0f}", f"-oServerAliveCountMax={_BEATS}"]
        forward = [f"-R{path}:{target}" for path, target in zip(inner, self._targets, strict=True)]
        return [*self._ssh, *share, *alive, "-T", "-oConnectTimeout=20", *forward, self.host, command]

    def _serve(self, stdin: IO[bytes], stdout: IO[bytes]) -> bool:
        heard, connected = b"", False
        try:
            stdin.write(ascii(_source()).encode() + b"\n")
            while True:
                ready, _, _ = select.select([stdout.fileno(), self._bell], [], [], PATIENCE / _BEATS)
                if self._bell in ready:
                    break
                if not ready:
                    stdin.write(b"\n")
                    continue
                data = stdout.read(4096)
                if not data:
                    break
                heard += data
                lines = [line for line in heard.split(b"\n")[:-1] if line.startswith(MARK.encode())]
                if lines and not connected:
                    connected = True
                    self._connected(json.loads(lines[0][len(MARK) :]))
        except BrokenPipeError:
            pass
        return connected

    def _connected(self, said: dict[str, Any]) -> None:
        known = said["interfaces"]
        places = [known.get(self._interface, self._interface)] if self._interface else address.ranked(known)
        if not self._reached:
            self._reached = True
            self._ports = said["ports"]
            self._first.put([[address.endpoint(place, port) for place in places] for port in self._ports])

    def _error(self, status: int, words: str) -> SiteError:
        hint = ""
        if status == _NO_CONNECTION:
            hint = f"this must work: ssh {self.host} true"
        elif status == _NO_COMMAND:
            hint = f"name a Python that {self.host} has"
        return SiteError(f"no relay on {self.host}: {words or f'ssh ended with status {status}'}", hint=hint)


def _socket() -> str:
    """The name of a new socket, for which every machine has room. ssh lets nobody else use it."""
    return f"/tmp/heald-{secrets.token_hex(8)}"


def _source() -> str:
    """The program of the far machine."""
    folder = Path(__file__).parent
    return "\n".join(
        [*((folder / f"{name}.py").read_text() for name in ("interface", "forwarder")), "main(interfaces())"]
    )

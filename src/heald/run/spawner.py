"""The small process that starts workers, sees them die, and lets nothing outlive the run.

It is started by the driver, with a socket. It has one thread, imports what workers
need, and forks them: a worker costs a millisecond, and the driver, which may be large and full of threads, is never
forked. It is the parent of all that runs: when a worker dies it kills what the worker left, and when the driver is
gone (the socket closes, whatever the reason) it kills everything below itself and ends.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import NoReturn

from heald.run import kernel, protocol
from heald.run.function import initialise, look_in
from heald.run.protocol import Born, Died, Setup, Spawn
from heald.run.usage import Kills


class Spawner:
    """Workers by number and by process id."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.setup: Setup | None = None
        self.arena = -1
        self.pids: dict[int, int] = {}  # number -> pid
        self.numbers: dict[int, int] = {}  # pid -> number
        self.kills = Kills()

    def run(self) -> None:
        """Serve until the driver is gone."""
        wake, self._wake = socket.socketpair()
        wake.setblocking(False)
        self._wake.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        try:  # a child that the driver forked holds our socket too, and may outlive it
            poll.register(driver := os.pidfd_open(os.getppid()), select.POLLIN)
        except OSError:  # Linux before 5.3
            driver = -1
        try:
            while True:
                for descriptor, _ in poll.poll():
                    if descriptor == wake.fileno():
                        wake.recv(4096)
                    elif descriptor == driver or not self._serve():
                        return
                self._reap()
        finally:
            kernel.end_children(())

    def _serve(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, 1 << 20, 4)
        except ConnectionError:
            return False
        if not data:
            return False
        message = protocol.command(data)
        if isinstance(message, Setup):
            self.setup = message
            self.arena, errors = descriptors
            for stream in (1, 2):
                os.dup2(errors, stream)
            os.close(errors)
            os.chdir(message.directory)
            look_in(message.path)
            kernel.take_argv(message.argv)
        elif isinstance(message, Spawn):
            self._spawn(message, descriptors)
        elif (pid := self.pids.get(message.number)) is not None:
            (kernel.kill if message.alone else kernel.kill_group)(pid, message.signal)
        return True

    def _spawn(self, spawn: Spawn, descriptors: list[int]) -> None:
        number = spawn.number
        pid = os.fork()
        if pid == 0:
            self._become_worker(spawn, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self.pids[number] = pid
        self.numbers[pid] = number
        self._tell(Born(number, pid))

    def _become_worker(self, spawn: Spawn, descriptors: list[int]) -> NoReturn:
        status = 1
        try:
            parent = os.getppid()
            os.setsid()
            kernel.die_with_parent()
            if os.getppid() != parent:  # it died before we asked to die with it
                os._exit(1)
            kernel.adopt_orphans()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.close()
            assert self.setup is not None
            from heald.run.worker import Worker

            if self.setup.initializer:
                initialise(self.setup.initializer)
            frames, claims, stops = descriptors
            Worker(spawn, socket.socket(fileno=frames), claims, stops, self.arena, self.setup).run()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            number = self.numbers.pop(pid, None)
            if number is None:
                continue
            del self.pids[number]
            kernel.kill_group(pid, signal.SIGKILL)
            self._sweep()
            self._tell(Died(number, kernel.exit_status(status), usage.ru_maxrss * 1024, self.kills.new()))

    def _sweep(self) -> None:
        """Kill what dead workers left: it is our child now, and is no worker."""
        kernel.end_children(self.numbers)

    def _tell(self, notice: protocol.Notice) -> None:
        try:
            self.control.send(protocol.encode(notice))
        except OSError:
            pass  # the driver is gone; the next poll says so


def main(control: int) -> None:
    """Serve the driver at the other end of the socket `control`."""
    import heald.run.worker  # noqa: F401  (loaded once here, for all workers)

    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    kernel.adopt_orphans()
    import gc

    gc.freeze()  # what is loaded now is shared by all workers; their collectors need not touch its pages
    Spawner(socket.socket(fileno=control)).run()
    os._exit(0)  # the driver waits for it, and the interpreter would first take everything down

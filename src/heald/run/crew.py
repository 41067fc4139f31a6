"""The workers of one node, with the spawner that starts them: starts them, hears them, stops them, replaces them.

On the machine of the driver it works for a pool (`run.pool`), on the nodes of a cluster for an agent
(`run.cluster.agent`). What to send to which worker is decided elsewhere.
"""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from heald.core.environment import PLAIN, Environment
from heald.core.event import Failure, Usage
from heald.core.placement import Lease
from heald.core.retry import OUT_OF_MEMORY, WORKER_LOST
from heald.core.task import Payload
from heald.run import protocol
from heald.run.affinity import variables
from heald.run.boot import boot
from heald.run.function import folders
from heald.run.kernel import exit_text, kill_group, raw_argv
from heald.run.lane import Lane
from heald.run.log import tail
from heald.run.notice import Notices
from heald.run.protocol import Began, Born, Define, Died, Ended, Hold, Order, Setup, Signal, Spawn
from heald.run.usage import resident

if TYPE_CHECKING:
    import subprocess

    from heald.data.arena import Arena
    from heald.run.selector import Selector

_STILLBORN = 3  # workers in a row that died before they ran anything: there is no use in more
_FAREWELL = 10.0  # seconds for the spawner to kill everything
_AGAIN = 0.25  # seconds between the two signals of a notice
_SAMPLE = 0.25  # seconds between looks at the memory of attempts that have a limit


End = tuple[Order, Failure, Usage]


class Host(Protocol):
    """Whoever the crew works for."""

    selector: Selector
    arena: Arena
    logs: Path
    run: Path

    def began(self, lane: Lane, order: Order, time: float) -> None:
        """The attempt runs."""

    def ended(self, lane: Lane, order: Order, outcome: Payload | Failure, usage: Usage) -> None:
        """The attempt is over."""

    def gone(self, lane: Lane, end: End | None, others: list[Order]) -> None:
        """The worker has died: of `end`, if it was running anything; the `others` it had not begun."""

    def definition(self, digest: bytes) -> Define:
        """A work, and its pickled function."""

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` when that time has passed."""

    def broken(self, reason: str) -> None:
        """Nothing can run here any more."""


class Settings(msgspec.Struct, frozen=True):
    """How a crew works.

    `grace`: seconds that a stopped attempt gets to end by itself. `bind`: pin workers to the cores that they hold.
    `initializer`: a pickled function that each calls first, or nothing. `environment`: of tasks that say nothing else.
    `name`: unlike that of other crews of the run.
    `ends`: when the node is taken away, by the monotonic clock; `notice`: seconds before that at which attempts that
    have asked for nothing else are told so, 0 for never. `vendor`: of the devices, empty when it is not known.
    """

    grace: float = 5.0
    bind: bool = False
    initializer: bytes = b""
    environment: Environment = PLAIN
    name: str = ""
    ends: float = math.inf
    notice: float = 0.0
    vendor: str = ""


class Crew:
    """Workers by number. `lanes` are those that live."""

    def __init__(self, settings: Settings, host: Host) -> None:
        self.settings = settings
        self.lanes: dict[int, Lane] = {}
        self._host = host
        self._holds: dict[Any, Hold] = {}  # what leases of one shape give
        self._dead: list[Lane] = []  # whose results somebody still needs
        self._notices = Notices(settings.notice, settings.ends, self._warn, host.after)
        self._stillborn = 0
        self._watching = False
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # -- the spawner -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the spawner, which costs tens of milliseconds that pass while the caller goes on."""
        host = self._host
        self._process, self._control = boot()
        settings = self.settings
        setup = Setup(
            os.getcwd(),
            str(host.logs),
            str(host.run),
            folders(),
            raw_argv(),
            settings.initializer,
            settings.environment,
        )
        with open(self._errors, "ab") as errors:
            socket.send_fds(self._control, [protocol.encode(setup)], [host.arena.fd, errors.fileno()])
        self._control.setblocking(False)
        host.selector.on_readable(self._control, self._hear_spawner)

    def _tell(self, message: protocol.Command, descriptors: list[int] | None = None) -> None:
        if self._control is None:
            return
        try:
            socket.send_fds(self._control, [protocol.encode(message)], descriptors or [])
        except BlockingIOError:
            self._host.after(0.01, lambda: self._tell(message, descriptors))
        except OSError:
            pass  # it is gone; reading says so

    def signal(self, worker: int, number: int) -> None:
        """Send a signal to the process group of a worker."""
        self._tell(Signal(worker, number))

    def _hear_spawner(self) -> None:
        while self._control is not None:
            try:
                data = self._control.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._spawner_gone()
                return
            message = protocol.notice(data)
            lane = self.lanes.get(message.number)
            if lane is None:
                continue
            if isinstance(message, Born):
                lane.pid = message.pid
                lane.handed_over()
            else:
                self._died(lane, message)

    def _spawner_gone(self) -> None:
        """The spawner died, and its workers with it: start again, unless it never lived."""
        assert self._control is not None
        self._host.selector.forget(self._control)
        self._control.close()
        self._control = None
        for lane in list(self.lanes.values()):
            if lane.pid:
                kill_group(lane.pid, signal.SIGKILL)  # the commands below it have nobody else to do it
            self._died(lane, Died(lane.number, -signal.SIGKILL, 0, False))
        status = self._process.wait() if self._process else 0
        self._stillborn += 1
        if self._stillborn >= _STILLBORN:
            self._host.broken(f"workers cannot be started: the spawner {exit_text(status)}\n{self._words()}")
        else:
            self.start()

    def _words(self) -> str:
        return tail(self._errors)

    @property
    def _errors(self) -> Path:
        return self._host.logs / f"{self.settings.name}spawner.err"

    # -- lanes -------------------------------------------------------------------------------------------------------

    def open(self, name: str = "") -> Lane:
        """Start one more worker."""
        self._bury()
        lane = Lane(self._host.arena.appoint(), self._host.selector, self._host.definition, name)
        self.lanes[lane.number] = lane
        lane.listen(lambda: self._hear(lane))
        self._tell(Spawn(lane.number, lane.name), lane.descriptors())
        return lane

    def _bury(self) -> None:
        """Use the memory and the numbers of dead workers again, where nobody needs what they wrote any more."""
        for lane in [one for one in self._dead if not one.needed]:
            self._dead.remove(lane)
            self._host.arena.discard(lane.number)

    def hold(self, lane: Lane, lease: Lease, mpi: str = "") -> None:
        """From now on the worker has the first share of a lease; `mpi` starts MPI programs on all of it."""
        share = lease.shares[0]
        key = (share.cpus if self.settings.bind else (), share.gpus, lease.needs.cpus, mpi)
        if key not in self._holds:
            self._holds[key] = Hold(key[0], variables(share, lease.needs, mpi, self.settings.vendor))
        lane.hold(self._holds[key])
        if lease.needs.memory and not self._watching:
            self._watching = True
            self._host.after(_SAMPLE, self._watch_memory)

    def _hear(self, lane: Lane) -> None:
        for report in lane.reports():
            if isinstance(report, Ended):
                self._ended(lane, report)
            elif isinstance(report, Began) and lane.fifo and lane.fifo[0].task == report.task:
                lane.long = True
                self._host.began(lane, lane.fifo[0], report.time)
                self._notices.began(lane, report.time)

    def _ended(self, lane: Lane, report: Ended) -> None:
        self._stillborn = 0
        order = lane.last
        outcome = report.outcome
        verdict = lane.verdicts.pop((report.task, report.attempt), None)
        if verdict is not None and isinstance(outcome, Failure):
            outcome = verdict.with_logs(outcome.stdout, outcome.stderr)
        elif isinstance(outcome, Payload) and outcome.buffers:
            adopted = tuple(self._host.arena.adopt(ref, lane.freed) for ref in outcome.buffers)
            lane.lent += len(adopted)
            outcome = msgspec.structs.replace(outcome, buffers=adopted)
        self._host.ended(lane, order, outcome, report.usage)

    def _died(self, lane: Lane, notice: Died) -> None:
        for report in lane.reports():
            if isinstance(report, Ended):
                self._ended(lane, report)
        culprit, others = lane.died()
        del self.lanes[lane.number]
        lane.close()
        self._dead.append(lane)
        end = None
        if culprit is not None:
            failure = lane.verdicts.pop((culprit.task, culprit.attempt), None) or _lost(lane, notice)
            failure = lane.with_logs(failure, culprit, self._host.logs)
            end = culprit, failure, Usage(0.0, 0.0, 0.0, notice.memory, notice.status)
        elif not lane.served:
            self._stillborn += 1
        self._host.gone(lane, end, others)
        if self._stillborn >= _STILLBORN:
            self._host.broken(
                f"workers die before they run anything: the last {exit_text(notice.status)}\n{self._words()}"
            )

    # -- limits and ends ---------------------------------------------------------------------------------------------

    def stop(self, lane: Lane, order: Order, verdict: Failure) -> None:
        """End an attempt that its worker has begun; `verdict` is what it failed of, if it has not ended well."""
        lane.verdicts[order.task, order.attempt] = verdict
        lane.stop(order, self.signal)
        self._host.after(self.settings.grace, lambda: self._kill(lane, order))

    def _warn(self, lane: Lane, order: Order, why: bytes) -> None:
        """Tell an attempt that its time ends. Its worker sees whether it is still that one, and tells its command.

        Twice: a signal that comes just before the worker waits for its command is not heeded until the next one.
        """

        def tell(worker: int, number: int) -> None:
            self._tell(Signal(worker, number, alone=True))

        def again() -> None:
            if order in lane.fifo:
                tell(lane.number, signal.SIGUSR1)

        lane.warn(order, why, tell)
        self._host.after(_AGAIN, again)

    def _kill(self, lane: Lane, order: Order) -> None:
        if order in lane.fifo:
            self.signal(lane.number, signal.SIGKILL)

    def _watch_memory(self) -> None:
        limited = [one for one in self.lanes.values() if one.lease and one.lease.needs.memory and one.fifo]
        self._watching = bool(limited)
        for lane in limited:
            assert lane.lease is not None
            order, allowed = lane.fifo[0], lane.lease.needs.memory
            used = resident(lane.pid)
            if used > allowed:
                text = f"it used {used / 1e9:.3g} GB of memory and asked for {allowed / 1e9:.3g} GB"
                hint = "ask for more memory, or let it grow: Retry(limit=1, grow=2)"
                lane.verdicts[order.task, order.attempt] = Failure(OUT_OF_MEMORY, text, hint=hint)
                self.signal(lane.number, signal.SIGKILL)
        if self._watching:
            self._host.after(_SAMPLE, self._watch_memory)

    def close(self) -> None:
        """End everything here, at once: the spawner kills what runs when it sees the driver go."""
        for lane in self.lanes.values():
            lane.close()
        if self._control is None or self._process is None:
            return
        control, self._control = self._control, None
        self._host.selector.forget(control)
        control.settimeout(_FAREWELL)
        try:
            control.shutdown(socket.SHUT_WR)
            while control.recv(1 << 16):  # its last words, and then its end
                pass
        except OSError:  # something below it cannot be killed (a disk that does not answer)
            self._process.kill()
        control.close()
        self._process.wait()


def _lost(lane: Lane, notice: Died) -> Failure:
    if notice.starved:
        return Failure(
            OUT_OF_MEMORY,
            "the system ran out of memory and killed it",
            hint="ask for memory, so that fewer run at once",
            exit=notice.status,
        )
    hint = "the process that ran it ended under it: a crash in compiled code, os._exit, or a kill from outside"
    return Failure(WORKER_LOST, f"its worker {exit_text(notice.status)}", hint=hint, exit=notice.status)

"""The driver's end of a spawner and its workers: starts them, hears them, stops them, replaces them.

Runs in the engine's thread. What to send where is `run.dispatch`'s to decide.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from heald.core.event import Failure, Usage
from heald.core.placement import Lease, Node
from heald.core.retry import CANCELLED, OUT_OF_MEMORY, WALLTIME, WORKER_LOST
from heald.core.task import Payload
from heald.run import dispatch, protocol
from heald.run.affinity import variables
from heald.run.dispatch import Dispatch
from heald.run.kernel import exit_text, kill_group
from heald.run.lane import Lane
from heald.run.log import tail
from heald.run.protocol import Began, Born, Died, Ended, Hold, Order, Setup, Signal, Spawn
from heald.run.usage import resident

if TYPE_CHECKING:
    from heald.core.task import Work
    from heald.data.arena import Arena
    from heald.run.process import ProcessExecutor
    from heald.run.selector import Selector

# Workers find modules where the driver does, this package included.
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from heald.run.spawner import main; main(int(sys.argv[1]))"
_STILLBORN = 3  # workers in a row that died before they ran anything: there is no use in more
_FAREWELL = 10.0  # seconds for the spawner to kill everything
_SAMPLE = 0.25  # seconds between looks at the memory of attempts that have a limit


class Host(dispatch.Host, Protocol):
    """What a pool needs of the engine."""

    selector: Selector
    arena: Arena
    logs: Path
    run: Path

    def began(self, order: Order, time: float, pid: int) -> None:
        """The attempt runs."""

    def ended(self, order: Order, outcome: Payload | Failure, usage: Usage) -> None:
        """The attempt is over."""

    def definition(self, digest: bytes) -> tuple[Work, bytes]:
        """A work, and its pickled function."""

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` when that time has passed."""

    def broken(self, label: str, reason: str) -> None:
        """Nothing can run here any more."""

    def now(self) -> float:
        """Seconds since the epoch."""


class Pool:
    """Workers on this machine's cores."""

    def __init__(self, executor: ProcessExecutor, host: Host) -> None:
        self.executor = executor
        self.label = executor.label
        self._host = host
        nodes = [Node(os.uname().nodename, executor.cores, executor.gpus, executor.memory)]
        self.dispatch = Dispatch(self.label, nodes, host, self._hold, self._open_lane)
        self._lanes: dict[int, Lane] = {}
        self._holds: dict[Any, Hold] = {}  # what leases of one shape give
        self._dead: list[Lane] = []  # whose results somebody still needs
        self._stillborn = 0
        self._watching = False
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # -- the spawner -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the spawner, which costs tens of milliseconds that pass while the caller goes on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        host = self._host
        errors = open(host.logs / "spawner.err", "ab")  # noqa: SIM115 (closed below, once the child has it)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(theirs.fileno()), *map(os.path.abspath, sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[theirs.fileno()],
            )
        finally:
            errors.close()
            theirs.close()
        setup = Setup(os.getcwd(), str(host.logs), str(host.run), self.executor.pickled_initializer())
        socket.send_fds(ours, [protocol.encode(setup)], [host.arena.fd])
        ours.setblocking(False)
        self._control = ours
        host.selector.on_readable(ours, self._hear_spawner)

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
            lane = self._lanes.get(message.number)
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
        for lane in list(self._lanes.values()):
            if lane.pid:
                kill_group(lane.pid, signal.SIGKILL)  # the commands below it have nobody else to do it
            self._died(lane, Died(lane.number, -signal.SIGKILL, 0, False))
        status = self._process.wait() if self._process else 0
        self._stillborn += 1
        if self._stillborn >= _STILLBORN:
            words = tail(self._host.logs / "spawner.err")
            self._host.broken(self.label, f"workers cannot be started: the spawner {exit_text(status)}\n{words}")
        else:
            self.start()

    # -- lanes -------------------------------------------------------------------------------------------------------

    @property
    def grace(self) -> float:
        """Seconds that a stopped attempt gets to end by itself."""
        return self.executor.grace_seconds

    def cancel(self, task: int, attempt: int) -> None:
        """End an attempt that nobody wants any more."""
        found = self.dispatch.find(task)
        if found is not None and found[1].attempt == attempt:
            self.stop(found[1], Failure(CANCELLED, "cancelled"))

    def _open_lane(self) -> Lane:
        self._bury()
        lane = Lane(self._host.arena.appoint(), self._host.selector, self._host.definition)
        self._lanes[lane.number] = lane
        lane.listen(lambda: self._hear(lane))
        self._tell(Spawn(lane.number), lane.descriptors())
        return lane

    def _bury(self) -> None:
        """Use the memory and the numbers of dead workers again, where nobody needs what they wrote any more."""
        for lane in [one for one in self._dead if not one.needed]:
            self._dead.remove(lane)
            self._host.arena.discard(lane.number)

    def _hold(self, lane: Any, lease: Lease) -> None:
        share = lease.shares[0]
        key = (share.cpus if self.executor.bind else (), share.gpus, lease.needs.cpus)
        if key not in self._holds:
            self._holds[key] = Hold(key[0], variables(share, lease.needs))
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
                self._host.began(lane.fifo[0], report.time, lane.pid)

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
        self._host.ended(order, outcome, report.usage)
        self.dispatch.ended(lane, order.work, report.usage, self._host.now())

    def _died(self, lane: Lane, notice: Died) -> None:
        for report in lane.reports():
            if isinstance(report, Ended):
                self._ended(lane, report)
        culprit, others = lane.died()
        self.dispatch.leave(lane, alive=False)
        del self._lanes[lane.number]
        lane.close()
        self._dead.append(lane)
        if culprit is None and not lane.served:
            self._stillborn += 1
        if culprit is not None:
            failure = lane.verdicts.pop((culprit.task, culprit.attempt), None) or _lost(lane, notice)
            failure = lane.with_logs(failure, culprit, self._host.logs)
            self._host.ended(culprit, failure, Usage(0.0, 0.0, 0.0, notice.memory, notice.status))
        self._host.returned(others)
        if self._stillborn >= _STILLBORN:
            words = tail(self._host.logs / "spawner.err")
            self._host.broken(
                self.label, f"workers die before they run anything: the last {exit_text(notice.status)}\n{words}"
            )

    # -- limits and ends ---------------------------------------------------------------------------------------------

    def expire(self, order: Order, walltime: float) -> None:
        """The attempt has had its walltime: stop it when it still runs."""
        text = f"it was stopped after its walltime of {walltime:g} s"
        hint = "give it more walltime, or let it grow: Retry(limit=1, grow=2)"
        self.stop(order, Failure(WALLTIME, text, hint=hint))

    def stop(self, order: Order, verdict: Failure) -> None:
        """End an attempt, wherever it is here; `verdict` is what it will have failed of, if it has not ended well."""
        found = self.dispatch.find(order.task)
        if found is None or found[1].attempt != order.attempt:
            return
        lane = self._lanes[int(found[0].name.split("-")[1])]
        self.dispatch.take_back(lane)
        if order not in lane.fifo:
            return
        lane.verdicts[order.task, order.attempt] = verdict
        lane.stop(order, self.signal)
        self._host.after(self.grace, lambda: self._kill(lane, order))

    def _kill(self, lane: Lane, order: Order) -> None:
        if order in lane.fifo:
            self.signal(lane.number, signal.SIGKILL)

    def _watch_memory(self) -> None:
        limited = [lane for lane in self.dispatch.lanes if lane.lease and lane.lease.needs.memory and lane.fifo]
        self._watching = bool(limited)
        for one in limited:
            lane = self._lanes[int(one.name.split("-")[1])]
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
        if self._control is not None:
            self._host.selector.forget(self._control)
            self._control.close()
            self._control = None
        for lane in self._lanes.values():
            lane.close()
        if self._process is not None:
            try:
                self._process.wait(_FAREWELL)
            except subprocess.TimeoutExpired:  # something below it cannot be killed (a disk that does not answer)
                self._process.kill()
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

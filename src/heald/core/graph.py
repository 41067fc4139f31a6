"""What follows from what happened: events in, actions out.

The graph holds the tasks that are not over, and nothing of those that are. It knows no clock, process or file.
`apply` takes one event and returns what the engine has to do about it. An event that the transition table of
`core.state` does not list for the task's state, or that is of another attempt, is late or repeated: it changes nothing.

An outcome is a Failure or anything else (a value, which the graph only hands on).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from heald.core.event import (
    Cancelled,
    Due,
    Expanded,
    Failure,
    Finished,
    Placed,
    Returned,
    Started,
    Submitted,
    TaskEvent,
)
from heald.core.resources import Resources
from heald.core.retry import CANCELLED, DEPENDENCY, REQUEUED, USER, WORKER_LOST, decide
from heald.core.state import TRANSITIONS, State
from heald.core.task import Payload, Task, Work

_NONE_GIVEN: Mapping[int, Any] = {}
# A dependency chain in an error names at most this many tasks: a chain of 100,000 must not cost their square.
_LONGEST_CHAIN = 12


class Ready(msgspec.Struct, frozen=True, gc=False):
    """Find a place for it."""

    task: int


class Settle(msgspec.Struct, frozen=True):
    """It is over: tell whoever waits. `handle` is what was given with its submission."""

    task: int
    state: State
    outcome: Any
    handle: Any = None


class Stop(msgspec.Struct, frozen=True, gc=False):
    """Stop this attempt, wherever it is."""

    task: int
    attempt: int
    reason: str


class Withdraw(msgspec.Struct, frozen=True, gc=False):
    """Find no place for it any more: it was ready, and is over."""

    node: Node


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Report `Due` after so many seconds."""

    task: int
    attempt: int
    seconds: float


Action = Ready | Settle | Stop | Withdraw | Pause


class Node(msgspec.Struct, gc=False):
    """A task that is not over. `got`: values of its inputs so far; `missing`: how many are still to come.

    `handle` is the submitter's: the graph keeps it here so that nobody needs another table of all tasks.
    """

    record: Task
    work: Work
    handle: Any
    state: State = State.waiting
    attempt: int = 0
    depth: int = 0
    missing: int = 0
    got: dict[int, Any] | None = None
    children: list[int] | None = None  # tasks that wait for this one
    join: Expanded | None = None  # what its body returned, for a join that waits for it
    tries: Tries | None = None

    @property
    def needs(self) -> Resources:
        """What its next attempt needs."""
        return self.tries.needs if self.tries else self.work.resources

    @property
    def inputs(self) -> list[Any]:
        """The values that fill the gaps of its arguments, in their order."""
        got = self.got
        return [got[task] for task in self.record.inputs] if got else []

    @property
    def needed(self) -> tuple[int, ...]:
        """The tasks whose values it needs before it goes on: its inputs, or what the body of a join returned."""
        return self.record.inputs if self.join is None else self.join.children

    @property
    def label(self) -> str:
        """How people know it."""
        return f"{self.work.name}#{self.record.id}"


class Tries(msgspec.Struct):
    """What a task that is tried again has behind it: attempts `charged` to it, attempts whose worker was `lost`, the
    `message` of the last one, the `pause` after it; and what the next one `needs`.
    """

    needs: Resources
    charged: int = 0
    lost: int = 0
    message: str = ""
    pause: float = 0.0


class Graph:
    """The tasks that are not over, by id, and the works that they refer to, by digest."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.works: dict[bytes, Work] = {}

    def apply(self, event: TaskEvent, given: Mapping[int, Any] = _NONE_GIVEN, handle: Any = None) -> list[Action]:
        """What to do about `event`.

        `given`: outcomes of tasks already over that it refers to, by id. `handle`: whatever the submitter wants back
        when the task settles.
        """
        actions: list[Action] = []
        node = self.nodes.get(event.task)
        if isinstance(event, Submitted):
            if node is None:
                self._submit(event, given, handle, actions)
        elif node is not None:
            handler, states = _HANDLERS[type(event)]
            if node.state in states:
                handler(self, node, event, given, actions)
        return actions

    # -- submission ------------------------------------------------------------------------------------------------

    def _submit(self, event: Submitted, given: Mapping[int, Any], handle: Any, actions: list[Action]) -> None:
        record = event.record
        node = self.nodes[record.id] = Node(record, self.works[record.work], handle)
        if record.inputs:
            self._need(node, record.inputs, given, actions)
            if node.state.final:
                return
        if not node.missing:
            node.state = State.ready
            actions.append(Ready(record.id))

    def _need(self, node: Node, inputs: tuple[int, ...], given: Mapping[int, Any], actions: list[Action]) -> None:
        """Make `node` wait for `inputs`; settle it at once when one of them has failed already."""
        node.got = got = node.got or {}
        failed: Failure | None = None
        for task in inputs:
            parent = self.nodes.get(task)
            if parent is not None:
                if parent.children is None:
                    parent.children = []
                parent.children.append(node.record.id)
                node.missing += 1
                node.depth = max(node.depth, parent.depth + 1)
            elif isinstance(outcome := given[task], Failure):
                failed = failed or from_label(f"task {task}", outcome)
            else:
                got[task] = outcome
        if failed is not None:
            self._settle(node, _dependency(node, failed), actions)

    # -- placement and progress ------------------------------------------------------------------------------------

    def _placed(self, node: Node, event: Placed, given: Mapping[int, Any], actions: list[Action]) -> None:
        if event.attempt > node.attempt:
            node.state = State.placed
            node.attempt = event.attempt

    def _started(self, node: Node, event: Started, given: Mapping[int, Any], actions: list[Action]) -> None:
        if event.attempt == node.attempt:
            node.state = State.running

    def _returned(self, node: Node, event: Returned, given: Mapping[int, Any], actions: list[Action]) -> None:
        if event.attempt == node.attempt:
            node.state = State.ready
            actions.append(Ready(event.task))

    def _due(self, node: Node, event: Due, given: Mapping[int, Any], actions: list[Action]) -> None:
        if event.attempt == node.attempt and not node.missing:  # with some missing, it does not wait for a pause
            node.state = State.ready
            actions.append(Ready(event.task))

    # -- ends ------------------------------------------------------------------------------------------------------

    def _finished(self, node: Node, event: Finished, given: Mapping[int, Any], actions: list[Action]) -> None:
        if event.attempt != node.attempt or (node.state in (State.waiting, State.ready) and not event.recalled):
            return
        outcome: Any = event.outcome
        if isinstance(outcome, Failure) and not event.recalled:
            if self._retry(node, outcome, actions):
                return
            outcome = msgspec.structs.replace(outcome, attempt=event.attempt)
        self._settle(node, outcome, actions)

    def _retry(self, node: Node, failure: Failure, actions: list[Action]) -> bool:
        tries = node.tries or Tries(node.work.resources)
        if failure.kind == WORKER_LOST:
            tries.lost += 1
        elif failure.kind != REQUEUED:
            tries.charged += 1
        verdict = (
            None if failure.final else decide(node.work.retry, failure.kind, tries.charged, tries.lost, tries.needs)
        )
        if verdict is None:
            return False
        tries.pause, tries.needs = verdict
        tries.message = failure.message
        node.tries = tries
        if tries.pause > 0:
            node.state = State.waiting
            actions.append(Pause(node.record.id, node.attempt, tries.pause))
        else:
            node.state = State.ready
            actions.append(Ready(node.record.id))
        return True

    def _expanded(self, node: Node, event: Expanded, given: Mapping[int, Any], actions: list[Action]) -> None:
        if event.attempt != node.attempt:
            return
        cycle = self._cycle(node, event.children)
        if cycle is not None:
            message = f"it returned the future of {cycle}, which waits for it"
            hint = "a join may return only futures of tasks that do not need its own result"
            self._settle(node, Failure(USER, message, hint=hint, code="cycle"), actions)
            return
        node.state = State.waiting
        node.join = event
        node.got = None  # its arguments did their work
        self._need(node, event.children, given, actions)
        if not node.missing and not node.state.final:
            self._settle(node, _joined(node), actions)

    def _cycle(self, node: Node, children: tuple[int, ...]) -> str | None:
        """The label of one of `children` that waits, through any number of others, for `node`; or None.

        It looks at what they wait for, since a body's tasks are mostly new: those behind `node` may be many more.
        """
        seen: set[int] = set()
        for child in children:
            stack = [child]
            while stack:
                task = stack.pop()
                found = self.nodes.get(task)
                if found is None or task in seen:
                    continue
                if found is node:
                    return self.nodes[child].label
                seen.add(task)
                if found.missing:
                    stack.extend(found.needed)
        return None

    def _cancelled(self, node: Node, event: Cancelled, given: Mapping[int, Any], actions: list[Action]) -> None:
        self._settle(node, event.failure, actions)

    def _settle(self, first: Node, outcome: Any, actions: list[Action]) -> None:
        """End `first`, and whatever its end decides for others: a loop, since chains are long."""
        stack: list[tuple[Node, Any]] = [(first, outcome)]
        while stack:
            node, outcome = stack.pop()
            task = node.record.id
            if self.nodes.pop(task, None) is None:
                continue
            failed = isinstance(outcome, Failure)
            cancelled = failed and outcome.kind == CANCELLED
            if failed:
                outcome = from_label(node.label, outcome)
            if cancelled and node.state in (State.placed, State.running):
                actions.append(Stop(task, node.attempt, outcome.message))
            elif cancelled and node.state is State.ready:
                actions.append(Withdraw(node))
            node.state = (State.cancelled if cancelled else State.failed) if failed else State.done
            actions.append(Settle(task, node.state, outcome, node.handle))
            if cancelled and node.join is not None:
                reason = f"{node.label}, which returned its future, was cancelled"
                inner = [self.nodes.get(child) for child in node.join.children]
                stack.extend((one, Failure(CANCELLED, reason)) for one in reversed(inner) if one is not None)
            for child in node.children or ():
                waiting = self.nodes.get(child)
                if waiting is None:
                    continue
                if failed:
                    stack.append((waiting, _dependency(waiting, outcome)))
                else:
                    self._receive(waiting, task, outcome, actions, stack)

    def _receive(self, node: Node, task: int, value: Any, actions: list[Action], stack: list[tuple[Node, Any]]) -> None:
        assert node.got is not None
        node.got[task] = value
        node.missing -= 1
        if node.missing:
            return
        if node.join is not None:
            stack.append((node, _joined(node)))
        else:
            node.state = State.ready
            actions.append(Ready(node.record.id))


def _joined(node: Node) -> Any:
    """The value of a join whose tasks are all done."""
    assert node.join is not None
    got = node.got or {}
    shape = node.join.shape
    if shape is None:
        return got[node.join.children[0]]
    return Joined(shape, tuple(got[task] for task in node.join.children))


class Joined(msgspec.Struct, frozen=True):
    """The value of a join: the frame that its body returned, and the values that fill its gaps, in order."""

    shape: Payload
    values: tuple[Any, ...]


def from_label(label: str, failure: Failure) -> Failure:
    """`failure` with a chain, which begins with `label` when it has none."""
    return failure if failure.chain else msgspec.structs.replace(failure, chain=(label,))


def _dependency(node: Node, failure: Failure) -> Failure:
    """The failure of `node` because of one that it needed, whose `chain` begins with that one."""
    chain = (node.label, *failure.chain)
    if len(chain) > _LONGEST_CHAIN:
        half = _LONGEST_CHAIN // 2
        chain = (*chain[:half], "…", *chain[-half:])
    cancelled = failure.kind == CANCELLED
    message = failure.message
    if len(failure.chain) == 1:  # the first to suffer says whose fault it is; all behind it say the same
        what = ", which it needs, was cancelled" if cancelled else " failed"
        message = f"{chain[1]}{what}: {message.removeprefix('cancelled ')}"
    return Failure(
        CANCELLED if cancelled else DEPENDENCY,
        message,
        exception=failure.exception,
        traceback=failure.traceback,
        chain=chain,
        hint=failure.hint,
        exit=failure.exit,
        stdout=failure.stdout,
        stderr=failure.stderr,
    )


def _accepting(kind: type) -> tuple[State, ...]:
    return tuple(state for state, name in TRANSITIONS if name == kind.__name__.lower())


_Handler = Callable[[Graph, Node, Any, Mapping[int, Any], list[Action]], None]
_HANDLERS: dict[type, tuple[_Handler, tuple[State, ...]]] = {
    kind: (handler, _accepting(kind))
    for kind, handler in (
        (Placed, Graph._placed),
        (Started, Graph._started),
        (Returned, Graph._returned),
        (Due, Graph._due),
        (Finished, Graph._finished),
        (Expanded, Graph._expanded),
        (Cancelled, Graph._cancelled),
    )
}

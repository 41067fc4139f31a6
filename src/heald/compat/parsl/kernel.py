"""DataFlowKernel: which tasks are ready, and what becomes of them. Executors run them.

One thread of its own does what the end of a task starts: launches those that waited for it, retries, completes
futures. So users' retry handlers, memoizers and callbacks never hold up the threads that drive heald's tasks.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import queue
import random
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from datetime import datetime
from typing import Any

from heald.compat.parsl import log
from heald.compat.parsl.config import Config
from heald.compat.parsl.dependency import SHALLOW_DEPENDENCY_RESOLVER
from heald.compat.parsl.error import (
    ConfigurationError,
    DataFlowException,
    DependencyError,
    JoinError,
    NoDataFlowKernelError,
    RemoteExceptionWrapper,
    translated,
)
from heald.compat.parsl.executor import ParslExecutor, ThreadPoolExecutor
from heald.compat.parsl.future import AppFuture, DataFuture
from heald.compat.parsl.memo import BasicMemoizer
from heald.compat.parsl.staging import DataManager
from heald.compat.parsl.state import FINAL_STATES, States, TaskRecord

AUTO_LOGNAME = -1
_INTERNAL = "_parsl_internal"
_logger = logging.getLogger("parsl.dataflow.dflow")


class DataFlowKernel:
    """Runs apps on the executors of `config`, from its making to `cleanup`."""

    def __init__(self, config: Config) -> None:
        if not isinstance(config, Config):
            raise TypeError(f"{config!r} is no Config")
        self.config = config
        self.run_id = str(uuid.uuid4())
        self.run_dir = _new_folder(config.run_dir)
        self.cleanup_called = False
        self.tasks: dict[int, TaskRecord] = {}
        self.task_state_counts = dict.fromkeys(States, 0)
        self._ids = itertools.count()
        self._guard = threading.Lock()
        self._launching = threading.RLock()
        self._acts: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._unlog = log.begin(config.initialize_logging, self.run_dir)
        self.dependency_resolver = config.dependency_resolver or SHALLOW_DEPENDENCY_RESOLVER
        self.memoizer = config.memoizer or BasicMemoizer()
        self.memoizer.start(run_dir=self.run_dir, config_run_dir=config.run_dir)
        self.monitoring = config.monitoring
        if self.monitoring:
            self.monitoring.begin(self)
        self.data_manager = DataManager(self)
        self.executors: dict[str, ParslExecutor] = {}
        self.add_executors(config.executors)
        self.add_executors([ThreadPoolExecutor(label=_INTERNAL, max_threads=config.internal_tasks_max_threads)])
        self._thread = threading.Thread(target=self._serve, name="parsl-dataflow", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)
        _logger.info("run %s in %s", self.run_id, self.run_dir)

    @property
    def task_count(self) -> int:
        """How many tasks there were so far."""
        return sum(self.task_state_counts.values())

    def add_executors(self, executors: Sequence[ParslExecutor]) -> None:
        """Start executors, and run tasks on them."""
        for executor in executors:
            executor.run_id = self.run_id
            executor.run_dir = self.run_dir
            executor.max_idletime = None if self.config.strategy in (None, "none") else self.config.max_idletime
            executor.start()
            self.executors[executor.label] = executor
            if self.monitoring:
                self.monitoring.started(executor)

    # -- submitting --------------------------------------------------------------------------------------------------

    def submit(
        self,
        func: Callable[..., Any],
        app_args: Sequence[Any],
        executors: str | Sequence[str],
        cache: bool,
        ignore_for_cache: Sequence[str] | None,
        app_kwargs: dict[str, Any],
        join: bool = False,
    ) -> AppFuture:
        """Make a call a task. Raises NoDataFlowKernelError after `cleanup`."""
        if self.cleanup_called:
            raise NoDataFlowKernelError("Cannot submit to a DFK that has been cleaned up")
        if isinstance(executors, str):
            executors = [label for label in self.executors if label != _INTERNAL]
        kwargs = dict(app_kwargs)
        for name in ("inputs", "outputs"):
            if name in kwargs:
                kwargs[name] = list(kwargs[name])  # the caller's own is left as it is
        record: TaskRecord = {
            "id": next(self._ids),
            "dfk": self,
            "func": func,
            "func_name": getattr(func, "__name__", type(func).__name__),
            "args": app_args,
            "kwargs": kwargs,
            "executor": executors[0] if len(executors) == 1 else random.choice(executors),
            "resource_specification": kwargs.get("parsl_resource_specification") or {},
            "memoize": cache,
            "ignore_for_cache": list(ignore_for_cache or ()),
            "hashsum": None,
            "from_memo": None,
            "depends": [],
            "join": join,
            "joins": None,
            "exec_fu": None,
            "try_id": 0,
            "fail_count": 0,
            "fail_cost": 0,
            "fail_history": [],
            "time_invoked": datetime.now(),
            "time_returned": None,
            "try_time_launched": None,
            "try_time_returned": None,
        }
        self._name_logs(record)
        record["app_fu"] = future = AppFuture(record)
        if not kwargs.get("_parsl_staging_inhibit"):
            self.data_manager.stage(record)
        else:
            future._outputs = [DataFuture(future, file, tid=record["id"]) for file in kwargs.get("outputs", ())]
        record["depends"] = depends = self._depends(record)
        self._change(record, States.pending)
        self.tasks[record["id"]] = record
        if depends:
            _when_all(depends, lambda: self._acts.put(lambda: self._launch(record)))
        else:
            self._launch(record)
        return future

    def _name_logs(self, record: TaskRecord) -> None:
        for name in ("stdout", "stderr"):
            if record["kwargs"].get(name) == AUTO_LOGNAME:
                record["ignore_for_cache"].append(name)
                record["kwargs"][name] = (self.config.std_autopath or self.default_std_autopath)(record, name)

    def default_std_autopath(self, taskrecord: TaskRecord, kw: str) -> str:
        """The file that `stdout=parsl.AUTO_LOGNAME` means: by the number, the app and the label of the task."""
        number, label = taskrecord["id"], taskrecord["kwargs"].get("label")
        name = f"task_{number:04}_{taskrecord['func_name']}{'' if label is None else f'_{label}'}.{kw}"
        return os.path.join(self.run_dir, "task_logs", f"{number // 10000:04}", name)

    def _depends(self, record: TaskRecord) -> list[Future[Any]]:
        gather, kwargs = self.dependency_resolver.traverse_to_gather, record["kwargs"]
        found = [future for value in (*record["args"], *kwargs.values()) for future in gather(value)]
        return found + [future for value in kwargs.get("inputs", ()) for future in gather(value)]

    # -- launching ---------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (act := self._acts.get()) is not None:
            try:
                act()
            except Exception:
                _logger.exception("a task could not be followed")

    def _launch(self, record: TaskRecord) -> None:
        """Start a task whose dependencies are all over."""
        with self._launching:  # memoizers expect one task at a time
            try:
                failures = self._unwrap(record) if record["depends"] else []
                if failures:
                    self._fail(record, States.dep_fail, DependencyError(failures, record["id"]))
                    return
                record["try_time_launched"] = datetime.now()
                future = self._start(record)
            except Exception as raised:
                future = Future()
                future.set_exception(raised)
            record["exec_fu"] = future
        future.add_done_callback(lambda over: self._acts.put(lambda: self._returned(record, over)))

    def _start(self, record: TaskRecord) -> Future[Any]:
        found: Future[Any] | None = self.memoizer.check_memo(record)
        record["from_memo"] = found is not None
        if found is not None:
            return found
        if record["executor"] not in self.executors:
            known = ", ".join(self.executors)
            raise ValueError(f"Task {record['id']} requested invalid executor {record['executor']}: there are {known}")
        executor = self.executors[record["executor"]]
        future = executor.submit(record["func"], record["resource_specification"], *record["args"], **record["kwargs"])
        self._change(record, States.launched)
        return future

    def _unwrap(self, record: TaskRecord) -> list[tuple[BaseException, str]]:
        """Put results in place of futures; the failures among them."""
        failures: list[tuple[BaseException, str]] = []

        def value(given: Any) -> Any:
            try:
                return self.dependency_resolver.traverse_to_unwrap(given)
            except Exception as raised:
                failures.append((raised, self.render_future_description(given)))

        record["args"] = [value(one) for one in record["args"]]
        record["kwargs"] = {name: value(one) for name, one in record["kwargs"].items()}
        if "inputs" in record["kwargs"]:
            record["kwargs"]["inputs"] = [value(one) for one in record["kwargs"]["inputs"]]
        return failures

    def render_future_description(self, dep: Any) -> str:
        """What a future is called in messages."""
        if isinstance(dep, AppFuture) and dep.task_record["dfk"] is self:
            return f"task {dep.tid}"
        return f"DataFuture from task {dep.tid}" if isinstance(dep, DataFuture) else repr(dep)

    # -- ending ------------------------------------------------------------------------------------------------------

    def _returned(self, record: TaskRecord, future: Future[Any]) -> None:
        """An attempt is over: retry, join, or complete."""
        if record["app_fu"].done():
            return  # cleaned up meanwhile
        record["try_time_returned"] = datetime.now()
        try:
            value = future.result()
            if isinstance(value, RemoteExceptionWrapper):
                value.reraise()
        except BaseException as raised:
            self._failed(record, translated(raised, self.executors.get(record["executor"])))
            return
        if record["join"] and not record["from_memo"]:
            self._join(record, value)
        else:
            self._succeed(record, States.memo_done if record["from_memo"] else States.exec_done, value)

    def _failed(self, record: TaskRecord, raised: BaseException) -> None:
        record["fail_history"].append(repr(raised))
        record["fail_count"] += 1
        cost: float = 1
        if self.config.retry_handler is not None:
            try:
                cost = self.config.retry_handler(raised, record)
            except Exception as broken:
                raised, cost = broken, self.config.retries + 1
        record["fail_cost"] += cost
        if record["fail_cost"] <= self.config.retries and not self.cleanup_called:
            self._change(record, States.fail_retryable)
            record["try_id"] += 1
            record["try_time_launched"] = record["try_time_returned"] = None
            self._change(record, States.pending)
            self._launch(record)
        else:
            self._fail(record, States.failed, raised)

    def _join(self, record: TaskRecord, joined: Any) -> None:
        futures = joined if isinstance(joined, list) else [joined]
        if not all(isinstance(one, Future) for one in futures):
            text = f"join_app body must return a Future or list of Futures, got {joined} of type {type(joined)}"
            self._fail(record, States.failed, TypeError(text))
            return
        record["joins"] = joined
        self._change(record, States.joining)
        _when_all(futures, lambda: self._acts.put(lambda: self._joined(record, futures)))

    def _joined(self, record: TaskRecord, futures: list[Future[Any]]) -> None:
        found = [(one.exception(), one) for one in futures]
        failures = [(raised, self.render_future_description(one)) for raised, one in found if raised is not None]
        if failures:
            error = JoinError(failures, record["id"])
            record["fail_history"].append(repr(error))
            record["fail_count"] += 1
            self._fail(record, States.failed, error)
        else:
            values = [one.result() for one in futures]
            self._succeed(record, States.exec_done, values if isinstance(record["joins"], list) else values[0])

    def _succeed(self, record: TaskRecord, state: States, value: Any) -> None:
        self._end(record, state, lambda: self.memoizer.update_memo_result(record, value))
        record["app_fu"].set_result(value)

    def _fail(self, record: TaskRecord, state: States, raised: BaseException) -> None:
        _logger.info("task %s (%s) failed: %r", record["id"], record["func_name"], raised)
        self._end(record, state, lambda: self.memoizer.update_memo_exception(record, raised))
        record["app_fu"].set_exception(raised)

    def _end(self, record: TaskRecord, state: States, remember: Callable[[], None]) -> None:
        record["time_returned"] = datetime.now()
        try:
            remember()
        except Exception:
            _logger.exception("the memoizer did not take task %s", record["id"])
        self._change(record, state)
        if self.config.garbage_collect:
            self.tasks.pop(record["id"], None)

    def _change(self, record: TaskRecord, state: States) -> None:
        with self._guard:
            before = record.get("status")
            if before is not None:
                self.task_state_counts[before] -= 1
            self.task_state_counts[state] += 1
            record["status"] = state
        if self.monitoring:
            self.monitoring.changed(record)

    # -- waiting and closing -----------------------------------------------------------------------------------------

    def wait_for_current_tasks(self) -> None:
        """Wait for the end of all tasks that there are now."""
        wait([record["app_fu"] for record in list(self.tasks.values())])

    def cleanup(self) -> None:
        """End everything: threads finish what they were given, other executors stop. No future stays unresolved."""
        if self.cleanup_called:
            raise DataFlowException("attempt to clean up DFK when it has already been cleaned-up")
        self.cleanup_called = True
        atexit.unregister(self._at_exit)
        for executor in self.executors.values():
            executor.shutdown()
        self._acts.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        for record in list(self.tasks.values()):
            if record["status"] not in FINAL_STATES:
                text = (
                    f"task {record['id']} ({record['func_name']}) was not over when its DataFlowKernel was cleaned up"
                )
                self._fail(record, States.failed, DataFlowException(text))
        self.memoizer.close()
        if self.monitoring:
            self.monitoring.close()
        if DataFlowKernelLoader._dfk is self:
            DataFlowKernelLoader.clear()
        counts = [f"Tasks in state {state}: {count}" for state, count in self.task_state_counts.items() if count]
        _logger.info("\n".join(["Summary of tasks in DFK:", *counts]))
        self._unlog()

    def _at_exit(self) -> None:
        if not self.cleanup_called:
            self.cleanup()

    def __enter__(self) -> DataFlowKernel:
        return self

    def __exit__(self, kind: type[BaseException] | None, raised: object, trace: object) -> None:
        mode = self.config.exit_mode
        if mode == "skip":
            return
        if mode == "wait" and kind is None:
            self.wait_for_current_tasks()
        self.cleanup()


def _when_all(futures: Sequence[Future[Any]], act: Callable[[], None]) -> None:
    """Call `act` once, when all of them are over; at once when there are none."""
    left = itertools.count(len(futures) - 1, -1)  # one step is one bytecode: safe between threads

    def count(_: object) -> None:
        if next(left) == 0:
            act()

    for future in futures:
        future.add_done_callback(count)
    if not futures:
        act()


def _new_folder(root: str) -> str:
    """The next numbered folder in `root`, made in a step that two processes cannot both do."""
    os.makedirs(root, exist_ok=True)
    while True:
        number = max((int(name) + 1 for name in os.listdir(root) if name.isdigit()), default=0)
        path = os.path.join(root, f"{number:03}")
        with suppress(FileExistsError):
            os.mkdir(path)
            return path


class DataFlowKernelLoader:
    """Which DataFlowKernel apps go to."""

    _dfk: DataFlowKernel | None = None

    @classmethod
    def load(cls, config: Config | None = None) -> DataFlowKernel:
        """Make one from `config` (threads of this process when there is none). Raises when one is loaded."""
        if cls._dfk is not None:
            raise ConfigurationError("Config has already been loaded")
        cls._dfk = DataFlowKernel(config if config is not None else Config())
        return cls._dfk

    @classmethod
    def dfk(cls) -> DataFlowKernel:
        """The one that is loaded. Raises NoDataFlowKernelError when there is none."""
        if cls._dfk is None:
            raise NoDataFlowKernelError("Must first load config")
        return cls._dfk

    @classmethod
    def clear(cls) -> None:
        """Forget the one that is loaded; it goes on."""
        cls._dfk = None

    @classmethod
    def wait_for_current_tasks(cls) -> None:
        """Wait for the end of all tasks that there are now."""
        cls.dfk().wait_for_current_tasks()


load = DataFlowKernelLoader.load
dfk = DataFlowKernelLoader.dfk
clear = DataFlowKernelLoader.clear
wait_for_current_tasks = DataFlowKernelLoader.wait_for_current_tasks

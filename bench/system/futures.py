"""The standard library's executors, and what every `concurrent.futures` executor shares: no dependencies."""

from concurrent.futures import Executor, Future
from itertools import count
from typing import ClassVar

from bench.adapter import Adapter


class Futures(Adapter):
    """An executor of `concurrent.futures`; dependencies by callbacks, as its users write them."""

    imports = "from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor"
    executor: Executor

    def submit(self, task, *args):
        return self.executor.submit(task, *args)

    def after(self, task, *args):
        parents = [value for value in args if isinstance(value, Future)]
        outcome = Future()
        others = count(len(parents) - 1, -1)  # one step is atomic

        def finish(child):
            if error := child.exception():
                outcome.set_exception(error)
            else:
                outcome.set_result(child.result())

        def parent_done(_):
            if next(others):
                return
            try:
                values = [value.result() if isinstance(value, Future) else value for value in args]
                self.submit(task, *values).add_done_callback(finish)
            except Exception as error:
                outcome.set_exception(error)

        for parent in parents:
            parent.add_done_callback(parent_done)
        return outcome

    def map(self, task, values):
        return self.executor.map(task, values)

    def stop(self):
        self.executor.shutdown()


class Thread(Futures):
    def start(self):
        from concurrent.futures import ThreadPoolExecutor

        self.executor = ThreadPoolExecutor(self.workers)


class Process(Futures):
    limits: ClassVar = {"map": 100_000}

    def start(self):
        from concurrent.futures import ProcessPoolExecutor

        self.executor = ProcessPoolExecutor(self.workers)

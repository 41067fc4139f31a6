"""Many calls of one function, a bounded number of them ahead of whoever reads the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from heald.core.errors import UsageError
from heald.run.future import Future

T = TypeVar("T")


class FutureMap(Generic[T]):
    """An iterator over futures, in order; the first `window` tasks are submitted at once.

    Each future that is taken makes room for the next input, so a generator of ten million inputs is read as the
    results are.
    """

    def __init__(self, submit: Callable[..., Future[T]], calls: Iterable[tuple[Any, ...]], window: int) -> None:
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise UsageError(f"window={window!r}: must be a whole number, at least 1")
        self._submit = submit
        self._calls = iter(calls)
        self._ahead: deque[Future[T]] = deque(submit(*call) for call in islice(self._calls, window))

    def __iter__(self) -> Iterator[Future[T]]:
        return self

    def __next__(self) -> Future[T]:
        if not self._ahead:
            raise StopIteration
        for call in islice(self._calls, 1):  # first: what reading an input raises takes no future with it
            self._ahead.append(self._submit(*call))
        return self._ahead.popleft()

    def results(self, timeout: float | None = None) -> Iterator[T]:
        """The values, in order; `timeout` seconds at most for each. Raises what the tasks raise."""
        for future in self:
            yield future.result(timeout)

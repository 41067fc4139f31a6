"""The contract of executors, over ours and the standard library's: it is theirs, and ours keep it."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Iterator

import pytest

import heald
from heald.testing.executor import ExecutorContract


class TestThreadPoolExecutor(ExecutorContract):
    pickles = False
    test_map_refuses_a_chunksize_below_one = None  # it has no chunks

    @pytest.fixture
    def executor(self) -> Iterator[concurrent.futures.Executor]:
        with concurrent.futures.ThreadPoolExecutor(self.workers) as executor:
            yield executor


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestProcessPoolExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Iterator[concurrent.futures.Executor]:
        # To fork is quicker by far, and safe here: no other thread does anything.
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(self.workers, context) as executor:
            yield executor


class TestThreadExecutor(ExecutorContract):
    pickles = False

    @pytest.fixture
    def executor(self) -> Iterator[concurrent.futures.Executor]:
        with heald.ThreadExecutor(self.workers) as executor:
            yield executor


class TestProcessExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Iterator[concurrent.futures.Executor]:
        with heald.ProcessExecutor(self.workers) as executor:
            yield executor

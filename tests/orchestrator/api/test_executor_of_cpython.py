"""CPython's own tests of executors, run with ours, where the interpreter came with its tests."""

from __future__ import annotations

import importlib
import unittest
from types import ModuleType
from typing import Any

import pytest

from orchestrator import Executor
from orchestrator.util.synchronization import Event


def cpython(name: str) -> ModuleType:
    """A module of `test.test_concurrent_futures`, a package since 3.12 and one file before."""
    for path in (f"test.test_concurrent_futures.{name}", "test.test_concurrent_futures"):
        try:
            return importlib.import_module(path)
        except ImportError:
            continue
    pytest.skip("this interpreter came without its own tests", allow_module_level=True)


pytestmark = pytest.mark.usefixtures("shared_session")


class OurExecutor:
    """What CPython's mixins want of a test case."""

    executor_type = Executor
    worker_count = 5
    executor: Executor

    def setUp(self) -> None:
        # Without CPUs, so that as many calls run at once as the tests expect.
        self.executor = Executor(max_workers=self.worker_count, num_cpus=0)

    def tearDown(self) -> None:
        self.executor.shutdown()

    def create_event(self) -> Any:
        return Event()


class TestExecutor(OurExecutor, cpython("executor").ExecutorTest, unittest.TestCase):
    pass


class TestWait(OurExecutor, cpython("test_wait").WaitTests, unittest.TestCase):
    pass


class TestAsCompleted(OurExecutor, cpython("test_as_completed").AsCompletedTests, unittest.TestCase):
    pass

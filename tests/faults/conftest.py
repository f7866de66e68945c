"""Sessions for the tests of faults, and what they count afterwards."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator

import pytest

import orchestrator
from orchestrator.core.runtime import require
from tests.leaks import holdings, leaked_since


@pytest.fixture
def start() -> Iterator[Callable[..., orchestrator.api.session.Session]]:
    """Start sessions; when the test is over nothing of them is left."""
    before = holdings()

    def init(num_cpus: float = 2) -> orchestrator.api.session.Session:
        return orchestrator.init(num_cpus=num_cpus, object_store_memory=1 << 30, log_to_driver=False)

    yield init
    orchestrator.shutdown()
    leaked = leaked_since(before)
    assert not leaked, "\n".join(leaked)


@pytest.fixture
def session(start: Callable[..., orchestrator.api.session.Session]) -> orchestrator.api.session.Session:
    """A session with two CPUs."""
    return start(2)


def objects_over(size_bytes: int) -> list[object]:
    """Objects of the store at least this large, once those on their way out are gone."""
    pause = threading.Event()
    for _ in range(500):
        gc.collect()
        found = [info for info in require().store.list() if info.size_bytes >= size_bytes]
        if not found:
            break
        pause.wait(0.01)
    audit = require().store.audit()
    assert audit.ok, audit.problems
    return found

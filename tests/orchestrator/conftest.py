"""Sessions for the tests of the runtime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import orchestrator
from tests.leaks import holdings, leaked_since


@pytest.fixture
def session() -> Iterator[orchestrator.api.session.Session]:
    """A session with two CPUs; when it is over, no process, descriptor, thread or memory of it is left."""
    before = holdings()
    running = orchestrator.init(num_cpus=2, object_store_memory=2 << 30)
    try:
        yield running
    finally:
        orchestrator.shutdown()
    leaked = leaked_since(before)
    assert not leaked, "\n".join(leaked)


@pytest.fixture(scope="module")
def shared_session() -> Iterator[None]:
    """One session for all tests of a module that leave nothing behind in it."""
    orchestrator.init(num_cpus=2, object_store_memory=2 << 30)
    try:
        yield
    finally:
        orchestrator.shutdown()

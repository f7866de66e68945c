"""Sessions for the tests of the runtime.

The suite of usage runs in both modes of `init`: in a module with `both_modes` in its `pytestmark`, each test
with one of the sessions below, or with `mode`, runs once with processes and once inline. What cannot hold
inline says why:

    @pytest.mark.not_inline("kills a process")      # a test or a class
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import orchestrator
from tests.leaks import holdings, leaked_since

MODES = ("processes", "inline")
#: In modules marked so, tests with `shared_session` run a third time, with every task on another node.
ELSEWHERE = "elsewhere"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_modes: runs with processes and inline")
    config.addinivalue_line("markers", "elsewhere_too: what uses shared_session also runs in a cluster")
    config.addinivalue_line("markers", "not_inline(reason): holds only where tasks have processes")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mode" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_modes"):
        modes = MODES[:1] if metafunc.definition.get_closest_marker("not_inline") else MODES
        if metafunc.definition.get_closest_marker("elsewhere_too") and "session" not in metafunc.fixturenames:
            modes = (*modes, ELSEWHERE)
        metafunc.parametrize("mode", modes, scope="module", indirect=True)


@pytest.fixture(scope="module")
def mode(request: pytest.FixtureRequest) -> str:
    """The mode of the sessions of this test."""
    return str(getattr(request, "param", MODES[0]))


@pytest.fixture
def session(mode: str) -> Iterator[orchestrator.api.session.Session]:
    """A session with two CPUs; when it is over, no process, descriptor, thread or memory of it is left."""
    before = holdings()
    running = orchestrator.init(num_cpus=2, object_store_memory=2 << 30, mode=mode)
    try:
        yield running
    finally:
        orchestrator.shutdown()
    leaked = leaked_since(before)
    assert not leaked, "\n".join(leaked)


@pytest.fixture(scope="module")
def shared_session(mode: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """One session for all tests of a module that leave nothing behind in it."""
    if mode == ELSEWHERE or (request.config.getoption("--elsewhere") and mode == MODES[0]):
        with elsewhere():
            yield
        return
    orchestrator.init(num_cpus=2, object_store_memory=2 << 30, mode=mode)
    try:
        yield
    finally:
        orchestrator.shutdown()


@contextmanager
def elsewhere() -> Iterator[None]:
    """A driver on a node without CPUs: every task and actor runs on the other one."""
    from orchestrator.cluster_utils import Cluster

    with Cluster(
        initialize_head=True, connect=True, head_node_args={"num_cpus": 0, "object_store_memory": 2 << 30}
    ) as cluster:
        cluster.add_node(num_cpus=2, object_store_memory=2 << 30)
        cluster.wait_for_nodes()
        yield

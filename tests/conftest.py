"""What all tests share. Fixtures of one package belong to a conftest.py of its own directory."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.leaks"]

# No deadline for one example: no test asserts that something is fast. The seed of a failure is printed.
settings.register_profile(
    "suite", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_configure() -> None:
    # A shell that starts the suite in the background has it ignore Ctrl-C, and so would all its children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--endurance", action="store_true", help="more rounds, in the tests that count them")
    parser.addoption(
        "--elsewhere",
        action="store_true",
        help="shared sessions are clusters: every task runs on another node",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("stress"):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """How often to do something: the first number, or with --endurance the second."""
    endures = request.config.getoption("--endurance")
    return lambda usual, enduring: enduring if endures else usual

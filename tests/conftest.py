"""What all tests share. Fixtures of one package belong to a conftest.py of its own directory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.leaks"]

# No deadline for one example: no test asserts that something is fast. The seed of a failure is printed.
settings.register_profile(
    "suite", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--endurance", action="store_true", help="more rounds, in the tests that count them")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """How often to do something: the first number, or with --endurance the second."""
    endures = request.config.getoption("--endurance")
    return lambda usual, enduring: enduring if endures else usual

"""What all tests share. Fixtures of one package belong to a conftest.py of its own directory."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.leaks"]

# No deadline for one example: no test asserts that something is fast. The seed of a failure is printed.
settings.register_profile(
    "suite", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

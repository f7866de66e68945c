"""What ``plasma.testing`` offers: the conformance suite, and that it does find faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

from plasma import testing
from plasma.testing import CHECKS, check_store, crash_points, temporary_store


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_store_conforms(check):
    with temporary_store(size_bytes=4 << 20) as store:
        check(store)


def test_the_suite_runs_every_check_on_a_store_of_its_own(monkeypatch):
    met = []
    monkeypatch.setattr(testing, "CHECKS", (met.append, met.append))
    check_store(lambda: temporary_store(size_bytes=1 << 20))
    assert len({id(store) for store in met}) == 2


def test_the_suite_finds_a_store_that_forgets():
    class Forgetful:
        def state(self, object_id):
            return 0

        def declare(self, object_id):
            pass

    with pytest.raises(AssertionError):
        testing.check_states_follow_the_life_of_an_object(Forgetful())


def test_a_temporary_store_is_closed_at_the_end():
    with temporary_store() as store:
        assert not store.closed
    assert store.closed


def test_crash_points_have_names_and_kill():
    assert len(crash_points()) > 10
    with pytest.raises(ValueError, match="no crash point"):
        testing.arm_crash_point("no such step")
    code = (
        "import sys, plasma\n"
        "from plasma.testing import arm_crash_point\n"
        "store = plasma.Store.create(1 << 20)\n"
        "arm_crash_point(sys.argv[1], countdown=2)\n"
        "store.put(1); print('once', flush=True)\n"
        "store.put(2); print('twice')\n"
    )
    name = next(name for name in crash_points() if "seal" in name.lower())
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True)
    assert done.returncode == -9
    assert done.stdout == "once\n"

"""Objects that are lost while something else happens to them."""

from __future__ import annotations

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.core.entry import PENDING
from orchestrator.core.references import MissingObject
from orchestrator.core.runtime import require
from tests.orchestrator.core.losing import LENGTH, full, lose
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")


def test_an_object_that_is_lost_while_its_reply_is_being_read():
    """The next run is sent before the dispatcher has heard that the first one was answered."""
    tiny = full.options(num_cpus=2)  # one worker at a time
    ray.get([tiny.remote(0) for _ in range(20)])  # short, so several are sent at once

    def lose_at_once(entry):
        lose(ref)
        require().lineage.recover(entry)

    with require().pump.lock:  # nobody reads the reply before the callback is there
        ref = tiny.remote(3)
        ref._entry.when_done(lose_at_once)
    assert ray.get(ref, timeout=30)[0] == 3
    assert ray.get(tiny.remote(4), timeout=30)[0] == 4


def test_the_news_of_a_loss_may_overtake_the_reply(tmp_path):
    """The node of the only copy dies; its last messages and the news of its death come by different ways."""

    @ray.remote
    def full_then(begun, gate):
        begun.touch()
        until(gate.exists)
        return np.full(LENGTH, 5)

    runtime = require()
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    ref = full_then.remote(begun, gate)
    until(begun.exists)
    with runtime.pump.lock:  # nobody reads the reply
        gate.touch()
        identity = runtime.id_of(ref._entry)
        until(lambda: runtime.store.contains(identity))
        runtime.store.delete(identity)
        runtime.lineage.on_missing({"object": identity.hex()})
    until(lambda: runtime.store.contains(identity))  # others may wait for it, and nobody here does
    assert ray.get(ref, timeout=30)[0] == 5


def test_a_loss_before_the_reply_is_forgotten_when_the_task_fails(tmp_path):
    @ray.remote
    def fail_then(begun, gate):
        begun.touch()
        until(gate.exists)
        raise ValueError("after all")

    runtime = require()
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    ref = fail_then.remote(begun, gate)
    until(begun.exists)
    runtime.lineage.on_missing({"object": runtime.id_of(ref._entry).hex()})
    assert runtime.completion.lost_early
    gate.touch()
    with pytest.raises(ValueError, match="after all"):
        ray.get(ref, timeout=30)
    assert not runtime.completion.lost_early


def test_an_object_that_is_lost_again_after_it_was_waited_for():
    """One thread waits for several objects; another finds one missing before the first has read it."""
    runtime = require()
    ref = full.remote(3)
    entries = runtime.wait_for_all([ref], 30)
    lose(ref)
    with runtime.pump.lock:  # nobody brings it back before it is looked at
        runtime.lineage.recover(ref._entry)
        assert ref._entry.state == PENDING
        with pytest.raises(MissingObject):
            runtime.value_here(entries[0])
    assert ray.get(ref, timeout=30)[0] == 3

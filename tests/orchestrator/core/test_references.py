"""References to objects of other nodes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.common.priority import ARGUMENT, GET, PREFETCH
from orchestrator.core.entry import Entry
from orchestrator.core.references import TAKE_ATTEMPTS, References
from plasma import Store

OBJECT = bytes([0, 1]) + bytes(14)


class Leaving:
    """A store that lets a copy go, as its node does, between a look at it and the reference to it."""

    def __init__(self, store: Store, times: int) -> None:
        self._store = store
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def watch(self, identity: bytes) -> int:
        state = int(self._store.watch(identity))
        if self._times:
            self._times -= 1
            self._store.unwatch(identity)
        return state


@pytest.mark.parametrize("times", [0, 1, TAKE_ATTEMPTS - 1, TAKE_ATTEMPTS])
def test_a_copy_that_goes_while_it_is_wanted_is_wanted_all_the_same(times: int) -> None:
    told: list[dict[str, str]] = []
    with Store.create(1 << 22, name="test") as store:
        references = SimpleNamespace(
            is_foreign=lambda identity: True, _store=Leaving(store, times), _tell_node=told.append
        )
        assert References.take_ref(references, OBJECT) == (times < TAKE_ATTEMPTS)  # type: ignore[arg-type]
        assert told == [{"op": "borrow", "object": OBJECT.hex()}]


def test_the_node_hears_of_who_is_more_urgent_and_of_no_other() -> None:
    told: list[int] = []
    with Store.create(1 << 22, name="test") as store:
        references = References(
            store, lambda entry: entry.ident, 2, lambda said: told.append(said["priority"])
        )  # type: ignore[arg-type,return-value]
        entry = Entry(OBJECT)
        for priority in (PREFETCH, PREFETCH, ARGUMENT, PREFETCH, GET, ARGUMENT, GET):
            references.watch(entry, priority)
        assert told == [PREFETCH, ARGUMENT, GET]
        store.create_buffer(OBJECT, 8).seal()
        references.scan()
        assert entry.state and not references._watched and not references._patient

"""A result that arrives while another thread passes its reference on: there is one reference for both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.common.ids import object_id, process_prefix
from orchestrator.core.entry import Entry
from orchestrator.core.references import References
from plasma.testing import temporary_store

NUMBER = 1 << 24 | 1
#: How long the other thread gets to do what it must not do. It is waited for in vain where all is right.
VAIN_S = 0.1


@pytest.fixture
def setting() -> Iterator[tuple[Any, References, Entry, bytes]]:
    """A store, references in it, and an entry of an object that a task of another process is to make."""
    with temporary_store(1 << 20) as store:
        prefix = process_prefix("session", store.address)
        entry = Entry(NUMBER)
        identity = object_id(prefix, 1)
        yield store, References(store, lambda _: identity), entry, identity


def between(store: Any, references: References, action: Any) -> list[threading.Thread]:
    """Have a thread act right after the store has been told that an object is promised."""
    threads: list[threading.Thread] = []

    class Interrupted:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def declare(self, object_id: bytes) -> None:
            store.declare(object_id)
            threads.append(threading.Thread(target=action))
            threads[0].start()
            threads[0].join(VAIN_S)

    references._store = Interrupted()  # type: ignore[assignment]
    return threads


def test_a_result_is_adopted_while_its_entry_is_promoted(setting: Any) -> None:
    store, references, entry, identity = setting

    def arrive() -> None:
        store.put_parts(identity, [b"value"], referenced=False)
        references.adopt(entry, identity)

    threads = between(store, references, arrive)
    references.promote(entry)
    threads[0].join(10)
    assert store.knows(identity), "its only reference was given back"
    entry.hold = None
    assert not store.knows(identity)


def test_what_a_dead_worker_may_have_stored_is_given_back_while_its_entry_is_promoted(setting: Any) -> None:
    store, references, entry, identity = setting
    threads = between(store, references, lambda: references.give_back(entry))
    references.promote(entry)
    threads[0].join(10)
    assert store.knows(identity), "its only reference was given back"
    entry.hold = None
    assert not store.knows(identity)

"""What an agent keeps stays, and it learns when nobody in the store needs it any more."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plasma import (
    ABSENT,
    CREATED,
    FREED,
    LOST,
    PENDING,
    SEALED,
    SPILLED,
    GetTimeoutError,
    NotOwnerError,
    ObjectLostError,
    Store,
)
from plasma.testing import assert_sound, temporary_store

sys.path.insert(0, str(Path(__file__).parent))
from sleepers import run, until_asleep

A, B, C = (bytes([n]) * 16 for n in (0xA0, 0xB0, 0xC0))
MIB = 1 << 20


@pytest.fixture
def store() -> Iterator[Store]:
    with temporary_store(16 * MIB, name="client") as store:
        yield store


@pytest.fixture
def keeper(store: Store) -> Iterator[Store]:
    with Store.attach(store.fd, name="keeper", agent=True) as keeper:
        yield keeper


def put(store: Store, object_id: bytes, size: int = 1000, **options: object) -> None:
    store.put_parts(object_id, [bytes(size)], **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- keeping


def test_an_unknown_object_is_promised_by_its_keeper(store, keeper):
    assert keeper.keep(A) == PENDING
    assert [(hold.holder, hold.refs, hold.keeps) for hold in store.holds()] == [(keeper.address, 0, True)]
    store.add_ref(A)
    keeper.close()
    assert store.state(A) == LOST
    store.drop_ref(A)


def test_keeping_tells_the_state(store, keeper):
    writing = store.create_buffer(A, 10)
    assert keeper.keep(A) == CREATED
    writing.seal()
    assert keeper.keep(A) == SEALED
    keeper.keep(B)
    keeper.abandon(B)
    assert keeper.keep(B) == LOST


def test_what_is_deleted_is_not_kept(store, keeper):
    put(store, A, referenced=True)
    store.free(A)
    put(store, B)
    view = store.get(B, 0)
    store.delete(B)
    assert (keeper.keep(A), keeper.keep(B)) == (FREED, ABSENT)
    del view
    store.drop_ref(A)
    assert store.list() == []


def test_what_is_kept_outlives_its_last_reference(store, keeper):
    put(store, A, referenced=True)
    keeper.keep(A)
    store.drop_ref(A)
    assert store.contains(A)
    keeper.unkeep(A)
    assert store.state(A) == ABSENT


def test_keeping_twice_is_keeping_once(store, keeper):
    keeper.keep(A)
    keeper.keep(A)
    keeper.unkeep(A)
    assert store.list() == []
    for give_up in (keeper.unkeep, keeper.unkeep_if_unneeded, keeper.drop_copy):
        with pytest.raises(NotOwnerError):
            give_up(A)


def test_what_is_kept_is_not_evicted(store, keeper):
    put(store, A, MIB)
    keeper.keep(A)
    for number in range(50):
        put(store, b"%016d" % number, MIB)
    assert store.contains(A)


def test_what_was_kept_is_freed_and_not_left_to_eviction(store, keeper):
    """Keeping is like referencing: nothing lies about that nobody will ask for."""
    put(store, A)
    keeper.keep(A)
    keeper.unkeep(A)
    assert store.list() == []


def test_a_kept_object_may_go_to_disk_and_come_back(tmp_path):
    with temporary_store(8 * MIB, spill_directory=str(tmp_path / "spilled")) as store:
        keeper = store.stand_in()
        put(store, A, MIB)
        keeper.keep(A)
        number = 0
        while store.state(A) != SPILLED:  # of the same age by a coarse clock, another may go first
            put(store, b"%016d" % number, MIB, referenced=True)
            number += 1
        assert keeper.drop_copy(A)
        assert store.state(A) == PENDING and store.audit().ok
        put(store, A, MIB)
        assert len(store.get(A, 0)) == MIB
        keeper.close()


def test_a_deleted_object_s_keeper_keeps_its_entry(store, keeper):
    put(store, A, referenced=True)
    keeper.keep(A)
    store.free(A)
    store.drop_ref(A)
    assert (store.state(A), store.knows(A), keeper.take_unneeded()) == (FREED, True, [A])
    keeper.unkeep(A)
    assert store.list() == []


def test_a_kept_object_that_was_lost_can_be_promised_anew(store, keeper):
    keeper.keep(A)
    keeper.abandon(A)
    assert keeper.renew(A)
    assert (store.state(A), keeper.keep(A)) == (PENDING, PENDING)
    keeper.drop_ref(A)
    assert store.knows(A), "it is kept still"


# ---------------------------------------------------------------------------------------- news


def uses() -> dict[str, Callable[[Store], Callable[[], object]]]:
    """Ways to use object A, each of which returns how to end it."""

    def reference(store: Store) -> Callable[[], object]:
        store.add_ref(A)
        return lambda: store.drop_ref(A)

    def pin(store: Store) -> Callable[[], object]:
        return store.get(A, 0).release

    def container(store: Store) -> Callable[[], object]:
        store.put_parts(B, [b"b"], contained=[A])
        return lambda: store.delete(B)

    return {"reference": reference, "pin": pin, "container": container}


@pytest.mark.parametrize("use", uses().values(), ids=list(uses()))
def test_the_end_of_the_last_use_is_told_once(store, keeper, use):
    put(store, A)
    keeper.keep(A)
    assert not store.is_needed(A) and keeper.take_unneeded() == [], "never used: no news"
    for _ in range(3):
        end, end_another = use(store), uses()["reference"](store)
        end_another()
        assert store.is_needed(A) and keeper.take_unneeded() == []
        bell = keeper.endpoint.bell()
        end()
        assert keeper.endpoint.bell() != bell
        assert not store.is_needed(A)
        assert keeper.take_unneeded() == [A]
        assert keeper.take_unneeded() == []


def test_the_end_of_a_watch_is_told(store, keeper):
    keeper.keep(A)
    store.watch(A)
    assert store.is_needed(A)
    store.unwatch(A)
    assert keeper.take_unneeded() == [A]
    with pytest.raises(GetTimeoutError):
        store.get(A, 0.001)
    assert keeper.take_unneeded() == [A]


def test_a_thread_that_waits_is_a_use_until_it_has_looked(store, keeper):
    keeper.keep(A)
    seen: list[bytes] = []
    thread = run(lambda: seen.append(bytes(store.get(A, 20))))
    until_asleep(thread)
    assert store.is_needed(A)
    keeper.put_parts(A, [b"came"])
    thread.join()
    assert seen == [b"came"] and keeper.take_unneeded() == [A]


def test_what_agents_hold_is_no_use(store, keeper):
    far = keeper.stand_in()
    put(store, A, owner=far.address)
    keeper.keep(A)
    view = far.get(A, 0)
    keeper.add_ref(A)
    assert not store.is_needed(A)
    store.get(A, 0).release()
    assert keeper.take_unneeded() == [A]
    del view
    far.close()
    keeper.drop_ref(A)
    assert keeper.take_unneeded() == []


def test_what_is_used_again_is_not_told_until_it_is_not(store, keeper):
    put(store, A, referenced=True)
    keeper.keep(A)
    store.drop_ref(A)
    store.add_ref(A)
    assert not keeper.unkeep_if_unneeded(A)
    assert keeper.take_unneeded() == []
    store.drop_ref(A)
    assert keeper.take_unneeded() == [A]


def test_a_keep_is_given_up_only_if_it_is_still_unneeded(store, keeper):
    put(store, A, referenced=True)
    keeper.keep(A)
    store.drop_ref(A)
    view = store.get(A, 0)
    assert not keeper.unkeep_if_unneeded(A) and store.contains(A)
    view.release()
    assert keeper.unkeep_if_unneeded(A)
    assert store.list() == []
    assert keeper.take_unneeded() == [], "the news goes with the keep"


def test_a_stand_in_s_reference_outlives_the_keep(store, keeper):
    far = keeper.stand_in()
    put(store, A, owner=far.address)
    keeper.keep(A)
    assert keeper.unkeep_if_unneeded(A) and store.contains(A)
    far.close()
    assert store.list() == []


def test_each_keeper_is_told(store, keeper):
    second = keeper.stand_in()
    put(store, A, referenced=True)
    assert (keeper.keep(A), second.keep(A)) == (SEALED, SEALED)
    store.drop_ref(A)
    assert second.take_unneeded() == [A]
    second.unkeep(A)
    assert keeper.take_unneeded() == [A] and store.contains(A)
    keeper.unkeep(A)
    assert store.list() == []
    second.close()


def test_news_come_in_portions(store, keeper):
    ids = {number.to_bytes(16, "big") for number in range(1000)}
    for object_id in ids:
        keeper.keep(object_id)
        store.add_ref(object_id)
    assert keeper.take_unneeded() == []
    for object_id in ids:
        store.drop_ref(object_id)
    assert_sound(store)
    assert keeper.take_unneeded(0) == []
    told = keeper.take_unneeded(10)
    assert len(told) == 10
    while more := keeper.take_unneeded():
        assert len(more) <= 256
        told += more
    assert len(told) == 1000 and set(told) == ids


def test_an_event_loop_does_not_sleep_over_news(store, keeper):
    keeper.keep(A)
    store.watch(A)
    assert keeper.endpoint.arm()
    store.unwatch(A)
    assert not keeper.endpoint.arm()
    assert keeper.take_unneeded() == [A]
    assert keeper.endpoint.arm()


def test_the_end_of_a_process_is_told(store, keeper):
    put(store, A, referenced=True)
    put(store, B, contained=[A])
    keeper.keep(A)
    keeper.keep(B)
    store.drop_ref(A)
    with Store.attach(store.fd) as other:
        other.add_ref(B)
        assert keeper.take_unneeded() == []
    assert keeper.take_unneeded() == [B]
    keeper.unkeep(B)
    assert keeper.take_unneeded() == [A]


def test_a_promise_is_no_use(store, keeper):
    keeper.keep(A)
    store.declare(B)
    keeper.keep(B)
    far = keeper.stand_in()
    far.add_ref(B)
    store.drop_ref(B)
    assert keeper.take_unneeded() == [B]
    put(store, B)
    assert keeper.take_unneeded() == [B], "writing it was"
    far.close()


# ---------------------------------------------------------------------------------------- giving up a copy


def test_a_copy_goes_and_references_stay(store, keeper):
    put(store, B)
    put(store, A, 5000, referenced=True, contained=[B])
    keeper.keep(A)
    keeper.keep(B)
    used = store.audit().bytes_used
    assert keeper.drop_copy(A)
    assert store.state(A) == PENDING
    assert store.audit().bytes_used <= used - 5000
    assert keeper.take_unneeded() == [B], "what it contained is given up with it"
    assert not keeper.drop_copy(A), "there is none"
    waiting: list[bytes] = []
    thread = run(lambda: waiting.append(bytes(store.get(A, 20))))
    until_asleep(thread)
    keeper.put_parts(A, [b"again"])
    thread.join()
    assert waiting == [b"again"]
    store.drop_ref(A)


def test_a_copy_that_is_read_stays(store, keeper):
    put(store, A)
    keeper.keep(A)
    view = store.get(A, 0)
    assert not keeper.drop_copy(A)
    assert bytes(view) == bytes(1000)
    view.release()
    assert keeper.drop_copy(A)


def test_the_reference_that_a_creation_gave_is_not_taken_back(store, keeper):
    put(store, A, owner=store.address)
    keeper.keep(A)
    assert keeper.drop_copy(A)
    keeper.unkeep(A)
    assert store.state(A) == PENDING
    store.drop_ref(A)
    assert store.list() == []


def test_a_dropped_copy_is_promised_by_who_dropped_it(store, keeper):
    put(store, A, referenced=True)
    keeper.keep(A)
    keeper.drop_copy(A)
    keeper.close()
    assert store.state(A) == LOST
    store.drop_ref(A)


def test_a_keeper_says_that_an_object_will_never_come(store, keeper):
    keeper.keep(A)
    errors: list[type] = []

    def wait() -> None:
        try:
            store.get(A, 20)
        except ObjectLostError as error:
            errors.append(type(error))

    thread = run(wait)
    until_asleep(thread)
    assert keeper.abandon(A)
    thread.join()
    assert errors == [ObjectLostError]
    assert keeper.take_unneeded() == [A] and store.state(A) == LOST


def test_a_promise_outlives_the_keep(store, keeper):
    keeper.keep(A)
    store.add_ref(A)
    keeper.unkeep(A)
    assert store.state(A) == PENDING
    keeper.close()
    assert store.state(A) == LOST
    store.drop_ref(A)

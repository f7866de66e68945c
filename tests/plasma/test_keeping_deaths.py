"""Keeps and their news when somebody dies: of those who let go, of those who reap, of those who keep."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plasma import (
    ABSENT,
    LOST,
    SPILLED,
    ObjectLostError,
    Store,
)
from plasma.testing import arm_crash_point, assert_sound, temporary_store

sys.path.insert(0, str(Path(__file__).parent))

A, B, C = (bytes([n]) * 16 for n in (0xA0, 0xB0, 0xC0))


@pytest.fixture
def store() -> Iterator[Store]:
    with temporary_store(16 << 20, name="client") as store:
        yield store


@pytest.fixture
def keeper(store: Store) -> Iterator[Store]:
    with Store.attach(store.fd, name="keeper", agent=True) as keeper:
        yield keeper


def put(store: Store, object_id: bytes, size: int = 1000, **options: object) -> None:
    store.put_parts(object_id, [bytes(size)], **options)  # type: ignore[arg-type]


def die(store: Store, body: Callable[[Store], object], point: str | None = None) -> None:
    """A client does `body` and is killed: at a labelled step of it, or after it."""
    pid = os.fork()
    if not pid:
        try:
            prey = Store.attach(store.fd, name="prey")
            if point is not None:
                arm_crash_point(point)
            body(prey)
            if point is None:
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, f"{point} was not reached"


@pytest.mark.parametrize("point", [None, "get_pinned"])
def test_the_death_of_the_last_user_is_told(store, keeper, point):
    put(store, A)
    keeper.keep(A)
    die(store, lambda prey: setattr(prey_views, "view", prey.get(A, 0)), point)
    assert store.is_needed(A) and keeper.take_unneeded() == []
    store.reap()
    assert not store.is_needed(A) and keeper.take_unneeded() == [A]


class prey_views:
    """Keeps what a prey has in view until it dies."""

    view: object


@pytest.mark.parametrize(
    "point",
    ["release_locked", "release_unpinned", "unneeded_told", "unneeded_listed", "release_unheld"],
)
def test_news_survive_a_death_between_letting_go_and_telling(store, keeper, point):
    put(store, A)
    keeper.keep(A)
    die(store, lambda prey: prey.get(A, 0).release(), point)
    store.reap()
    assert keeper.take_unneeded() == [A]
    assert keeper.take_unneeded() == []


@pytest.mark.parametrize("point", ["unneeded_told", "unneeded_listed", "reap_dropping", "reap_dropped"])
def test_news_survive_a_death_of_the_reaper(store, keeper, point):
    put(store, A)
    keeper.keep(A)
    die(store, lambda prey: prey.add_ref(A))
    die(store, lambda reaper: reaper.reap(), point)
    store.reap()
    assert keeper.take_unneeded() == [A]
    assert keeper.take_unneeded() == []


@pytest.mark.parametrize("point", ["unneeded_told", "unneeded_listed"])
def test_a_mark_that_was_made_too_early_is_passed_over(store, keeper, point):
    """Who dies after the mark and before it let go still uses the object, until it is reaped."""
    put(store, A)
    keeper.keep(A)
    die(store, lambda prey: (prey.add_ref(A), prey.close()), point)
    assert keeper.take_unneeded() == [] and store.is_needed(A)
    assert store.reap() == 1
    assert keeper.take_unneeded() == [A]


def test_a_death_does_not_repeat_old_news(store, keeper):
    """Nor does it invent any, of an object that nobody has used yet."""
    ids = [n.to_bytes(16, "big") for n in range(100)]
    for object_id in ids:
        keeper.keep(object_id)
    for object_id in ids[:50]:
        store.add_ref(object_id)
        store.drop_ref(object_id)
    assert set(keeper.take_unneeded()) == set(ids[:50])
    for number in range(100, 200):  # somewhere in each shard
        die(
            store,
            lambda prey, number=number: prey.put_parts(number.to_bytes(16, "big"), [b"x"]),
            "create_held",
        )
        store.reap()
    assert store.stats()["repairs"] >= 100
    assert keeper.take_unneeded() == []
    assert_sound(store)


@pytest.mark.parametrize(
    "point", ["keep_held", "keep_kept", "unneeded_taken", "unkeep_unmarked", "drop_claimed", "delete_intent"]
)
def test_a_death_of_the_keeper(store, point):
    """Whatever step it dies at: what nobody else holds goes, and who waits is told."""
    put(store, B, referenced=True)
    put(store, A, contained=[B])
    store.add_ref(A)

    def body(prey: Store) -> None:
        agent = prey.stand_in()
        agent.keep(A)
        prey.get(A, 0).release()
        store_view = prey.get(B, 0)
        store_view.release()
        agent.keep(C)
        prey.watch(C)
        prey.unwatch(C)
        agent.take_unneeded()
        agent.unkeep(C)
        agent.drop_copy(A)

    die(store, body, point)
    store.reap()
    assert_sound(store)
    assert store.state(C) == ABSENT
    if point in ("drop_claimed", "delete_intent"):
        assert store.state(A) == LOST
        with pytest.raises(ObjectLostError):
            store.get(A)
    else:
        assert store.contains(A)
    store.drop_ref(A)
    store.drop_ref(B)
    assert store.list() == []


@pytest.mark.parametrize("restored", [False, True], ids=["on disk", "restored"])
@pytest.mark.parametrize("point", ["drop_claimed", "delete_cascading", "delete_intent", "delete_file"])
def test_a_death_while_a_copy_with_a_file_is_dropped(tmp_path, point, restored):
    if (point, restored) == ("delete_intent", False):
        return  # it has no memory
    with temporary_store(8 << 20, spill_directory=str(tmp_path / "spilled")) as store:
        store.put_parts(B, [b"inside"])
        put(store, A, 1 << 20, referenced=True, contained=[B])
        number = 0
        while store.state(A) != SPILLED:  # of the same age by a coarse clock, another may go first
            put(store, b"%016d" % number, 1 << 20, referenced=True)
            number += 1
        if restored:
            store.get(A, 0).release()

        def body(prey: Store) -> None:
            agent = prey.stand_in()
            agent.keep(A)
            agent.drop_copy(A)

        die(store, body, point)
        store.reap()
        assert_sound(store)
        assert (store.state(A), store.state(B)) == (LOST, ABSENT)
        store.drop_ref(A)


def test_a_promise_for_another_survives_neither_party_and_no_step(store, keeper):
    """Whoever waits is told, wherever the promiser died."""
    for point in ("keep_held", "get_locked", "create_held", "create_committed", "seal_locked"):
        far = keeper.stand_in()

        def body(prey: Store, owner: int = far.address) -> None:
            prey.declare(A, owner)
            prey.stand_in().keep(B)
            prey.create_buffer(A, 10).abort()
            prey.try_get(A)
            prey.put_parts(A, [b"x"], owner=owner)

        store.watch(A)
        die(store, body, point)
        bell = store.endpoint.bell()
        store.reap()
        assert store.endpoint.bell() != bell
        assert store.state(A) == LOST
        far.close()
        assert store.list() == []

"""Windows that a random kill hits once in a million: each is entered on purpose."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from plasma import ABSENT, LOST, PENDING, GetTimeoutError, ObjectLostError, Store
from plasma.testing import arm_crash_point, temporary_store
from tests.waiting import until

sys.path.insert(0, str(Path(__file__).parent))
from sleepers import run, until_asleep

A, B, C = (bytes([n]) * 16 for n in (0xA0, 0xB0, 0xC0))
TIMEOUT_S = 20.0


@pytest.fixture
def store() -> Iterator[Store]:
    with temporary_store() as store:
        yield store


@pytest.fixture
def other(store: Store) -> Iterator[Store]:
    other = Store.attach(store.fd, name="other")
    yield other
    other.close()


def die_at(store: Store, point: str, body: Callable[[Store], None], countdown: int = 1) -> None:
    """A client does `body` and dies at a labelled step of it."""
    pid = os.fork()
    if not pid:
        try:
            prey = Store.attach(store.fd, name="prey")
            arm_crash_point(point, countdown)
            body(prey)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, f"{point} was not reached"


class Waiting:
    """A thread that waits for an object and tells how it ended."""

    def __init__(self, store: Store, object_id: bytes, timeout_s: float | None = TIMEOUT_S) -> None:
        self.outcome: object = None

        def wait() -> None:
            try:
                self.outcome = bytes(store.get(object_id, timeout_s))
            except Exception as error:
                self.outcome = type(error)

        self.thread = run(wait)
        until_asleep(self.thread)

    def end(self) -> object:
        self.thread.join()
        return self.outcome


# ---------------------------------------------------------------------------------------- waiters


@pytest.mark.parametrize("point", ["seal_committed", "seal_rang"])
def test_who_waits_is_rung_although_the_sealer_died_before_it_rang(store, other, point):
    waiting = Waiting(other, A)
    die_at(store, point, lambda prey: prey.put_parts(A, [b"sealed"], referenced=False))
    store.reap()
    assert waiting.end() == b"sealed"


def test_who_waits_learns_that_the_promiser_died(store, other):
    """Nobody else holds the object: the waiter alone keeps what is lost until it has looked."""

    def promise(prey: Store) -> None:
        prey.declare(A)
        os.kill(os.getpid(), signal.SIGKILL)

    die_at(store, "write", promise)
    waiting = Waiting(other, A)
    store.reap()
    assert waiting.end() is ObjectLostError
    assert store.state(A) == ABSENT


def test_who_waits_learns_that_the_promiser_left(store, other):
    third = Store.attach(store.fd)
    third.declare(A)
    waiting = Waiting(other, A)
    third.close()
    assert waiting.end() is ObjectLostError


def test_a_thread_that_gives_up_does_not_take_anothers_wait_along(store, other):
    patient = Waiting(other, A)
    assert Waiting(other, A, 0.001).end() is GetTimeoutError
    store.put_parts(A, [b"here"])
    assert patient.end() == b"here"


def test_an_abort_does_not_take_the_wait_of_its_own_client_along(store, other):
    waiting = Waiting(other, A)
    other.create_buffer(A, 10).abort()
    store.put_parts(A, [b"here"])
    assert waiting.end() == b"here"


def test_a_wait_for_an_id_whose_last_object_is_still_being_read(store, other):
    store.put_parts(A, [b"old"])
    view = store.get(A, 0)
    store.delete(A)
    waiting = Waiting(other, A)
    del view
    store.put_parts(A, [b"new"])
    assert waiting.end() == b"new"


# ---------------------------------------------------------------------------------------- aborts


def test_an_abort_leaves_the_promise_and_its_reference(store):
    store.declare(A)
    store.create_buffer(A, 10).abort()
    assert store.state(A) == PENDING
    store.put_parts(A, [b"second attempt"])
    store.drop_ref(A)
    assert store.state(A) == ABSENT


def test_an_abort_takes_back_the_reference_that_create_gave(store, other):
    store.create_buffer(A, 10, owner=other.address).abort()
    store.create_buffer(B, 10, referenced=True).abort()
    assert store.list() == []


def test_an_aborted_reference_does_not_doom_the_next_object_of_that_id(store, other):
    other.watch(A)
    store.create_buffer(A, 10, referenced=True).abort()
    store.put_parts(A, [b"unreferenced"])
    assert other.contains(A)


@pytest.mark.parametrize("point", ["delete_intent", "delete_merging", "delete_done"])
def test_a_death_in_the_middle_of_an_abort(store, point):
    die_at(store, point, lambda prey: prey.create_buffer(A, 5000).abort())
    store.reap()
    assert store.list() == []
    audit = store.audit()
    assert audit.ok and audit.bytes_used == 0, audit


@pytest.mark.parametrize(
    "point", ["create_held", "create_committed", "write", "delete_intent", "delete_done"]
)
def test_a_death_of_the_creator_that_had_promised(store, other, point):
    """Whatever step it dies at: who waits is told, or nobody promises anything."""

    def body(prey: Store) -> None:
        prey.declare(A)
        prey.put_parts(B, [b"b"])
        prey.put_parts(A, [bytes(100)])
        prey.delete(B)

    other.watch(A)
    die_at(store, point, body)
    store.reap()
    assert store.state(A) in (LOST, ABSENT) or store.contains(A)
    assert store.audit().ok


# ---------------------------------------------------------------------------------------- garbage collection


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self, held: object) -> None:
        self.held, self.self = held, self


def test_a_collection_that_drops_views_while_the_store_is_listed_or_audited(store):
    """The end of a Buffer takes a lock of the table; audit() and list() hold all of them, or each in turn."""
    ids = [number.to_bytes(16, "big") for number in range(200)]
    for object_id in ids:
        store.put_parts(object_id, [b"x"])
    thresholds = gc.get_threshold()
    gc.collect()
    gc.set_threshold(1)
    try:
        for look in (store.list, store.audit, store.stats):
            gc.disable()
            for object_id in ids:
                Knot(store.get(object_id, 0))
            gc.enable()
            look()
    finally:
        gc.enable()
        gc.set_threshold(*thresholds)
    gc.collect()
    assert store.audit().pins == 0


# ---------------------------------------------------------------------------------------- references


def test_objects_that_contain_each_other_die_together(store):
    store.declare(A)
    store.put_parts(B, [b"b"], contained=[A])
    store.put_parts(A, [b"a"], contained=[B])
    store.drop_ref(A)
    assert store.contains(A) and store.contains(B)
    store.delete(A)
    assert store.list() == []


def test_an_object_can_not_contain_itself(store):
    store.declare(A)
    with pytest.raises(ValueError):
        store.put_parts(A, [b"a"], contained=[A])
    assert store.state(A) == PENDING


def test_a_long_chain_is_freed_with_its_end(store):
    ids = [number.to_bytes(16, "big") for number in range(1, 2001)]
    store.put_parts(ids[0], [b"leaf"])
    for inner, outer in pairwise(ids):
        store.put_parts(outer, [b"link"], contained=[inner])
    store.delete(ids[-1])
    assert store.list() == [] and store.audit().bytes_used == 0


@pytest.mark.parametrize("countdown", range(1, 12))
@pytest.mark.parametrize(
    "point", ["delete_cascading", "delete_marked", "delete_freed", "delete_intent", "delete_done"]
)
def test_a_cascade_whose_deleter_dies_is_finished_by_its_reaper(store, point, countdown):
    """A tree of references, its deleter killed at each object in turn, and then its reaper too."""

    def grow(depth: int, number: list[int]) -> bytes:
        inside = [grow(depth - 1, number) for _ in range(3)] if depth else []
        number[0] += 1
        object_id = number[0].to_bytes(16, "big")
        store.put_parts(object_id, [bytes(100)], contained=inside)
        return object_id

    root = grow(2, [0])
    die_at(store, point, lambda prey: prey.delete(root), countdown)
    pid = os.fork()
    if not pid:
        try:
            reaper = Store.attach(store.fd)
            arm_crash_point(point)
            reaper.reap()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    store.reap()
    assert store.list() == []
    audit = store.audit()
    assert audit.ok and audit.bytes_used == 0, audit.problems


# ---------------------------------------------------------------------------------------- views


def test_an_abort_is_refused_while_views_could_write_into_the_next_object(store):
    allocation = store.create_buffer(A, 100)
    view = memoryview(allocation)
    with pytest.raises(BufferError):
        allocation.abort()
    view.release()
    allocation.abort()


def test_who_waits_for_a_stopped_process_says_so(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    """And when that process is killed, it goes on."""
    store.put_parts(A, [b"here"], referenced=True)

    def get_it(prepare: Callable[[], None]) -> int:
        pid = os.fork()
        if not pid:
            try:
                client = Store.attach(store.fd, name="client")
                prepare()
                os._exit(0 if bytes(client.get(A, TIMEOUT_S)) == b"here" else 2)
            finally:
                os._exit(1)
        return pid

    stopped = get_it(lambda: arm_crash_point("get_locked", signal=signal.SIGSTOP))
    assert os.WIFSTOPPED(os.waitpid(stopped, os.WUNTRACED)[1])
    waiting = get_it(lambda: None)
    said = ""

    def heard() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return f"process {waiting} has waited 5 s for a lock of the store that thread {stopped} holds" in said

    until(heard)
    os.kill(stopped, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(stopped, 0)[1]) == -signal.SIGKILL
    assert os.waitstatus_to_exitcode(os.waitpid(waiting, 0)[1]) == 0
    store.reap()

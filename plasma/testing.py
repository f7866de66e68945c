"""For tests: stores that are audited when they go, a suite every store must pass, and deaths at named steps.

Nothing here needs a test framework. Failures are AssertionErrors.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from signal import SIGKILL

from plasma import object_id as ids
from plasma import states
from plasma.errors import (
    GetTimeoutError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectSealedError,
    ObjectTooLargeError,
)
from plasma.store import Store

__all__ = ["CHECKS", "arm_crash_point", "assert_sound", "check_store", "crash_points", "temporary_store"]


def assert_sound(store: Store) -> None:
    """Fail unless every byte of ``store`` is free or owned by exactly one object, and all counts add up."""
    audit = store.audit()
    assert audit.ok, "the store is damaged:\n" + "\n".join(audit.problems)
    if store.spill_directory is not None and os.path.isdir(store.spill_directory):
        files = {int(name) for name in os.listdir(store.spill_directory)}
        wanted = {info.file for info in store.list() if info.file}
        assert files == wanted, f"spill files of no object: {files - wanted}; missing: {wanted - files}"


@contextmanager
def temporary_store(
    size_bytes: int = 64 << 20,
    *,
    max_objects: int = 4096,
    max_clients: int = 64,
    name: str = "test",
    spill_directory: str | None = None,
) -> Iterator[Store]:
    """A new store that is closed at the end, and audited before, unless the block has failed."""
    store = Store.create(
        size_bytes,
        max_objects=max_objects,
        max_clients=max_clients,
        name=name,
        spill_directory=spill_directory,
    )
    try:
        yield store
        assert_sound(store)
    finally:
        store.close()


# ---------------------------------------------------------------------------------------- dying on purpose


def crash_points() -> tuple[str, ...]:
    """The names of the steps at which a process can be made to die."""
    from plasma import _faults

    return tuple(_faults.names())


def arm_crash_point(name: str, countdown: int = 1, signal: int = SIGKILL) -> None:
    """Send this process a signal when it reaches that step for the ``countdown``-th time; by default it dies.

    Raises ValueError for a name that isn't one of :func:`crash_points`.
    """
    from plasma import _faults

    if name not in crash_points():
        raise ValueError(f"no crash point is called {name!r}; there are: {', '.join(crash_points())}")
    _faults.arm(name, countdown, signal)


# ---------------------------------------------------------------------------------------- conformance


def check_store(make_store: Callable[[], AbstractContextManager[Store]]) -> None:
    """Run every check of the suite, each on a fresh store from ``make_store``, whose size is at least 1 MiB.

    For whoever wraps or replaces the store: what passes may take its place.
    """
    for check in CHECKS:
        with make_store() as store:
            check(store)


def check_sealed_bytes_come_back(store: Store) -> None:
    object_id = ids.new()
    allocation = store.create_buffer(object_id, 5)
    with memoryview(allocation) as memory:
        memory[:] = b"hello"
    allocation.seal()
    assert bytes(store.get(object_id, 0)) == b"hello"


def check_parts_are_laid_out_at_multiples_of_64(store: Store) -> None:
    object_id = ids.new()
    assert store.put_parts(object_id, [b"ab", b"c" * 65, b"d"]) == 64 + 128 + 1
    data = bytes(store.get(object_id, 0))
    assert (data[:2], data[64:129], data[192:]) == (b"ab", b"c" * 65, b"d")


def check_values_come_back(store: Store) -> None:
    value = {"text": "a", "numbers": (1, 2.5, None), "long": b"x" * 200_000}
    assert store.load(store.put(value), 0) == value


def check_states_follow_the_life_of_an_object(store: Store) -> None:
    object_id = ids.new()
    assert store.state(object_id) == states.ABSENT
    store.declare(object_id)
    assert store.state(object_id) == states.PENDING
    allocation = store.create_buffer(object_id, 8)
    assert store.state(object_id) == states.CREATED
    allocation.seal()
    assert store.state(object_id) == states.SEALED
    del allocation  # it pins what it has sealed
    store.drop_ref(object_id)
    assert store.state(object_id) == states.ABSENT


def check_what_is_not_sealed_is_not_visible(store: Store) -> None:
    object_id = ids.new()
    allocation = store.create_buffer(object_id, 8)
    assert store.try_get(object_id) is None
    assert not store.contains(object_id)
    allocation.abort()
    assert store.state(object_id) == states.ABSENT


def check_an_allocation_that_is_dropped_is_aborted(store: Store) -> None:
    object_id = ids.new()
    allocation = store.create_buffer(object_id, 8)
    del allocation
    gc.collect()
    assert store.state(object_id) == states.ABSENT


def check_an_unknown_id(store: Store) -> None:
    object_id = ids.new()
    assert store.try_get(object_id) is None
    _assert_raises(ObjectNotFoundError, lambda: store.get(object_id, 0))
    _assert_raises(GetTimeoutError, lambda: store.get(object_id, 0.01))


def check_an_id_is_used_once(store: Store) -> None:
    object_id = store.put(1)
    _assert_raises(ObjectExistsError, lambda: store.put(2, object_id))
    assert store.load(object_id, 0) == 1


def check_a_seal_happens_once(store: Store) -> None:
    allocation = store.create_buffer(ids.new(), 8)
    allocation.seal()
    _assert_raises(ObjectSealedError, allocation.seal)


def check_what_can_never_fit_is_refused_at_once(store: Store) -> None:
    _assert_raises(ObjectTooLargeError, lambda: store.create_buffer(ids.new(), 1 << 50, timeout_s=None))


def check_the_last_reference_frees(store: Store) -> None:
    object_id = ids.new()
    store.put_parts(object_id, [bytes(4096)], referenced=True)
    assert store.add_ref(object_id)
    used_bytes = store.audit().bytes_used
    store.drop_ref(object_id)
    assert store.contains(object_id)
    store.drop_ref(object_id)
    assert not store.contains(object_id)
    assert store.audit().bytes_used < used_bytes
    assert not store.add_ref(object_id)


def check_a_pinned_object_outlives_its_deletion(store: Store) -> None:
    object_id = ids.new()
    store.put_parts(object_id, [b"pinned"])
    view = memoryview(store.get(object_id, 0))
    store.delete(object_id)
    assert not store.contains(object_id)
    assert bytes(view) == b"pinned"


def check_sealed_memory_is_read_only(store: Store) -> None:
    object_id = ids.new()
    store.put_parts(object_id, [b"data"])
    assert memoryview(store.get(object_id, 0)).readonly


def check_wait_keeps_the_order(store: Store) -> None:
    known, unknown = [store.put(number) for number in range(3)], ids.new()
    ready, rest = store.wait([known[0], unknown, known[1], known[2]], 2, 0)
    assert (ready, rest) == (known, [unknown])
    assert store.wait([unknown], 1, 0.01) == ([], [unknown])


def check_the_oldest_goes_when_room_is_needed(store: Store) -> None:
    old = ids.new()
    store.put_parts(old, [bytes(1 << 16)])
    # Uses are dated by a clock that ticks every few milliseconds; within a tick the order is open.
    for _ in range(100 * store.size_bytes >> 16):
        store.put_parts(ids.new(), [bytes(1 << 16)])
        if not store.contains(old):
            return
    raise AssertionError("the oldest object outlived a hundred times the store's size")


CHECKS: tuple[Callable[[Store], None], ...] = tuple(
    check
    for name, check in sorted(globals().items())
    if name.startswith("check_") and check is not check_store
)


def _assert_raises(expected: type[Exception], action: Callable[[], object]) -> None:
    try:
        action()
    except expected:
        return
    raise AssertionError(f"{expected.__name__} was expected, but nothing was raised")

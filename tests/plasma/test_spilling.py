"""A full store moves to disk what is referenced and not in use, and brings it back when it is read."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from plasma import (
    ABSENT,
    LOST,
    PENDING,
    SEALED,
    SPILLED,
    ObjectStoreFullError,
    ObjectTooLargeError,
    OutOfDiskError,
    SpilledObjectLostError,
    Store,
)
from plasma import object_id as ids
from plasma.testing import arm_crash_point, assert_sound, crash_points, temporary_store

sys.path.insert(0, str(Path(__file__).parent))
from churn import check, content

SIZE = 1 << 20
ROOM = 8 * SIZE
#: Linux's number; the time module has no name for it
CLOCK_MONOTONIC_COARSE = 6


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spilled"


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    with temporary_store(ROOM, spill_directory=str(directory)) as store:
        yield store


def put(store: Store, size: int = SIZE - 4096, **options: object) -> bytes:
    object_id = ids.new()
    store.put_parts(object_id, [content(object_id, size)], referenced=True, **options)  # type: ignore[arg-type]
    return object_id


def next_tick() -> None:
    """Return when the coarse clock that the store dates uses with has moved on."""
    now = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
    while time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE) == now:
        pass


def fill(store: Store, count: int = 12, size: int = SIZE - 4096) -> list[bytes]:
    """More than there is room for; what was there or in use before is older by the clock, and goes first."""
    next_tick()
    return [put(store, size) for _ in range(count)]


def spilled(store: Store, objects: list[bytes]) -> list[bytes]:
    return [one for one in objects if store.state(one) == SPILLED]


def files(directory: Path) -> int:
    return len(list(directory.iterdir())) if directory.exists() else 0


def pattern(object_id: bytes) -> bytes:
    """What the payload of `put` repeats."""
    return content(object_id, SIZE - 4096)[:24]


def replace(path: Path, data: bytes) -> None:
    """Another file of that name: what shares the old one keeps it."""
    path.unlink()
    path.write_bytes(data)


def test_more_than_fits_is_kept(store, directory):
    objects = fill(store, 20)
    assert spilled(store, objects)
    assert files(directory) >= 12
    for one in objects:
        check(one, store.get(one, 0))
    assert_sound(store)


def test_the_oldest_go_first(store):
    objects = []
    for _ in range(9):
        objects.append(put(store))
        next_tick()
    gone = spilled(store, objects)
    assert gone and gone == objects[: len(gone)]


def test_what_is_in_use_stays(store):
    objects = fill(store, 3)
    view = memoryview(store.get(objects[0], 0))
    fill(store, 12)
    assert store.state(objects[0]) == SEALED
    assert bytes(view[:16]) == objects[0]


def test_what_is_resident_stays(store, directory):
    objects = [put(store, resident=True)]
    fill(store, 20)
    assert spilled(store, objects) == []
    store.drop_ref(objects[0])
    assert not store.contains(objects[0])
    assert_sound(store)


def test_what_nobody_references_is_evicted_instead(store, directory):
    for _ in range(20):
        store.put_parts(ids.new(), [bytes(SIZE - 4096)])
    assert not directory.exists()


def test_the_disk_is_free_with_the_last_reference(store, directory):
    objects = fill(store, 20)
    while objects:
        store.drop_ref(objects.pop())
    assert files(directory) == 0
    assert store.audit().bytes_used == 0


def test_a_deletion_takes_the_file(store, directory):
    objects = fill(store, 12)
    for one in objects:
        store.delete(one)
        assert store.state(one) == ABSENT
    assert files(directory) == 0


def test_small_objects_share_files(directory):
    with temporary_store(ROOM, max_objects=20_000, spill_directory=str(directory)) as store:
        objects = fill(store, 4000, 4000)
        gone = spilled(store, objects)
        assert len(gone) > 1500
        inodes = {entry.inode() for entry in os.scandir(directory)}
        assert len(inodes) < len(gone) / 50
        for one in objects:
            check(one, store.get(one, 0))
        for one in objects:
            store.drop_ref(one)
        assert files(directory) == 0


def test_spilling_again_what_came_back_writes_nothing(store, directory):
    objects = fill(store, 12)
    before = {entry.inode() for entry in os.scandir(directory)}
    for _ in range(3):
        for one in objects:
            check(one, store.get(one, 0))
    assert store.stats()["restored_ever"] > 12
    written = {entry.inode() for entry in os.scandir(directory)}
    assert before <= written
    assert len(written) <= len(objects)


def test_what_an_object_contains_is_kept_while_it_is_on_disk(store, directory):
    inner = put(store, 100)
    outer = put(store, contained=[inner])
    store.drop_ref(inner)
    others = fill(store, 12)
    assert store.state(outer) == SPILLED
    assert store.state(inner) in (SEALED, SPILLED)
    check(outer, store.get(outer, 0))
    check(inner, store.get(inner, 0))
    for one in others:
        store.drop_ref(one)
    others = fill(store, 12)
    assert store.state(outer) == SPILLED
    store.drop_ref(outer)  # without a look at its file
    assert store.state(inner) == ABSENT
    for one in others:
        store.drop_ref(one)
    assert files(directory) == 0


def test_a_value_that_was_on_disk_is_a_view_of_memory_again(store):
    array = np.arange(SIZE // 16)
    object_id = ids.new()
    store.put(array, object_id)
    store.add_ref(object_id)
    fill(store, 12)
    assert store.state(object_id) == SPILLED
    again = store.load(object_id)
    assert store.state(object_id) == SEALED
    assert (again == array).all()
    assert not again.flags.writeable


def test_with_everything_in_use_an_object_is_read_from_its_file(store):
    objects = fill(store, 12)
    gone = spilled(store, objects)
    views = [store.get(one, 0) for one in objects if one not in gone]
    views += [store.get(one, 0) for one in gone]
    for one, view in zip([one for one in objects if one not in gone] + gone, views, strict=True):
        check(one, view)
    with pytest.raises(ObjectStoreFullError, match="pinned, by views"):
        put(store)
    del views, view
    gc.collect()
    put(store)


def test_an_object_larger_than_the_store_is_refused_at_once(store):
    with pytest.raises(ObjectTooLargeError, match=f"of {ROOM + 1} bytes can't fit a store of {ROOM}"):
        store.create_buffer(ids.new(), ROOM + 1, timeout_s=None)


def test_an_object_as_large_as_the_store_drives_all_others_out(store):
    objects = fill(store, 6, 1000) + fill(store, 3)
    large = put(store, ROOM - 64)
    assert spilled(store, objects) == objects
    check(large, store.get(large, 0))
    for one in objects:
        check(one, store.get(one, 0))


def test_a_full_disk_is_said_so_and_nothing_is_lost(store, directory):
    objects = fill(store, 7)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutOfDiskError, match=r"the disk at .* takes none of them"):
            fill(store, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(directory) == 0
    for one in objects:
        check(one, store.get(one, 0))
    assert spilled(store, objects) == []
    fill(store, 12)  # and when there is room on the disk again, all is well


def test_a_directory_that_can_t_be_made_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    with temporary_store(ROOM, spill_directory=str(tmp_path / "file" / "spilled")) as store:
        with pytest.raises(OutOfDiskError, match="Not a directory"):
            fill(store, 12)


@pytest.mark.parametrize(
    "damage, why",
    [
        (lambda path, one: path.unlink(), "gone"),
        (lambda path, one: replace(path, path.read_bytes().replace(pattern(one), bytes(24))), "checksum"),
    ],
)
def test_a_damaged_or_missing_file_is_a_lost_object(store, directory, damage, why):
    inner = put(store, 100)
    outer = put(store, contained=[inner])
    store.drop_ref(inner)
    others = fill(store, 12)
    (info,) = (info for info in store.list() if info.object_id == outer)
    assert info.state == "spilled"
    damage(directory / str(info.file), outer)
    with pytest.raises(SpilledObjectLostError, match=why):
        store.get(outer, 0)
    assert store.state(outer) == LOST
    assert store.state(inner) == ABSENT, "what only the lost one held goes with it"
    with pytest.raises(SpilledObjectLostError, match="missing or damaged"):
        store.get(outer)
    # It may be produced again under its id.
    assert store.renew(outer)
    assert store.state(outer) == PENDING
    store.put_parts(outer, [content(outer, 100)])
    check(outer, store.get(outer, 0))
    for one in [outer, *others]:
        store.drop_ref(one)
    assert files(directory) == 0


def test_many_readers_at_once_read_one_copy(store):
    objects = fill(store, 12)
    (one, *_) = spilled(store, objects)
    before = store.stats()["restored_ever"]
    others = [Store.attach(store.fd) for _ in range(8)]
    found: list[bytes] = []

    def read(other: Store) -> None:
        found.append(bytes(other.get(one, 5)))

    threads = [threading.Thread(target=read, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [content(one, SIZE - 4096)] * 8
    assert store.stats()["restored_ever"] == before + 1
    for other in others:
        other.close()


def test_ten_thousand_rounds_return_the_store_to_its_baseline(store, directory):
    baseline = store.audit()
    for _ in range(200):
        for one in fill(store, 12):
            store.drop_ref(one)
    assert store.audit() == baseline
    assert files(directory) == 0


# ---------------------------------------------------------------------------------------- deaths


POINTS_OF_SPILLING = [
    "spill_numbered", "spill_writing", "spill_written", "spill_locked", "spill_intent", "spill_committed",
    "spill_freed", "delete_done",
]  # fmt: skip
POINTS_OF_RESTORING = [
    "restore_allocated", "restore_claimed", "restore_read", "restore_committed",
]  # fmt: skip
POINTS_OF_LOSING = ["restore_lost", "restore_dropped", "delete_file", "delete_cascading"]


def test_every_labelled_step_of_the_disk_is_died_at() -> None:
    tested = {*POINTS_OF_SPILLING, *POINTS_OF_RESTORING, *POINTS_OF_LOSING}
    assert {point for point in crash_points() if point.startswith(("spill_", "restore_"))} <= tested


def die_at(store: Store, point: str, body: Callable[[Store], None], countdown: int = 1) -> None:
    pid = os.fork()
    if not pid:
        try:
            prey = Store.attach(store.fd, name="prey")
            arm_crash_point(point, countdown)
            body(prey)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, f"{point} was not reached"


def everything_is_there(store: Store, objects: list[bytes], directory: Path) -> None:
    store.reap()
    assert_sound(store)
    for one in objects:
        check(one, store.get(one, 0))
    assert_sound(store)
    for one in objects:
        store.drop_ref(one)
    assert files(directory) == 0
    assert store.audit().bytes_used == 0


@pytest.mark.parametrize("size", [SIZE - 4096, 4000], ids=["large", "fused"])
@pytest.mark.parametrize("countdown", [1, 3])
@pytest.mark.parametrize("point", POINTS_OF_SPILLING)
def test_a_death_while_spilling_loses_nothing_and_leaves_nothing(directory, point, countdown, size):
    with temporary_store(ROOM, spill_directory=str(directory)) as store:
        count = 7 * SIZE // size
        objects = fill(store, count, size)

        def body(prey: Store) -> None:
            for _ in range(4 * count):
                put(prey, size)

        die_at(store, point, body, countdown)
        everything_is_there(store, objects, directory)


@pytest.mark.parametrize("point", POINTS_OF_RESTORING)
def test_a_death_while_restoring_loses_nothing_and_leaves_nothing(store, directory, point):
    inner = put(store, 100)
    outer = put(store, contained=[inner])
    objects = [outer, *fill(store, 12)]
    die_at(store, point, lambda prey: prey.get(outer, 0) and None)
    # Whoever waits for the dead is not held up, reaped or not.
    check(outer, store.get(outer, 5))
    everything_is_there(store, [inner, *objects], directory)


@pytest.mark.parametrize("point", POINTS_OF_LOSING)
def test_a_death_while_an_object_is_given_up_as_lost(store, directory, point):
    inner = put(store, 100)
    outer = put(store, contained=[inner])
    store.drop_ref(inner)
    objects = fill(store, 12)
    (info,) = (info for info in store.list() if info.object_id == outer)
    replace(directory / str(info.file), b"damaged")
    die_at(store, point, lambda prey: prey.get(outer, 0) and None)
    store.reap()
    with pytest.raises(SpilledObjectLostError):
        store.get(outer, 5)
    assert store.state(inner) == ABSENT
    store.drop_ref(outer)
    everything_is_there(store, objects, directory)


@pytest.mark.parametrize("point", ["delete_file", "delete_freed", "delete_marked"])
def test_a_death_while_a_spilled_object_is_freed(store, directory, point):
    inner = put(store, 100)
    outer = put(store, contained=[inner])
    store.drop_ref(inner)
    objects = fill(store, 12)
    assert store.state(outer) == SPILLED
    die_at(store, point, lambda prey: prey.delete(outer))
    store.reap()
    assert store.state(outer) == ABSENT
    store.drop_ref(outer)
    assert store.state(inner) == ABSENT
    everything_is_there(store, objects, directory)


@pytest.mark.stress
def test_hundreds_of_random_kills_while_spilling_and_restoring(directory):
    import random
    import select

    rng = random.Random(11)
    with temporary_store(ROOM, max_objects=4096, spill_directory=str(directory)) as store:
        mine = fill(store, 12)

        def churn(prey: Store, seed: int) -> None:
            own = random.Random(seed)
            held: list[bytes] = []
            views: list[object] = []
            while True:
                held.append(put(prey, own.choice([500, 40_000, SIZE // 2]), timeout_s=1.0))
                view = prey.get(own.choice(mine), 5)
                views.append(view)
                del views[:-1]
                while len(held) > 8:
                    prey.drop_ref(held.pop(own.randrange(len(held))))

        herd: dict[int, int] = {}
        for kill in range(300):
            while len(herd) < 3:
                pid = os.fork()
                if not pid:
                    try:
                        churn(Store.attach(store.fd, name="prey"), rng.randrange(1 << 30) + kill)
                    except ObjectStoreFullError:
                        signal.pause()
                    except BaseException:
                        import traceback

                        traceback.print_exc()
                    os._exit(3)
                herd[pid] = pid
            select.select([], [], [], rng.uniform(0.002, 0.03))
            pid = rng.choice(list(herd))
            os.kill(pid, signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
            del herd[pid]
            store.reap()
            if kill % 10 == 0:
                audit = store.audit()
                assert audit.ok, (kill, audit.problems)
        for pid in herd:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        everything_is_there(store, mine, directory)

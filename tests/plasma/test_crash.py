"""A process killed at any instruction leaks no byte and corrupts nothing."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plasma import Store
from plasma.testing import arm_crash_point, crash_points

sys.path.insert(0, str(Path(__file__).parent))
from churn import IDS, check, churn_for_ever, content, spawn

A, B, C, D, E, F, G = (bytes([n]) * 16 for n in (0xA0, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0, 0xF1))


#: those of the disk are in test_spilling.py
POINTS = [point for point in crash_points() if not point.startswith(("spill_", "restore_", "delete_file"))]


@pytest.fixture
def store() -> Iterator[Store]:
    with Store.create(8 << 20, max_objects=512, max_clients=64, name="hunter") as store:
        yield store


def wait_for(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return status


def read_all(store: Store) -> None:
    """What the dead had sent before is still delivered; after its last message a channel goes."""
    while store.endpoint.receive_many(0) or store.endpoint.receive_many(1):
        pass


def everything(store: Store, hunter: int) -> None:
    """Passes every labelled step at least once. `hunter` is the address of the process that watches."""
    store.put_parts(A, [content(A, 5000)], referenced=True)
    store.put_parts(B, [content(B, 5000)], contained=[A], referenced=True)
    store.put_parts(C, [content(C, 50)], contained=[A, B])
    allocation = store.create_buffer(D, 10_000)
    allocation.seal()
    del allocation
    check(B, store.get(B, 0))
    store.drop_ref(A)  # B and C hold it
    store.drop_ref(B)
    store.delete(C)  # ... and takes B and A along
    keep_things(store, store.stand_in("keeper"))
    sender = store.endpoint.sender(hunter, 0)
    sender.send(b"one")
    sender.send(b"two")
    while store.endpoint.receive(1) is None:
        store.endpoint.wait(2, 10, store.endpoint.bell())
    store.reap()


def keep_things(store: Store, keeper: Store) -> None:
    """What agents do; `store` is one who uses what they keep."""
    keeper.keep(F)
    store.declare(G, owner=keeper.address)
    store.put_parts(G, [content(G, 70)], contained=[F])
    assert keeper.take_unneeded() == []
    keeper.keep(G)
    store.put_parts(F, [content(F, 5000)], referenced=True)
    store.drop_ref(F)
    check(G, store.get(G, 0))
    assert keeper.take_unneeded() == [G]
    assert keeper.drop_copy(G)
    assert keeper.take_unneeded() == [F]
    assert keeper.unkeep_if_unneeded(F)
    keeper.abandon(G)
    keeper.unkeep(G)
    keeper.drop_ref(G)


def die_holding_things(store: Store) -> None:
    store.put_parts(E, [content(E, 100)], referenced=True)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_any_step_leaves_a_sound_store(store: Store, point: str) -> None:
    mine = store.put({"mine": list(range(100))})
    before = store.audit().bytes_used
    wait_for(spawn(store.fd, die_holding_things))  # somebody for the prey to reap

    def body(prey: Store) -> None:
        arm_crash_point(point)
        everything(prey, store.address)

    pid = spawn(store.fd, body)
    # The prey waits for a message; it is there as soon as the prey is.
    prey = 0
    while not prey and not (ended := os.waitpid(pid, os.WNOHANG)[0]):
        prey = next((c["address"] for c in store.clients() if c["pid"] == pid), 0)
    if prey:
        store.endpoint.sender(prey, 1).send(b"hello")
        ended = 0
    if not ended:
        status = wait_for(pid)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"{point} was not reached"

    store.reap()
    read_all(store)
    if prey:
        store.endpoint.close_sender(prey)
    assert store.reap() == 0, "reaping twice finds nothing"
    audit = store.audit()
    assert audit.ok, audit.problems
    assert audit.clients == 1
    for left in store.list():
        assert left.state == "sealed" and left.pins == 0
        if left.object_id in (A, B, C):
            check(left.object_id, store.get(left.object_id, 0))
    # What was complete and unreferenced may stay; A and B only as long as C holds them.
    for evictable in (C, D):
        if store.contains(evictable):
            store.delete(evictable)
    assert [left.object_id for left in store.list()] == [mine]
    audit = store.audit()
    assert audit.ok, audit.problems
    assert audit.channels == 0
    assert audit.bytes_used == before
    assert store.load(mine, 0) == {"mine": list(range(100))}
    store.delete(mine)
    assert store.audit().bytes_used == 0


KILLS = 2000
PREY = 4


@pytest.mark.stress
def test_thousands_of_random_kills_leak_nothing() -> None:
    """Hunts in an interpreter of its own: to fork one that has run a whole suite takes ten times as long."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(KILLS), "killed"]


def hunt(store: Store) -> int:
    """Kill `KILLS` processes that work with a store; return how many died."""
    rng = random.Random(7)
    herd: dict[int, int] = {}
    kills = 0
    try:
        while kills < KILLS:
            while len(herd) < PREY:
                pid = spawn(store.fd, churn_for_ever(rng.randrange(1 << 30)))
                herd[pid] = os.pidfd_open(pid)
            # A prey lives 1 to 8 ms before its turn comes: long enough to be in the middle of something.
            select.select([], [], [], rng.uniform(0, 0.002))
            pid = rng.choice(list(herd))
            os.kill(pid, signal.SIGKILL)
            status = wait_for(pid)
            os.close(herd.pop(pid))
            assert os.WIFSIGNALED(status), f"a prey ended by itself: {os.waitstatus_to_exitcode(status)}"
            kills += 1
            store.reap()
            read_all(store)
            if kills % 10 == 0:
                audit = store.audit()
                assert audit.ok, (kills, audit.problems)
    finally:
        for pid, pidfd in herd.items():
            os.kill(pid, signal.SIGKILL)
            wait_for(pid)
            os.close(pidfd)
    store.reap()
    read_all(store)
    audit = store.audit()
    assert audit.ok, audit.problems
    assert audit.clients == 1
    for left in store.list():
        assert left.state == "sealed", left
        check(left.object_id, store.get(left.object_id, 0))
        store.delete(left.object_id)
    audit = store.audit()
    assert (audit.objects, audit.channels, audit.bytes_used) == (0, 0, 0)
    assert {left.object_id for left in store.list()} <= set(IDS)
    return kills


if __name__ == "__main__":
    with Store.create(8 << 20, max_objects=512, max_clients=64, name="hunter") as hunted:
        print(hunt(hunted), "killed")

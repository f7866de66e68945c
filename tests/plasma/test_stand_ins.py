"""A process has further clients of a store in the same mapping: each stands for somebody outside."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plasma import (
    ABSENT,
    LOST,
    PENDING,
    ForkedStoreError,
    ObjectExistsError,
    ObjectLostError,
    PeerDiedError,
    Store,
    StoreClosedError,
    TooManyClientsError,
    UsageError,
)
from plasma.inspect import report
from plasma.testing import arm_crash_point, assert_sound, temporary_store

sys.path.insert(0, str(Path(__file__).parent))
from churn import spawn

A, B = b"\xa0" * 16, b"\xb0" * 16


@pytest.fixture
def store() -> Iterator[Store]:
    with temporary_store(max_clients=2048, name="node") as store:
        yield store


@pytest.fixture
def worker(store: Store) -> Iterator[Store]:
    worker = Store.attach(store.fd, name="worker")
    yield worker
    worker.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("/memfd:")


# ---------------------------------------------------------------------------------------- one more client


def test_a_stand_in_is_a_client_of_its_own(store, worker):
    far = store.stand_in("far away")
    assert far.is_agent and not store.is_agent
    assert len({store.address, worker.address, far.address}) == 3
    worker.endpoint.sender(far.address).send(b"to you")
    worker.endpoint.sender(store.address).send(b"to the node")
    assert far.endpoint.receive() == (worker.address, b"to you")
    assert store.endpoint.receive() == (worker.address, b"to the node")
    far.endpoint.sender(worker.address).send(b"and back")
    assert worker.endpoint.receive() == (far.address, b"and back")
    far.close()


def test_a_result_may_be_recorded_for_a_stand_in(store, worker):
    far = store.stand_in()
    worker.put_parts(A, [b"result"], owner=far.address)
    assert [(hold.holder, hold.refs) for hold in store.holds()] == [(far.address, 1)]
    assert bytes(far.get(A, 0)) == b"result"
    far.drop_ref(A)
    assert store.state(A) == ABSENT
    far.close()


def test_a_stand_in_that_leaves_is_a_client_that_died(store, worker):
    far = store.stand_in()
    sender = worker.endpoint.sender(far.address)
    far.declare(A)
    worker.add_ref(A)
    worker.put_parts(B, [b"for you"], owner=far.address)
    far.close()
    assert (store.state(A), store.state(B)) == (LOST, ABSENT)
    with pytest.raises(PeerDiedError):
        sender.send(b"hello?")


def test_a_stand_in_has_a_bell_of_its_own_that_an_event_loop_can_wait_for(store, worker):
    far = store.stand_in()
    assert store.endpoint.arm() and far.endpoint.arm()
    loops = [store.endpoint.fileno(), far.endpoint.fileno()]
    worker.endpoint.sender(far.address).send(b"ring")
    assert select.select(loops, [], [], 10)[0] == [far.endpoint.fileno()]
    assert not select.select([store.endpoint.fileno()], [], [], 0)[0]
    far.close()


def test_a_stand_in_costs_no_mapping_and_no_descriptor(store):
    before = descriptors(), mappings()
    crowd = [store.stand_in(f"number {n}") for n in range(1500)]
    assert (descriptors(), mappings()) == before
    assert len({one.address for one in crowd}) == 1500
    assert store.name_of(crowd[700].address) == "number 700"
    assert_sound(store)
    for one in crowd[::2]:
        one.close()
    assert store.reap() == 0, "a client of one's own is never taken for dead"
    assert len(store.clients()) == 751
    crowd[1].put_parts(A, [b"alive"], referenced=True)
    for one in crowd[1::2]:
        one.close()
    assert store.list() == []


def test_slots_run_out(store):
    with Store.create(1 << 20, max_objects=16, max_clients=2) as small:
        one = small.stand_in()
        with pytest.raises(TooManyClientsError):
            small.stand_in()
        one.close()
        small.stand_in().close()


def test_a_stand_in_outlives_the_store_it_was_made_from(no_leaks):
    first = Store.create(8 << 20, max_objects=64, max_clients=8)
    second = first.stand_in()
    third = second.stand_in()
    first.put_parts(A, [b"shared"])
    view = second.get(A, 0)
    first.close()
    with pytest.raises(StoreClosedError):
        first.stand_in()
    second.close()
    assert bytes(view) == b"shared" and bytes(third.get(A, 0)) == b"shared"
    third.close()
    assert bytes(view) == b"shared", "a view keeps the mapping"
    del view


def test_only_agents_keep(store, worker):
    with pytest.raises(UsageError):
        worker.keep(A)
    with Store.attach(store.fd, agent=True) as agent:
        assert agent.is_agent
    with Store.create(1 << 20, max_objects=16, max_clients=2, agent=True) as agent:
        assert agent.is_agent


# ---------------------------------------------------------------------------------------- deaths and forks


def test_another_process_reaps_all_stand_ins_of_a_dead_one(store):
    ready, go = os.pipe()

    def body(prey: Store) -> None:
        crowd = [prey.stand_in(str(n)) for n in range(20)]
        for number, one in enumerate(crowd):
            one.declare(number.to_bytes(16, "big"))
            prey.put_parts(b"%016d" % number, [b"x"], owner=one.address)
        os.write(go, b"x")
        signal.pause()

    pid = spawn(store.fd, body)
    os.read(ready, 1)
    assert len(store.clients()) == 22 and store.reap() == 0
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert store.reap() == 21
    assert store.list() == [] and len(store.clients()) == 1
    os.close(ready)
    os.close(go)


def test_a_forked_child_has_no_part_in_its_parents_stand_ins(store):
    far = store.stand_in()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            for action in (far.stand_in, store.stand_in, far.take_unneeded, lambda: far.keep(A)):
                with pytest.raises(ForkedStoreError):
                    action()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    far.put_parts(A, [b"x"], referenced=True)
    far.close()
    assert store.list() == []


def test_a_child_that_lives_on_does_not_keep_its_parents_stand_ins_alive(store):
    """Liveness is the process's: its children's copies of the descriptor are closed in them."""
    ready, go = os.pipe()

    def body(prey: Store) -> None:
        far = prey.stand_in()
        far.declare(A)
        if not os.fork():
            os.write(go, os.getpid().to_bytes(4, "big"))
            signal.pause()
        signal.pause()

    pid = spawn(store.fd, body)
    child = int.from_bytes(os.read(ready, 4), "big")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    reaped = store.reap()
    os.kill(child, signal.SIGKILL)
    os.close(ready)
    os.close(go)
    assert reaped == 2


# ---------------------------------------------------------------------------------------- names


def test_the_name_of_an_address(store, worker):
    assert (store.name_of(store.address), store.name_of(worker.address)) == ("node", "worker")
    address = worker.address
    worker.close()
    assert store.name_of(address) is None
    for nobody in (0, 1, 0xFFFF, (1 << 64) - 1):
        assert store.name_of(nobody) is None
    with Store.attach(store.fd, name="next") as following:
        assert following.address & 0xFFFF == address & 0xFFFF and store.name_of(address) is None


def test_a_name_has_31_bytes(store):
    with store.stand_in("x" * 31 + "yz") as far:
        assert store.name_of(far.address) == "x" * 31
    with store.stand_in("ä" * 16) as far:
        assert store.name_of(far.address) == "ä" * 15 + "\ufffd"


def test_agents_are_shown(store, worker):
    far = store.stand_in("far")
    assert {c["name"]: c["agent"] for c in store.clients()} == {"node": False, "worker": False, "far": True}
    clients = next(table for table in report(store).tables if table.title == "Clients")
    assert {row[2]: row[3] for row in clients.rows} == {"worker": "active", "far": "active, agent"}
    far.close()


# ---------------------------------------------------------------------------------------- promises for others


def test_a_promise_for_another_gives_him_the_reference(store, worker):
    far = store.stand_in()
    worker.declare(A, far.address)
    assert {hold.holder: hold.refs for hold in store.holds()} == {far.address: 1, worker.address: 0}
    worker.put_parts(A, [b"kept"], owner=far.address)
    assert [(hold.holder, hold.refs) for hold in store.holds()] == [(far.address, 1)], "the promise is over"
    far.drop_ref(A)
    assert store.state(A) == ABSENT
    far.close()


def test_a_promise_in_one_s_own_name_is_the_ordinary_one(store):
    store.declare(A, store.address)
    assert [(hold.holder, hold.refs) for hold in store.holds()] == [(store.address, 1)]
    store.drop_ref(A)
    assert store.list() == []


def test_nobody_promises_for_who_is_gone(store):
    far = store.stand_in()
    address = far.address
    far.close()
    with pytest.raises(PeerDiedError):
        store.declare(A, address)
    assert store.list() == []


def test_the_end_of_who_promised_is_the_end_of_the_promise(store, worker):
    far = store.stand_in()
    worker.declare(A, owner=far.address)
    store.watch(A)
    bell = store.endpoint.bell()
    worker.close()
    assert store.endpoint.bell() != bell and store.state(A) == LOST
    with pytest.raises(ObjectLostError):
        far.get(A)
    far.close()
    store.unwatch(A)


def test_the_end_of_who_has_the_reference_is_not(store, worker):
    far = store.stand_in()
    worker.declare(A, owner=far.address)
    store.add_ref(A)
    far.close()
    assert store.state(A) == PENDING
    worker.put_parts(A, [b"after all"])
    assert bytes(store.get(A, 0)) == b"after all"
    store.drop_ref(A)


def test_a_promise_that_nobody_waits_for_is_forgotten(store, worker):
    far = store.stand_in()
    worker.declare(A, owner=far.address)
    far.drop_ref(A)
    assert store.list() == [] and store.audit().ok
    worker.declare(A, owner=far.address)
    far.close()
    assert store.list() == []


def test_a_promise_outlives_its_promiser_s_own_reference(store, worker):
    """Who still waits is told of the promiser's end."""
    worker.declare(A)
    store.add_ref(A)
    worker.drop_ref(A)
    assert_sound(store)
    worker.close()
    assert store.state(A) == LOST
    store.drop_ref(A)


def test_an_abort_leaves_the_promise(store, worker):
    far = store.stand_in()
    worker.declare(A, owner=far.address)
    worker.create_buffer(A, 100).abort()
    assert store.state(A) == PENDING
    worker.close()
    assert store.state(A) == LOST
    far.close()


def test_a_promise_for_what_is_there_is_a_reference(store, worker):
    store.put_parts(A, [b"here"], referenced=True)
    worker.declare(A, owner=store.address)
    assert [(hold.holder, hold.refs) for hold in store.holds()] == [(store.address, 1)]
    view = worker.get(A, 0)
    store.delete(A)
    with pytest.raises(ObjectExistsError):
        worker.declare(A, owner=store.address)
    del view
    store.drop_ref(A)


def test_a_crash_point_is_armed_in_stand_ins_made_later(store):
    def body(prey: Store) -> None:
        arm_crash_point("keep_kept")
        prey.stand_in().keep(A)

    _, status = os.waitpid(spawn(store.fd, body), 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert store.reap() == 2
    assert store.list() == []

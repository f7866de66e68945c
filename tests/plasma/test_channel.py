"""Channels: order, revocation, full rings, waking every kind of waiter, dead peers, damaged rings."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plasma import ForkedStoreError, PeerDiedError, Store, StoreClosedError
from plasma.channel import MESSAGE_BYTES_MAX
from plasma.testing import temporary_store

sys.path.insert(0, str(Path(__file__).parent))
from sleepers import run, until_asleep

CONTROL, WORK = 0, 1
TIMEOUT_S = 20.0


@pytest.fixture
def store() -> Iterator[Store]:
    with temporary_store() as store:
        yield store


@pytest.fixture
def peer(store: Store) -> Iterator[Store]:
    peer = Store.attach(store.fd, name="peer")
    yield peer
    peer.close()


def fork(body) -> int:
    """A child that runs `body` and leaves without any clean-up; its exit code says whether it passed."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        body()
        code = 0
    finally:
        os._exit(code)


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ---------------------------------------------------------------------------------------- messages


@settings(max_examples=30)
@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=60), st.integers(1, 5))
def test_messages_of_any_size_arrive_in_order(sizes, batch):
    """Odd sizes, over many laps of the ring; the receiver falls behind and the ring gets full."""
    with temporary_store() as store, Store.attach(store.fd) as peer:
        sender = store.endpoint.sender(peer.address, WORK)
        sent = [bytes([index % 251]) * size for index, size in enumerate(sizes)]
        received = []
        for message in sent:
            while not sender.send(message):
                received += peer.endpoint.receive_many(WORK, batch)
        while got := peer.endpoint.receive_many(WORK, batch):
            received += got
        assert received == [(store.address, message) for message in sent]
        assert sender.used_bytes == 0


def test_the_largest_message_always_fits_an_empty_ring(store, peer):
    sender = store.endpoint.sender(peer.address)
    for shift in range(0, 300_000, 7_000):
        while shift and not sender.send(bytes(min(shift, 100_000))):
            peer.endpoint.receive_many()
        peer.endpoint.receive_many()
        assert sender.send(b"x" * MESSAGE_BYTES_MAX), shift
        assert peer.endpoint.receive() == (store.address, b"x" * MESSAGE_BYTES_MAX)


def test_each_channel_has_its_turn(store, peer):
    with Store.attach(store.fd) as third:
        for source in (store, third):
            sender = source.endpoint.sender(peer.address)
            for number in range(3):
                sender.send(b"%d" % number)
        order = [address for address, _ in peer.endpoint.receive_many()]
        assert order[0] != order[1] and order[2] != order[3]


def test_a_revoked_message_is_never_seen_and_a_taken_one_can_not_be_revoked(store, peer):
    sender = store.endpoint.sender(peer.address)
    tickets = [sender.send(b"%d" % number) for number in range(4)]
    assert sender.revoke(tickets[1]) and not sender.revoke(tickets[1])
    assert peer.endpoint.receive() == (store.address, b"0")
    assert not sender.revoke(tickets[0])
    assert sender.revoke(tickets[3])
    assert [payload for _, payload in peer.endpoint.receive_many()] == [b"2"]
    assert peer.endpoint.receive() is None and not peer.endpoint.has_message()


def test_a_ticket_that_was_never_given_revokes_nothing(store, peer):
    sender = store.endpoint.sender(peer.address)
    sender.send(struct.pack("<II", 1, 1) * 1000)  # looks like records
    for ticket in (0, 2, 8, 100_001, 1 << 40, (1 << 64) - 1):
        assert not sender.revoke(ticket)
    assert peer.endpoint.receive() == (store.address, struct.pack("<II", 1, 1) * 1000)


def test_a_channel_to_oneself(store):
    sender = store.endpoint.sender(store.address)
    sender.send(b"note")
    assert store.endpoint.receive() == (store.address, b"note")
    del sender
    store.endpoint.close_sender(store.address)
    assert store.endpoint.receive() is None
    assert store.audit().channels == 0


# ---------------------------------------------------------------------------------------- a full ring


def fill(sender) -> list[int]:
    tickets = []
    while ticket := sender.send(bytes(10_000)):
        tickets.append(ticket)
    return tickets


def test_a_sender_that_finds_the_ring_full_is_rung_when_there_is_room(store, peer):
    sender = store.endpoint.sender(peer.address)
    bell = store.endpoint.bell()
    fill(sender)
    waiter = run(lambda: store.endpoint.wait(0, TIMEOUT_S, bell))
    until_asleep(waiter)
    peer.endpoint.receive_many()
    waiter.join()
    assert store.endpoint.bell() != bell
    assert sender.send(bytes(10_000))


def test_a_sender_is_also_rung_when_all_was_revoked(store, peer):
    sender = store.endpoint.sender(peer.address)
    bell = store.endpoint.bell()
    assert all(sender.revoke(ticket) for ticket in fill(sender))
    assert peer.endpoint.receive() is None
    assert store.endpoint.bell() != bell
    assert sender.send(bytes(10_000))


# ---------------------------------------------------------------------------------------- wake-ups


@pytest.mark.parametrize("lane", [CONTROL, WORK])
def test_a_message_wakes_who_waits_for_its_lane(store, peer, lane):
    got: list[object] = []

    def wait() -> None:
        endpoint = peer.endpoint
        while (message := endpoint.receive(lane)) is None:
            assert endpoint.wait(1 << lane, TIMEOUT_S, endpoint.bell())
        got.append(message)

    waiter = run(wait)
    until_asleep(waiter)
    store.endpoint.sender(peer.address, lane).send(b"wake")
    waiter.join()
    assert got == [(store.address, b"wake")]


def test_a_foreground_thread_that_left_draws_no_messages_from_the_background(store, peer):
    """One waits for WORK; another waited for CONTROL and gave up: that is the background thread's again."""
    endpoint = peer.endpoint
    sender = store.endpoint.sender(peer.address, CONTROL)
    assert endpoint.receive(CONTROL) is None
    worker = run(lambda: endpoint.wait(1 << WORK, TIMEOUT_S, endpoint.bell()))
    until_asleep(worker)
    assert not endpoint.wait(1 << CONTROL, 0.001, endpoint.bell())
    woken: list[bool] = []
    background = run(lambda: woken.append(endpoint.wait_background(TIMEOUT_S / 4, endpoint.bell())))
    until_asleep(background)
    sender.send(b"for the background")
    background.join()
    assert woken == [True] and endpoint.receive(CONTROL) == (store.address, b"for the background")
    endpoint.ring()
    worker.join()


def test_an_event_wakes_an_event_loop_although_a_thread_waits_too(store, peer):
    endpoint = peer.endpoint
    fd = endpoint.fileno()
    bell = endpoint.bell()
    waiter = run(lambda: endpoint.wait(0, TIMEOUT_S, bell))
    until_asleep(waiter)
    assert endpoint.arm()
    endpoint.ring()
    waiter.join()
    assert os.read(fd, 8)


def test_close_wakes_the_threads_that_wait(store):
    """Foreground and background, without a time-out of their own; afterwards the memory is unmapped."""
    peer = Store.attach(store.fd)
    bell = peer.endpoint.bell()
    threads = [
        run(lambda: peer.endpoint.wait(3, None, bell)),
        run(lambda: peer.endpoint.wait(1, None, bell)),
        run(lambda: peer.endpoint.wait_background(None, bell)),
    ]
    for thread in threads:
        until_asleep(thread)
    peer.close()
    for thread in threads:
        thread.join()
    assert len(store.clients()) == 1


def test_close_ends_a_create_that_waits_for_room(store):
    peer = Store.attach(store.fd)
    everything = store.create_buffer(bytes(16), store.stats()["largest_free_bytes"])
    raised: list[BaseException] = []

    def create() -> None:
        try:
            peer.create_buffer(b"1" * 16, 1 << 20, timeout_s=None)
        except StoreClosedError as error:
            raised.append(error)

    waiter = run(create)
    until_asleep(waiter)
    peer.close()
    waiter.join()
    assert len(raised) == 1
    everything.abort()


def test_asyncio(store, peer):
    """fileno(), arm() and drain() in an event loop: nothing is lost, whenever the messages come."""
    count = 300

    async def receive() -> list[bytes]:
        endpoint, received, rung = peer.endpoint, [], asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(endpoint.fileno(), rung.set)
        try:
            while len(received) < count:
                received += [payload for _, payload in endpoint.receive_many()]
                if len(received) < count and endpoint.arm():
                    await asyncio.wait_for(rung.wait(), TIMEOUT_S)
                    rung.clear()
                    endpoint.drain()
        finally:
            loop.remove_reader(endpoint.fileno())
        return received

    def send() -> None:
        sender = store.endpoint.sender(peer.address)
        for number in range(count):
            bell = store.endpoint.bell()
            while not sender.send(b"%d" % number):
                store.endpoint.wait(0, TIMEOUT_S, bell)
            os.sched_yield()

    thread = run(send)
    assert asyncio.run(receive()) == [b"%d" % number for number in range(count)]
    thread.join()


# ---------------------------------------------------------------------------------------- deaths


def test_what_a_dead_sender_had_published_is_delivered(store):
    def body() -> None:
        child = Store.attach(store.fd)
        sender = child.endpoint.sender(address, WORK)
        for number in range(1000):
            sender.send(b"%d" % number)
        os.kill(os.getpid(), signal.SIGKILL)

    address = store.address
    assert exit_code(fork(body)) == -signal.SIGKILL
    received = [payload for _, payload in store.endpoint.receive_many(WORK, 500)]
    assert store.reap() == 1
    while got := store.endpoint.receive_many(WORK):
        received += [payload for _, payload in got]
    assert received == [b"%d" % number for number in range(1000)]
    assert store.audit().channels == 0


def test_a_sender_learns_that_its_peer_died(store):
    ready, tell = os.pipe()
    pid = fork(lambda: (Store.attach(store.fd, name="prey"), os.write(tell, b"x"), signal.pause()))
    try:
        os.read(ready, 1)
        address = next(client["address"] for client in store.clients() if client["name"] == "prey")
        sender = store.endpoint.sender(address)
        assert sender.send(b"hello")
        bell = store.endpoint.bell()
    finally:
        os.kill(pid, signal.SIGKILL)
        exit_code(pid)
        os.close(ready)
        os.close(tell)
    assert store.reap() == 1
    assert store.endpoint.bell() != bell and not sender.alive
    with pytest.raises(PeerDiedError):
        sender.send(b"anybody?")
    with pytest.raises(PeerDiedError):
        store.endpoint.sender(address)


def test_a_forked_child_can_not_use_its_parents_channels(store, peer):
    """Two producers in one ring would overwrite each other."""
    sender = store.endpoint.sender(peer.address)
    peer.endpoint.sender(store.address).send(b"for the parent")

    def body() -> None:
        for action in (lambda: sender.send(b"from the child"), store.endpoint.receive, store.endpoint.bell):
            try:
                action()
            except ForkedStoreError:
                continue
            raise AssertionError(action)

    assert exit_code(fork(body)) == 0
    assert peer.endpoint.receive() is None
    assert store.endpoint.receive() == (peer.address, b"for the parent")


# ---------------------------------------------------------------------------------------- damage

HEAD, TAIL, SENDER = 0, 64, 136


@pytest.mark.parametrize("field", [HEAD, TAIL])
@pytest.mark.parametrize("value", [8, 3, 1 << 20, (1 << 64) - 16, (1 << 18) - 4])
def test_a_damaged_ring_ends_in_silence(store, peer, field, value):
    ring = damaged_ring(store, peer, field, value)
    ring.send(b"x") if ring.alive else None
    for _ in range(3):
        peer.endpoint.receive_many()
    assert not peer.endpoint.has_message(), "a damaged ring would keep its receiver awake for ever"


def test_a_damaged_record_ends_in_silence(store, peer):
    ring = damaged_ring(store, peer, 192, 0xFFFFFFF0 | 1 << 32)  # the first record's size, and READY
    assert peer.endpoint.receive() is None and not peer.endpoint.has_message()
    with pytest.raises(PeerDiedError):
        ring.send(b"y")


def test_a_damaged_senders_address_rings_nobody(store, peer):
    sender = store.endpoint.sender(peer.address)
    assert peer.endpoint.receive() is None
    fill(sender)
    overwrite(store, peer, SENDER, 0xFFFF)
    peer.endpoint.receive_many()
    assert store.audit().ok


def damaged_ring(store: Store, peer: Store, field: int, value: int):
    sender = store.endpoint.sender(peer.address)
    sender.send(b"message")
    assert peer.endpoint.has_message()
    overwrite(store, peer, field, value)
    return sender


def overwrite(store: Store, peer: Store, field: int, value: int) -> None:
    """Writes eight bytes into the header (or the ring) of the channel from `store` to `peer`."""
    ends = struct.pack("<QQ", store.address, peer.address)
    size = os.fstat(store.fd).st_size
    with mmap.mmap(store.fd, size) as memory:
        at = (size - store.size_bytes) // 4096 * 4096
        at = memory.rfind(ends, 0, size) if size < 1 << 28 else memory.find(ends, at)
        memory[at - SENDER + field : at - SENDER + field + 8] = struct.pack("<Q", value)

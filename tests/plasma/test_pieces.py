"""An object that comes from a socket piece by piece, and one that goes to a socket without a copy."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plasma import (
    CREATED,
    PENDING,
    Store,
)
from plasma.testing import temporary_store

sys.path.insert(0, str(Path(__file__).parent))
from sleepers import run

A = b"\xa0" * 16


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


def test_an_object_is_received_in_pieces_while_others_wait_for_it(store, keeper):
    keeper.keep(A)
    far = keeper.stand_in()
    far.add_ref(A)
    store.add_ref(A)
    store.watch(A)
    data = os.urandom(300_000)
    here, there = socket.socketpair()
    thread = run(lambda: (there.sendall(data), there.close()))
    allocation = keeper.create_buffer(A, len(data))
    with memoryview(allocation) as memory:
        at = 0
        while at < len(memory):
            got = here.recv_into(memory[at:])
            assert got
            at += got
    thread.join()
    bell = store.endpoint.bell()
    allocation.seal()
    assert store.endpoint.bell() != bell
    assert bytes(store.get(A, 0)) == data
    assert {hold.holder: hold.refs for hold in store.holds()} == {
        store.address: 1,
        far.address: 1,
        keeper.address: 0,
    }
    here.close()
    far.close()
    store.drop_ref(A)


def test_one_that_was_cut_off_can_be_received_again(store, keeper):
    keeper.keep(A)
    store.add_ref(A)
    store.watch(A)
    allocation = keeper.create_buffer(A, 5000)
    with memoryview(allocation) as memory:
        memory[:100] = bytes(100)
    assert store.state(A) == CREATED
    del allocation
    assert store.state(A) == PENDING and store.audit().bytes_used == 0
    put(keeper, A, 5000)
    assert len(store.get(A, 0)) == 5000
    store.drop_ref(A)


def test_the_extent_of_an_object_is_where_its_bytes_are_in_the_file(store, keeper):
    data = os.urandom(200_000)
    store.put_parts(A, [data])
    view = keeper.get(A, 0)
    offset, size = keeper.extent(view)
    assert size == len(data) and os.pread(keeper.fd, size, offset) == data
    here, there = socket.socketpair()

    def send() -> None:
        at = 0
        while at < size:
            at += os.sendfile(there.fileno(), keeper.fd, offset + at, size - at)
        there.close()

    thread = run(send)
    received = b""
    while piece := here.recv(1 << 16):
        received += piece
    thread.join()
    here.close()
    assert received == data
    with pytest.raises(ValueError):
        store.extent(view)  # of another mapping
    view.release()
    with pytest.raises(ValueError):
        keeper.extent(view)


def test_the_extent_of_an_object_that_is_being_made_is_where_it_stays(store, keeper):
    data = os.urandom(200_000)
    allocation = store.create_buffer(A, len(data))
    memoryview(allocation)[:] = data
    offset, size = store.extent(allocation)
    assert size == len(data) and os.pread(store.fd, size, offset) == data
    with pytest.raises(ValueError):
        keeper.extent(allocation)
    allocation.seal()
    assert store.extent(store.get(A, 0)) == (offset, size)


def test_memory_can_be_populated_ahead_of_who_writes_to_it(store):
    data = os.urandom(200_000)
    allocation = store.create_buffer(A, len(data))
    assert allocation.fresh
    allocation.populate(0, len(data))
    memoryview(allocation)[:100_000] = data[:100_000]
    allocation.populate(50_000, 150_000)  # what is there stays
    memoryview(allocation)[100_000:] = data[100_000:]
    for start, size in ((-1, 5), (0, len(data) + 1), (len(data), 1), (0, -1)):
        with pytest.raises(ValueError, match="not"):
            allocation.populate(start, size)
    allocation.seal()
    allocation.populate(0, 5)
    assert bytes(store.get(A, 0)) == data
    del allocation
    store.delete(A)
    assert not store.create_buffer(A, len(data)).fresh

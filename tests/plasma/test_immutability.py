"""A sealed object is immutable because the MMU says so, and shared because its pages are the same."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from plasma import Store
from plasma import object_id as ids
from plasma.testing import temporary_store

PAGE = resource.getpagesize()


@pytest.fixture
def store() -> Iterator[Store]:
    with temporary_store() as store:
        yield store


def death_of(body: Callable[[], object]) -> int:
    """The exit code of a child that runs `body`: 0 if it lived, minus the signal if not."""
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # the test runner's handler would print a traceback
        body()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_another_client(store: Store, body: Callable[[Store], object]) -> int:
    return death_of(lambda: body(Store.attach(store.fd)))


def address_of(array) -> int:
    return array.__array_interface__["data"][0]


def test_a_c_level_write_to_what_get_returns_faults(store):
    object_id = store.put(np.zeros(100_000, np.uint8))

    def write(client: Store) -> None:
        array = client.load(object_id, 0)
        assert array.sum() == 0
        ctypes.memset(address_of(array) + 50_000, 1, 1)

    assert in_another_client(store, write) == -signal.SIGSEGV
    assert store.load(object_id, 0).sum() == 0


@pytest.mark.parametrize("size", [1, 100, 5000, 1_000_000])
def test_a_c_level_write_to_any_byte_of_a_buffer_faults(store, size):
    object_id = ids.new()
    store.put_parts(object_id, [bytes(size)])
    for at in {0, size - 1}:

        def write(client: Store, at: int = at) -> None:
            view = np.frombuffer(client.get(object_id, 0), np.uint8)
            ctypes.memset(address_of(view) + at, 1, 1)

        assert in_another_client(store, write) == -signal.SIGSEGV
    assert not any(bytes(store.get(object_id, 0)))


def test_the_creators_own_array_faults_after_the_put(store):
    """Before it, the very same address is writable: the creator filled the array through it."""

    def body(after_put: bool) -> Callable[[Store], None]:
        def write(client: Store) -> None:
            array = client.empty(100_000, np.uint8)
            address = address_of(array)
            ctypes.memset(address + 50_000, 1, 1)
            if after_put:
                client.put(array)
                assert array[50_000] == 1 and not array.flags.writeable
                ctypes.memset(address + 50_000, 2, 1)

        return write

    assert in_another_client(store, body(after_put=False)) == 0
    assert in_another_client(store, body(after_put=True)) == -signal.SIGSEGV
    store.reap()


def test_the_pages_are_writable_again_for_the_next_object(store):
    for _ in range(3):
        array = store.empty(1_000_000, np.uint8)
        array[:] = 7
        object_id = store.put(array)
        del array
        store.delete(object_id)
    assert store.audit().bytes_used == 0


def frame_of(address: int) -> int | None:
    """The number of the physical page behind an address of this process; None where that's secret."""
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(address // PAGE * 8)
        (entry,) = struct.unpack("<Q", pagemap.read(8))
    return entry & ((1 << 55) - 1) or None


def test_an_array_is_the_same_physical_pages_in_every_process(store):
    """The creator's frame is the reader's, and no reader has a page of its own: all of it is shared."""
    array = store.empty(1 << 20, np.uint8)
    array[:] = 1
    frame = frame_of(address_of(array))
    object_id = store.put(array)

    def read(client: Store) -> None:
        seen = client.load(object_id, 0)
        assert seen.sum() == 1 << 20  # touches every page
        assert frame_of(address_of(seen)) == frame
        kb = smaps_of(address_of(seen))
        assert kb["Rss"] >= 1024 and kb["Private_Dirty"] == kb["Private_Clean"] == 0
        assert kb["Pss"] <= kb["Rss"] / 2 + 64

    assert in_another_client(store, read) == 0
    assert in_another_client(store, read) == 0


def test_what_is_written_before_the_seal_stands_in_the_pages_of_a_reader_that_maps_them_already(store):
    """No copy at the seal either: the reader's mapping shows the bytes while they are being written."""
    with Store.attach(store.fd) as other:
        allocation = store.create_buffer(ids.new(), PAGE)
        with memoryview(allocation) as view:
            view[:4] = b"once"
        allocation.seal()
        view = np.frombuffer(other.get(allocation.object_id, 0), np.uint8)
        object_id = allocation.object_id
        assert bytes(view[:4]) == b"once"
        address, frame = address_of(view), frame_of(address_of(view))
        del view, allocation
        store.delete(object_id)
        again = store.create_buffer(object_id, PAGE)  # the extent that was just freed
        with memoryview(again) as writable:
            writable[:4] = b"then"
            assert ctypes.string_at(address, 4) == b"then"
        assert frame_of(address) == frame
        again.abort()


def smaps_of(address: int) -> dict[str, int]:
    """The kilobytes of the mapping that an address lies in, by kind."""
    found: dict[str, int] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            low, high = (int(number, 16) for number in first.split("-"))
            inside = low <= address < high
        elif inside and line.endswith("kB"):
            found[first[:-1]] = int(line.split()[1])
    return found

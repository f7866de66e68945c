"""The store beyond what every store must do (``test_testing`` runs that): bad input, full, shared, closed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

import plasma
from plasma import object_id as ids
from plasma.errors import (
    ForkedStoreError,
    GetTimeoutError,
    LayoutVersionError,
    NotAStoreError,
    ObjectExistsError,
    ObjectLostError,
    ObjectNotFoundError,
    ObjectSealedError,
    ObjectStoreFullError,
    ObjectTooLargeError,
    SerializationError,
    StoreClosedError,
    TableFullError,
    TooManyClientsError,
)
from plasma.testing import assert_sound, temporary_store

MIB = 1 << 20


@pytest.fixture
def store():
    with temporary_store() as store:
        yield store


@pytest.fixture
def other(store):
    """A second client of the same store."""
    other = plasma.Store.attach(store.fd)
    yield other
    other.close()


# ---------------------------------------------------------------------------------------- two clients


def test_what_one_client_seals_the_other_gets(store, other):
    object_id = store.put([1, "two"])
    assert other.load(object_id, 0) == [1, "two"]
    assert other.contains(object_id)
    assert store.address != other.address


def test_a_get_waits_for_the_seal(store, other):
    object_id = ids.new()
    got: list = []
    waiter = threading.Thread(target=lambda: got.append(other.load(object_id, 20)))
    waiter.start()
    store.put("finally", object_id)
    waiter.join()
    assert got == ["finally"]


def test_a_get_learns_that_the_object_will_never_come(store, other):
    object_id = ids.new()
    store.declare(object_id)
    raised: list = []

    def wait():
        try:
            other.get(object_id, 20)
        except ObjectLostError as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    store.abandon(object_id)
    waiter.join()
    assert len(raised) == 1
    store.drop_ref(object_id)


def test_a_put_waits_for_room(store):
    object_id = ids.new()
    store.put_parts(object_id, [bytes(40 * MIB)], referenced=True)
    done: list = []
    writer = threading.Thread(
        target=lambda: done.append(store.put_parts(ids.new(), [bytes(40 * MIB)], timeout_s=20))
    )
    writer.start()
    store.drop_ref(object_id)
    writer.join()
    assert done == [40 * MIB]


def test_an_object_may_belong_to_another_client(store, other):
    object_id = ids.new()
    store.put_parts(object_id, [b"for you"], owner=other.address, referenced=True)
    other.drop_ref(object_id)
    assert not store.contains(object_id)


def test_an_object_holds_what_it_contains(store):
    inner, outer = ids.new(), ids.new()
    store.put_parts(inner, [b"inner"], referenced=True)
    store.put_parts(outer, [b"outer"], contained=[inner], referenced=True)
    store.drop_ref(inner)
    assert store.contains(inner)
    store.drop_ref(outer)
    assert not store.contains(inner)


def test_a_client_that_closes_gives_everything_back(store):
    client = plasma.Store.attach(store.fd)
    referenced, unsealed = ids.new(), ids.new()
    client.put_parts(referenced, [bytes(MIB)], referenced=True)
    allocation = client.create_buffer(unsealed, MIB)
    del allocation
    client.close()
    gc.collect()
    assert store.state(referenced) == plasma.ABSENT
    assert store.state(unsealed) == plasma.ABSENT


def test_views_stay_valid_after_close(store):
    client = plasma.Store.attach(store.fd)
    view = memoryview(client.get(client.put(b"x" * 100_000), 0))
    client.close()
    assert bytes(view[-10:]) == b"x" * 10
    del view
    gc.collect()


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("wrong", ["0" * 16, None, 5, bytearray(16)])
def test_an_id_of_another_type(store, wrong):
    for action in (
        store.get,
        store.try_get,
        store.contains,
        store.state,
        store.delete,
        store.declare,
        store.add_ref,
        store.take_ref,
    ):
        with pytest.raises(TypeError):
            action(wrong)


@pytest.mark.parametrize("wrong", [b"", bytes(15), bytes(17)])
def test_an_id_of_another_length(store, wrong):
    for action in (
        store.get,
        store.try_get,
        store.contains,
        store.state,
        store.delete,
        store.declare,
        store.add_ref,
        store.take_ref,
    ):
        with pytest.raises(ValueError, match="16"):
            action(wrong)


def test_get_of_an_unknown_id(store):
    with pytest.raises(ObjectNotFoundError):
        store.get(ids.new(), 0)
    with pytest.raises(GetTimeoutError):
        store.get(ids.new(), 0.01)
    with pytest.raises(GetTimeoutError):
        store.load(ids.new(), 0.01)


def test_an_object_larger_than_the_store(store):
    with pytest.raises(ObjectTooLargeError, match="larger store"):
        store.put(bytes(65 * MIB))
    assert store.load(store.put("still usable"), 0) == "still usable"


def test_a_store_full_of_pinned_objects():
    with temporary_store(size_bytes=4 * MIB) as store:
        pins = []
        with pytest.raises(ObjectStoreFullError):
            for _ in range(100):
                object_id = ids.new()
                store.put_parts(object_id, [bytes(MIB // 2)])
                pins.append(store.get(object_id, 0))
        assert len(pins) >= 6
        pins.clear()
        store.put_parts(ids.new(), [bytes(MIB // 2)])


def test_a_full_table():
    with temporary_store(max_objects=64) as store:
        with pytest.raises(TableFullError):
            for _ in range(5000):
                store.declare(ids.new())
        assert_sound(store)


def test_more_clients_than_slots():
    with temporary_store(max_clients=3) as store:
        clients = [plasma.Store.attach(store.fd) for _ in range(2)]
        with pytest.raises(TooManyClientsError):
            plasma.Store.attach(store.fd)
        clients.pop().close()
        clients.append(plasma.Store.attach(store.fd))
        for client in clients:
            client.close()


def test_a_second_object_of_the_same_id(store):
    object_id = store.put(1)
    for action in (
        lambda: store.put(2, object_id),
        lambda: store.put_parts(object_id, [b"2"]),
        lambda: store.create_buffer(object_id, 8),
    ):
        with pytest.raises(ObjectExistsError):
            action()


def test_a_seal_twice_and_a_write_after_it(store):
    allocation = store.create_buffer(ids.new(), 8)
    allocation.seal()
    with pytest.raises(ObjectSealedError):
        allocation.seal()
    with pytest.raises(ObjectSealedError):
        allocation.abort()
    with memoryview(allocation) as view, pytest.raises(TypeError):
        view[0] = 1


def test_an_unpicklable_value_leaves_nothing_behind(store):
    before = store.audit().objects
    with pytest.raises(SerializationError, match=r"value\['lock'\]"):
        store.put({"lock": threading.Lock()})
    assert store.audit().objects == before


def test_bytes_that_are_no_value(store):
    object_id = ids.new()
    store.put_parts(object_id, [b"raw bytes"])
    with pytest.raises(plasma.CorruptStoreError):
        store.load(object_id, 0)


@pytest.mark.parametrize("size_bytes", [-1, 1 << 63])
def test_impossible_sizes(store, size_bytes):
    with pytest.raises((ValueError, OverflowError, ObjectTooLargeError)):
        store.create_buffer(ids.new(), size_bytes)


def test_an_empty_object(store):
    object_id = ids.new()
    store.create_buffer(object_id, 0).seal()
    assert bytes(store.get(object_id, 0)) == b""


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, bytes(MIB)], ids=len)
def test_attaching_to_what_is_no_store(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "r+b") as file, pytest.raises(NotAStoreError):
        plasma.Store.attach(file.fileno())


def test_attaching_to_something_without_memory():
    reading, writing = os.pipe()
    for fd in (reading, writing, 12345):
        with pytest.raises((NotAStoreError, OSError)):
            plasma.Store.attach(fd)
    os.close(reading)
    os.close(writing)


def test_a_store_of_another_version(store):
    fd = os.memfd_create("copy")
    try:
        size_bytes = os.fstat(store.fd).st_size
        os.truncate(fd, size_bytes)
        header = bytearray(os.pread(store.fd, 4096, 0))
        header[8] += 1  # the layout's version follows the magic number
        os.pwrite(fd, header, 0)
        with pytest.raises(LayoutVersionError):
            plasma.Store.attach(fd)
    finally:
        os.close(fd)


# ---------------------------------------------------------------------------------------- closed and forked


def test_a_closed_store(store):
    client = plasma.Store.attach(store.fd)
    client.close()
    client.close()
    assert client.closed
    for action in (
        lambda: client.put(1),
        lambda: client.get(ids.new(), 0),
        client.audit,
        client.list,
        client.reap,
    ):
        with pytest.raises(StoreClosedError):
            action()


def test_a_forked_child_must_open_its_own():
    code = (
        "import os, plasma, sys\n"
        "store = plasma.Store.create(1 << 20)\n"
        "object_id = store.put('from the parent')\n"
        "if os.fork() == 0:\n"
        "    try: store.put(1)\n"
        "    except plasma.ForkedStoreError: pass\n"
        "    else: os._exit(1)\n"
        "    own = plasma.Store.attach(store.fd)\n"
        "    os._exit(0 if own.load(object_id, 0) == 'from the parent' else 2)\n"
        "_, status = os.wait()\n"
        "assert store.load(object_id, 0) == 'from the parent'\n"
        "store.reap(); assert store.audit().ok and store.audit().clients == 1\n"
        "sys.exit(os.waitstatus_to_exitcode(status))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ForkedStoreError.__mro__[1] is plasma.UsageError


def test_a_program_that_ends_without_closing_is_silent():
    code = (
        "import plasma, numpy\n"
        "store = plasma.Store.create(1 << 22)\n"
        "array = store.load(store.put(numpy.arange(1000)))\n"
        "unsealed = store.empty(10)\n"
        "pin = store.get(store.put(b'x'))\n"
        "allocation = store.create_buffer(bytes(16), 10)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_dead_client_is_reaped(store):
    code = (
        "import os, plasma, signal, sys\n"
        "store = plasma.Store.attach(int(sys.argv[1]))\n"
        "store.put_parts(b'r' * 16, [b'x'], referenced=True)\n"
        "unsealed = store.create_buffer(b'u' * 16, 1000)\n"
        "store.declare(b'p' * 16)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(store.fd)], pass_fds=[store.fd])
    assert store.audit().clients == 2
    assert store.reap() == 1
    assert store.reap() == 0
    assert [store.state(letter * 16) for letter in (b"r", b"u", b"p")] == [plasma.ABSENT] * 3
    assert store.audit().clients == 1


# ---------------------------------------------------------------------------------------- waiting and listing


def test_wait_with_fewer_than_asked(store):
    known, unknown = store.put(1), ids.new()
    assert store.wait([unknown, known], 2, 0) == ([known], [unknown])
    assert store.wait([], 0, 0) == ([], [])


def test_wait_is_woken_by_a_seal(store, other):
    object_id = ids.new()
    results: list = []
    waiter = threading.Thread(target=lambda: results.append(other.wait([object_id], 1, 20)))
    waiter.start()
    store.put(1, object_id)
    waiter.join()
    assert results == [([object_id], [])]


def test_list_shows_every_object(store):
    objects = {store.put(number) for number in range(10)}
    assert {info.object_id for info in store.list()} == objects
    assert all(info.state == "sealed" and info.size_bytes > 0 for info in store.list())


def test_stats_are_numbers(store):
    store.put(1)
    assert all(isinstance(value, int) for value in store.stats().values())


# ---------------------------------------------------------------------------------------- against a model


class StoreModel(RuleBasedStateMachine):
    """The store beside a dict, under any order of operations of two clients; sound after each."""

    objects = Bundle("objects")

    @initialize()
    def open(self):
        self.store = plasma.Store.create(8 * MIB, max_objects=512, max_clients=4)
        self.other = plasma.Store.attach(self.store.fd)
        self.content: dict[bytes, bytes] = {}
        self.references: dict[bytes, int] = {}
        self.pins: list = []

    @rule(target=objects, content=st.binary(max_size=300), repeat=st.sampled_from([1, 1000]))
    def put(self, content, repeat):
        object_id = ids.new()
        self.store.put_parts(object_id, [content * repeat], referenced=True)
        self.content[object_id] = content * repeat
        self.references[object_id] = 1
        return object_id

    @rule(target=objects, inner=objects)
    def put_container(self, inner):
        object_id = ids.new()
        if inner not in self.content:
            return object_id
        self.store.put_parts(object_id, [b"container"], contained=[inner], referenced=True)
        self.content[object_id] = b"container"
        self.references[object_id] = 1
        self.store.add_ref(inner)  # so that the model needn't follow what containers hold
        self.references[inner] += 1
        return object_id

    @rule(object_id=objects)
    def pin(self, object_id):
        buffer = self.other.try_get(object_id)
        assert (buffer is not None) == (object_id in self.content)
        if buffer is not None:
            self.pins.append((memoryview(buffer), self.content[object_id]))

    @rule()
    def unpin(self):
        if self.pins:
            self.pins.pop()

    @rule(object_id=objects)
    def add_ref(self, object_id):
        assert self.store.add_ref(object_id) == (object_id in self.content)
        if object_id in self.content:
            self.references[object_id] += 1

    @rule(object_id=objects)
    def drop_ref(self, object_id):
        if self.references.get(object_id, 0) > 1:
            self.store.drop_ref(object_id)
            self.references[object_id] -= 1

    @rule(object_id=consumes(objects))
    def delete(self, object_id):
        if object_id in self.content:
            self.store.delete(object_id)
            del self.content[object_id], self.references[object_id]

    @rule(size_bytes=st.integers(0, 100_000))
    def create_and_abort(self, size_bytes):
        allocation = self.other.create_buffer(ids.new(), size_bytes)
        allocation.abort()

    @invariant()
    def everything_is_there_and_nothing_else(self):
        if not hasattr(self, "store"):
            return
        assert_sound(self.store)
        assert {info.object_id for info in self.store.list() if info.state == "sealed"} == set(self.content)
        for object_id, content in self.content.items():
            assert bytes(self.store.get(object_id, 0)) == content
        assert all(bytes(view) == content for view, content in self.pins)

    def teardown(self):
        if hasattr(self, "store"):
            self.pins.clear()
            self.other.close()
            self.store.close()


TestStoreModel = StoreModel.TestCase


def test_a_creation_that_fails_leaves_what_it_would_have_contained(store):
    """What nobody references is kept until its memory is needed, also when a reference nearly was."""
    key = store.put(b"cached")
    with pytest.raises(plasma.ObjectNotFoundError):
        store.create_buffer(b"o" * 16, 100, contained=[key, b"n" * 16])
    assert store.get(key) is not None
    assert store.contains(key)

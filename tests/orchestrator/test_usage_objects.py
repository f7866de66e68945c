"""Objects: put, get and their rules; writable copies, names, freeing, locations, serializers."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.core import runtime as runtimes
from orchestrator.exceptions import (
    GetTimeoutError,
    ObjectFreedError,
    ObjectLostError,
    SerializationError,
    TaskError,
)
from orchestrator.experimental import get_local_object_locations, get_object_locations
from orchestrator.util import deregister_serializer, list_named_objects, register_serializer

LARGE = 1 << 20


@pytest.fixture
def store(session):
    return runtimes.require().store


def large(value: float = 1.0) -> np.ndarray:
    return np.full(LARGE // 8, value)


@ray.remote
def identity(value):
    return value


class TestPutAndGet:
    @pytest.mark.parametrize("value", [None, 0, "x" * 5000, b"y" * 200_000, [1, {"a": (2,)}], {1, 2}])
    def test_a_value_comes_back(self, session, value):
        assert ray.get(ray.put(value)) == value

    def test_a_reference_is_not_put(self, session):
        with pytest.raises(TypeError, match="put it into a list"):
            ray.put(ray.put(1))

    def test_a_list_keeps_its_order(self, session):
        assert ray.get([ray.put(number) for number in range(100)]) == list(range(100))
        assert ray.get([]) == []

    @pytest.mark.parametrize("wrong", [(1,), {1}, "x", 5, None])
    def test_get_takes_references_and_lists_of_them(self, session, wrong):
        with pytest.raises((TypeError, ValueError), match=r"get\(\) takes"):
            ray.get(wrong)
        with pytest.raises((TypeError, ValueError), match=r"get\(\) takes"):
            ray.get((ray.put(1),))
        with pytest.raises((TypeError, ValueError), match=r"get\(\) takes"):
            ray.get([ray.put(1), 5])

    def test_the_first_error_is_raised_without_waiting_for_the_rest(self, session):
        @ray.remote
        def fail():
            raise ValueError("early")

        @ray.remote
        def wait_for_ever():
            threading.Event().wait()

        hanging = wait_for_ever.remote()
        with pytest.raises(ValueError, match="early"):
            ray.get([hanging, fail.remote()], timeout=30)
        ray.cancel(hanging, force=True)

    def test_timeouts(self, session):
        @ray.remote
        def wait_for_ever():
            threading.Event().wait()

        ref = wait_for_ever.remote()
        for timeout in (0, 0.01):
            with pytest.raises(GetTimeoutError) as caught:
                ray.get(ref, timeout=timeout)
            assert isinstance(caught.value, TimeoutError)
        assert ray.get(ray.put(1), timeout=0) == 1
        assert ray.get(identity.remote(1), timeout=-1) == 1, "a negative one waits for ever"
        ray.cancel(ref, force=True)

    def test_a_value_is_stored_once_however_often_it_occurs(self, session, store):
        one = large()
        ref = ray.put([one, one])
        first, second = ray.get(ref)
        assert first is second
        assert get_object_locations([ref])[ref]["object_size"] < 1.1 * LARGE

    def test_arrays_are_read_only(self, session):
        for array in (large(), np.ones(3)):
            got = ray.get(ray.put(array))
            with pytest.raises(ValueError, match="read-only"):
                got[0] = 2

    def test_a_view_keeps_its_object_when_the_reference_is_gone(self, session, store):
        before = store.stats()["used_bytes"]
        part = ray.get(ray.put(large(7)))[10:20]
        gc.collect()
        assert store.stats()["used_bytes"] > before
        for number in range(50):
            ray.put(large(number))
        assert (part == 7).all()
        del part
        assert store.stats()["used_bytes"] == before

    def test_a_value_that_cannot_be_rebuilt(self, session):
        """The error is the runtime's own, and names what happened."""
        for size in (1, 200_000):
            ref = ray.put(Unbuildable(size))
            with pytest.raises(SerializationError, match="ZeroDivisionError: not here"):
                ray.get(ref)
            with pytest.raises(SerializationError, match="not here"):
                ray.get([ref])
            with pytest.raises(TaskError, match="not here"):
                ray.get(identity.remote(ref))

    def test_copies_of_a_reference_are_the_reference(self, session):
        ref = ray.put(1)
        assert copy.copy(ref) is ref
        assert copy.deepcopy([ref])[0] is ref
        assert ref in {ref} and ref == pickle.loads(pickle.dumps(ref))

    def test_a_reference_serialized_elsewhere_keeps_its_object(self, session):
        """Nobody can follow it, so the object lives as long as whoever pickled it; or until it is freed."""
        text = ray.cloudpickle.dumps(ray.put(large(3)))
        gc.collect()
        ref = ray.cloudpickle.loads(text)
        assert ray.get(ref)[0] == 3
        ray.free(ref)
        with pytest.raises(ObjectFreedError):
            ray.get(ray.cloudpickle.loads(text))


class Unbuildable:
    def __init__(self, size: int) -> None:
        self.data = b"x" * size

    def __reduce__(self):
        return _fail, (self.data,)


def _fail(data: bytes) -> None:
    raise ZeroDivisionError("not here")


class TestWait:
    def test_no_more_than_asked_for_and_in_order(self, session):
        refs = [ray.put(number) for number in range(5)]
        assert ray.wait(refs, num_returns=2) == (refs[:2], refs[2:])
        assert ray.wait(refs, num_returns=5, fetch_local=False) == (refs, [])
        assert ray.wait([]) == ([], [])

    def test_what_failed_is_ready(self, session):
        @ray.remote
        def fail():
            raise ValueError

        ref = fail.remote()
        assert ray.wait([ref], timeout=30) == ([ref], [])

    def test_what_is_refused(self, session):
        ref = ray.put(1)
        with pytest.raises(TypeError, match="list"):
            ray.wait(ref)
        with pytest.raises(ValueError, match="once"):
            ray.wait([ref, ref])
        with pytest.raises(TypeError, match="int"):
            ray.wait([ref, 1])
        for number in (0, 2):
            with pytest.raises(ValueError, match="num_returns"):
                ray.wait([ref], num_returns=number)
        with pytest.raises(ValueError, match="timeout"):
            ray.wait([ref], timeout=-1)


class TestWritable:
    @pytest.mark.parametrize("size", [3, LARGE // 8], ids=["small", "large"])
    def test_what_is_written_nobody_else_sees(self, session, size):
        ref = ray.put({"a": np.zeros(size), "b": [np.ones(size)]})
        mine = ray.get(ref, writable=True)
        mine["a"][:] = 5
        mine["b"][0] += 1
        theirs = ray.get(ref)
        assert not theirs["a"].any() and (theirs["b"][0] == 1).all()
        assert not theirs["a"].flags.writeable
        (again,) = ray.get([ref], writable=True)
        assert not again["a"].any()

    def test_only_pages_that_are_written_to_are_copied(self, session):
        ref = ray.put(np.zeros(64 * LARGE // 8))
        private = private_kib()
        array = ray.get(ref, writable=True)
        assert not array.any()
        array[:1000] = 1
        assert private_kib() - private < 2048
        array[:] = 1
        assert private_kib() - private > 60 * 1024

    def test_it_pins_what_it_shows(self, session, store):
        before = store.stats()["used_bytes"]
        array = ray.get(ray.put(large(4)), writable=True)
        array[0] = 0
        gc.collect()
        for number in range(50):
            ray.put(large(number))
        assert (array[1:] == 4).all()
        del array
        assert store.stats()["used_bytes"] == before

    def test_plain_values_and_errors(self, session):
        assert ray.get(ray.put(5), writable=True) == 5

        @ray.remote
        def fail():
            raise KeyError("x")

        with pytest.raises(KeyError):
            ray.get(fail.remote(), writable=True)

    def test_arguments_of_tasks_and_methods(self, session):
        @ray.remote(writable_args=True)
        def increase(array, by=None):
            array += 1
            if by is not None:
                by *= 0
            return float(array.sum())

        @ray.remote
        class Increaser:
            @ray.method(writable_args=True)
            def increase(self, array):
                array += 1
                return float(array.sum())

            def plain(self, array):
                array += 1

        for array in (np.zeros(5), large(0)):
            ref = ray.put(array)
            assert ray.get(increase.remote(ref)) == array.size
            assert ray.get(increase.remote(array, by=ref)) == array.size
            actor = Increaser.remote()
            assert ray.get(actor.increase.remote(ref)) == array.size
            with pytest.raises(ValueError, match="read-only"):
                ray.get(actor.plain.remote(ref))
            assert not ray.get(ref).any()

    def test_the_option_is_checked(self):
        with pytest.raises(TypeError, match="writable_args"):
            ray.remote(writable_args=1)(large)


def private_kib() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


class TestFree:
    def test_a_freed_object_s_memory_is_free(self, session, store):
        before = store.stats()["used_bytes"]
        refs = [ray.put(large(number)) for number in range(3)]
        ray.free(refs)
        assert store.stats()["used_bytes"] == before
        for ref in refs:
            with pytest.raises(ObjectFreedError, match=ref.hex()) as caught:
                ray.get(ref, timeout=60)
            assert isinstance(caught.value, ObjectLostError)

    def test_small_ones_too_and_at_ray_s_own_place(self, session):
        from orchestrator._private.internal_api import free

        for value in (1, [1, 2], large()):
            ref = ray.put(value)
            free([ref], local_only=True)
            free(ref)
            with pytest.raises(ObjectFreedError):
                ray.get(ref)
            ready, rest = ray.wait([ref])
            assert ready and not rest

    def test_a_task_s_result_is_not_made_again(self, session):
        ref = identity.remote(large(1))
        ray.wait([ref])
        ray.free(ref)
        with pytest.raises(ObjectFreedError):
            ray.get(ref, timeout=60)
        with pytest.raises(ObjectFreedError):
            ray.get(identity.remote(ref), timeout=60)

    def test_one_that_is_being_made_is_freed_when_it_is_there(self, session, store, tmp_path):
        before = store.stats()["used_bytes"]

        @ray.remote
        def make(path):
            while not os.path.exists(path):
                threading.Event().wait(0.005)
            return large()

        ref = make.remote(str(tmp_path / "go"))
        ray.free(ref)
        (tmp_path / "go").write_text("")
        with pytest.raises(ObjectFreedError):
            ray.get(ref, timeout=30)
        assert store.stats()["used_bytes"] - before < 10_000, "no more than the function"

    def test_whoever_borrows_it_is_told(self, session):
        @ray.remote
        class Borrower:
            def keep(self, refs):
                self.refs = refs
                return ray.get(refs)[0][0]

            def read(self):
                return ray.get(self.refs)

        ref = ray.put(large(2))
        borrower = Borrower.remote()
        assert ray.get(borrower.keep.remote([ref])) == 2
        ray.free(ref)
        with pytest.raises(ObjectFreedError):
            ray.get(borrower.read.remote(), timeout=30)
        with pytest.raises(ObjectFreedError):
            ray.get(borrower.keep.remote([ref]), timeout=30)

    def test_views_stay(self, session):
        ref = ray.put(large(9))
        view = ray.get(ref)
        ray.free(ref)
        assert (view == 9).all()

    def test_what_is_refused(self, session):
        for wrong in (5, [5], "x"):
            with pytest.raises(TypeError, match=r"free\(\) takes"):
                ray.free(wrong)


class TestNames:
    def test_found_by_name_anywhere(self, session):
        ray.put({"weights": large(3)}, name="model")

        @ray.remote
        def read():
            return float(ray.get(ray.get_object("model"))["weights"][0])

        try:
            assert ray.get(read.remote()) == 3
            assert ray.get(ray.get_object("model"))["weights"][0] == 3
        finally:
            ray.forget_object("model")

    @pytest.mark.parametrize("value", [7, [1, 2], "large"])
    def test_outlives_the_process_that_made_it(self, session, value):
        @ray.remote
        class Maker:
            def make(self):
                ray.put(large(5) if value == "large" else value, name="kept")
                return os.getpid()

        maker = Maker.remote()
        pid = ray.get(maker.make.remote())
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        import select

        select.select([pidfd], [], [])
        os.close(pidfd)
        found = ray.get(ray.get_object("kept"))
        assert found[0] == 5 if value == "large" else found == value
        ray.forget_object("kept")

    def test_a_name_is_taken_once_and_may_be_given_away_again(self, session, store):
        before = store.stats()["used_bytes"]
        ray.put(large(), name="one")
        with pytest.raises(ValueError, match="'one' exists already"):
            ray.put(2, name="one")
        ray.put(2, name="one", namespace="elsewhere")
        assert ray.get(ray.get_object("one", namespace="elsewhere")) == 2
        assert list_named_objects() == ["one"]
        assert {"namespace": "elsewhere", "name": "one"} in list_named_objects(all_namespaces=True)
        ray.forget_object("one")
        ray.forget_object("one", namespace="elsewhere")
        assert store.stats()["used_bytes"] == before
        with pytest.raises(ValueError, match="no object named 'one'"):
            ray.get_object("one")
        with pytest.raises(ValueError, match="no object named 'one'"):
            ray.forget_object("one")

    def test_what_is_refused(self, session):
        for wrong in ("", 5):
            with pytest.raises(ValueError, match="non-empty str"):
                ray.put(1, name=wrong)
        with pytest.raises(ValueError, match="non-empty str"):
            ray.get_object("")


def test_locations(session):
    small, here, pending = ray.put([1]), ray.put(large()), None
    found = get_object_locations([small, here])
    assert found[here]["node_ids"] == [ray.get_runtime_context().get_node_id()]
    assert found[here]["object_size"] >= LARGE
    assert found[here]["did_spill"] is False
    assert found[small]["node_ids"] == []
    assert found[small]["object_size"] > 0
    assert get_local_object_locations([here]) == {here: found[here]}
    with pytest.raises(TypeError, match="references"):
        get_object_locations([pending])


class Connection:
    """Holds what can't be pickled."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.lock = threading.Lock()


class TestSerializers:
    def test_registered_and_taken_back(self, session):
        with pytest.raises(SerializationError):
            ray.put(Connection("a"))
        for _ in range(2):  # twice is as good as once
            register_serializer(Connection, serializer=lambda c: c.address, deserializer=Connection)
        try:
            assert ray.get(ray.put(Connection("a"))).address == "a"
            assert ray.get(identity.options(num_returns=1).remote([1])) == [1]

            @ray.remote
            def address(connection):
                return connection.address

            assert ray.get(address.remote(Connection("b"))) == "b"
            assert ray.get(ray.put([Connection("c")] * 2))[1].address == "c"
        finally:
            deregister_serializer(Connection)
        deregister_serializer(Connection)
        with pytest.raises(SerializationError):
            ray.put(Connection("a"))

    def test_what_is_refused(self):
        for cls in (int, dict, np.ndarray, type, "Connection"):
            with pytest.raises(TypeError):
                register_serializer(cls, serializer=str, deserializer=int)
        with pytest.raises(TypeError, match="deserializer"):
            register_serializer(Connection, serializer=str, deserializer=None)

"""Arrays that are born in the store are put without a copy; all others are copied, correctly."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

import plasma
from plasma import arrays
from plasma import object_id as ids
from plasma.errors import ObjectStoreFullError, ObjectTooLargeError
from plasma.serialization import serialize
from plasma.testing import temporary_store


@pytest.fixture
def store():
    with temporary_store() as store:
        yield store


def test_put_only_seals(store):
    array = store.empty((1000, 100), "f4")
    array[:] = 3
    used_bytes = store.audit().bytes_used
    object_id = store.put(array)
    assert store.audit().bytes_used == used_bytes
    assert store.state(object_id) == plasma.SEALED
    np.testing.assert_array_equal(store.load(object_id, 0), np.full((1000, 100), 3, "f4"))


def test_the_array_is_read_only_after_put(store):
    array = store.empty(10)
    array[:] = 1
    store.put(array)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2
    assert array.sum() == 10


def test_what_is_written_before_the_seal_is_what_others_read(store):
    with_store = plasma.Store.attach(store.fd)
    try:
        array = store.empty(5, "i8")
        array[:] = range(5)
        object_id = store.put(array)
        assert with_store.load(object_id, 0).tolist() == [0, 1, 2, 3, 4]
    finally:
        with_store.close()


@given(
    st_numpy.array_shapes(min_dims=0, min_side=0, max_dims=4),
    st.sampled_from(["u1", "<f8", ">i4", "c16", "M8[ns]", "U3", "?"]),
    st.sampled_from("CF"),
)
def test_the_layout_is_that_of_a_serialized_array(shape, dtype, order):
    with temporary_store(size_bytes=1 << 20) as store:
        array = arrays.empty(store, shape, dtype, order=order)
        array[...] = np.zeros((), dtype)
        assert array.dtype == np.dtype(dtype)
        assert array.shape == shape
        assert array.ctypes.data % 64 == 0 or array.size == 0
        object_id = store.put(array)
        with memoryview(store.get(object_id, 0)) as stored:
            assert stored == serialize(np.array(array, order=order)).to_bytes()


def test_an_allocation_is_recognised_only_under_the_whole_array(store):
    array = arrays.empty(store, (4, 6), "f4")
    assert arrays.allocation_under(array) is not None
    assert arrays.allocation_under(array[:]) is not None
    for other in (
        array[1:],
        array[:, :3],
        array.T,
        array.reshape(6, 4),
        array.view("i4"),
        array.copy(),
        np.ones(3),
    ):
        assert arrays.allocation_under(other) is None


@pytest.mark.parametrize(
    "change", [lambda a: a[1:], lambda a: a.T, lambda a: a.reshape(-1), lambda a: a.view("i4")]
)
def test_other_views_of_the_memory_are_copied(store, change):
    array = store.empty((3, 4), "f4")
    array[:] = np.arange(12).reshape(3, 4)
    view = change(array)
    back = store.load(store.put(view), 0)
    np.testing.assert_array_equal(back, view)
    assert not np.shares_memory(back, array)
    array[0, 0] = 5


def test_put_twice_stores_a_copy_the_second_time(store):
    array = store.empty(3)
    array[:] = 1
    first, second = store.put(array), store.put(array)
    assert first != second
    np.testing.assert_array_equal(store.load(first, 0), store.load(second, 0))


def test_put_under_another_id_copies(store):
    array = store.empty(3)
    array[:] = 1
    object_id = ids.new()
    assert store.put(array, object_id) == object_id
    assert store.load(object_id, 0).tolist() == [1, 1, 1]


def test_an_id_of_ones_own(store):
    object_id = ids.new()
    array = arrays.empty(store, 3, object_id=object_id)
    array[:] = 2
    assert store.put(array) == object_id
    assert store.load(object_id, 0).tolist() == [2, 2, 2]


def test_an_array_in_another_store_is_copied(store):
    with temporary_store() as other:
        array = other.empty(3)
        array[:] = 4
        assert store.load(store.put(array), 0).tolist() == [4, 4, 4]
        del array


def test_an_array_that_is_dropped_gives_its_memory_back(store):
    used_bytes = store.audit().bytes_used
    array = store.empty(100_000)
    view = array[10:20]
    del array
    gc.collect()
    assert store.audit().bytes_used > used_bytes
    view[:] = 1
    del view
    gc.collect()
    assert store.audit().bytes_used == used_bytes


@pytest.mark.parametrize("dtype", [object, "f4, i8", "V8", "U0"])
def test_dtypes_without_a_fixed_layout(store, dtype):
    with pytest.raises(TypeError, match="no fixed layout"):
        store.empty(3, dtype)


@pytest.mark.parametrize("shape", [-1, (2, -3)])
def test_impossible_shapes(store, shape):
    with pytest.raises(ValueError, match="negative"):
        store.empty(shape)


def test_an_array_larger_than_the_store(store):
    with pytest.raises(ObjectTooLargeError):
        store.empty(1 << 40)


def test_a_store_that_is_full_of_arrays_being_written():
    with temporary_store(size_bytes=1 << 20) as store:
        array = store.empty(600_000, "u1")
        with pytest.raises(ObjectStoreFullError):
            store.empty(600_000, "u1")
        array[:] = 1
        del array
        gc.collect()
        store.empty(600_000, "u1")

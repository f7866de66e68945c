"""Values survive the way to bytes and back; buffers aren't copied; bytes that aren't values are refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import fractions
import functools
import importlib
import pickle
import struct
import subprocess
import sys

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from plasma import array_layout, serialization
from plasma.errors import CorruptStoreError, PlasmaError, SerializationError
from plasma.parts import ALIGNMENT_BYTES
from plasma.serialization import Serializer, deserialize, dumps, loads, serialize


def round_trip(value):
    """Through the store's layout, read-only as the store's memory is, and through a message."""
    serialized = serialize(value)
    flat = serialized.to_bytes()
    assert len(flat) == serialized.size_bytes
    assert dumps(value) == flat
    return deserialize(memoryview(flat))


def kind(value) -> int:
    return serialize(value).to_bytes()[0]


# ---------------------------------------------------------------------------------------- builtins

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.complex_numbers(allow_nan=False),
)
hashables = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5
)
builtins = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(hashables, inner) | st.sets(hashables),
    max_leaves=20,
)


@given(builtins)
def test_builtins_come_back_equal_and_of_the_same_type(value):
    back = round_trip(value)
    assert back == value
    assert type(back) is type(value)


@given(st.lists(st.integers()))
def test_loads_is_the_inverse_of_dumps(value):
    assert loads(dumps(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc),
        fractions.Fraction(1, 3),
        collections.OrderedDict(a=1),
        collections.Counter("hello"),
        range(3),
        Ellipsis,
        int,
        type(None),
        bytearray(b"abc"),
        len,
        np.float32(1.5),
        np.dtype("f4, i8"),
    ],
    ids=repr,
)
def test_other_values_come_back_equal(value):
    assert round_trip(value) == value
    assert type(round_trip(value)) is type(value)


def test_small_builtins_are_one_plain_pickle():
    value = ((1, "two", 3.0), {"four": [None, True]})
    assert dumps(value) == pickle.dumps(value, 5)


def test_subclasses_of_builtins_keep_their_type():
    class Words(list):
        pass

    back = round_trip(Words("ab"))
    assert list(back) == ["a", "b"]
    assert type(back).__name__ == "Words"


def test_an_object_met_twice_comes_back_as_one():
    inner, array = [1], np.arange(3)
    a, b, (c, d) = round_trip([inner, array, (inner, array)])
    assert a is c
    assert b is d


def test_a_value_that_contains_itself():
    value: list = []
    value.append(value)
    back = round_trip(value)
    assert back[0] is back


# ---------------------------------------------------------------------------------------- long bytes

LONG = 300_000


@pytest.mark.parametrize("length", [0, 65535, 65536, 131071, 131072, LONG])
def test_bytes_of_every_length(length):
    value = bytes(range(256)) * (length // 256 + 1)
    assert round_trip(value[:length]) == value[:length]
    assert round_trip([value[:length], 1]) == [value[:length], 1]


def test_long_bytes_are_not_copied_into_the_parts():
    value = b"x" * LONG
    assert any(part is value for part in serialize(value).parts)
    assert any(part is value for part in serialize({"a": [value]}).parts)


def test_long_payloads_between_other_things_keep_their_order():
    value = [
        1,
        b"a" * LONG,
        "b" * LONG,
        bytearray(b"c" * LONG),
        np.arange(LONG),
        b"d" * LONG,
        {"e": 2},
        list(range(LONG)),
    ]
    back = round_trip(value)
    assert back[:4] == value[:4]
    np.testing.assert_array_equal(back[4], value[4])
    assert back[5:] == value[5:]


def test_a_bytearray_stays_writable():
    back = round_trip((bytearray(LONG),))[0]
    back[0] = 1
    assert back[0] == 1


# ---------------------------------------------------------------------------------------- arrays

plain_dtypes = st.one_of(
    st_numpy.boolean_dtypes(),
    st_numpy.integer_dtypes(endianness="?"),
    st_numpy.unsigned_integer_dtypes(endianness="?"),
    st_numpy.floating_dtypes(endianness="?"),
    st_numpy.complex_number_dtypes(endianness="?"),
    st_numpy.datetime64_dtypes(endianness="?"),
    st_numpy.timedelta64_dtypes(endianness="?"),
    st_numpy.byte_string_dtypes(endianness="?"),
    st_numpy.unicode_string_dtypes(endianness="?"),
)
any_dtypes = plain_dtypes | st_numpy.array_dtypes(plain_dtypes) | st_numpy.nested_dtypes(plain_dtypes)


def assert_same_array(back, array):
    assert type(back) is type(array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@settings(deadline=None)
@given(st_numpy.arrays(any_dtypes, st_numpy.array_shapes(min_dims=0, min_side=0)), st.booleans())
def test_arrays_of_every_dtype_and_shape(array, fortran):
    if fortran:
        array = np.asfortranarray(array).reshape(array.shape)
    assert_same_array(round_trip(array), array)
    assert_same_array(round_trip([array])[0], array)


@given(st.data())
def test_views_of_every_stride(data):
    array = np.arange(120).reshape(2, 3, 4, 5)
    view = array.transpose(data.draw(st.permutations(range(4))))
    view = view[data.draw(st_numpy.basic_indices(view.shape))]
    back = round_trip(view)
    np.testing.assert_array_equal(back, view)
    np.testing.assert_array_equal(round_trip((view,))[0], view)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_contiguous_arrays_is_kept(order):
    array = np.ones((3, 4), order=order)
    for back in (round_trip(array), round_trip([array])[0]):
        assert back.flags.c_contiguous == array.flags.c_contiguous
        assert back.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize(
    "wrap", [lambda array: array, lambda array: {"key": [array]}], ids=["alone", "inside"]
)
@pytest.mark.parametrize("array", [np.arange(10.0), np.arange(10.0)[::3], np.array("2024", "M8[s]")], ids=str)
def test_arrays_are_read_only_aligned_views_that_keep_the_memory_alive(array, wrap):
    class Memory(bytearray):
        pass

    serialized = serialize(wrap(array))
    memory = np.empty(serialized.size_bytes + ALIGNMENT_BYTES, "u1")
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    memory[start : start + serialized.size_bytes] = np.frombuffer(serialized.to_bytes(), "u1")
    references = sys.getrefcount(memory)
    back = deserialize(memoryview(memory)[start : start + serialized.size_bytes].toreadonly())
    back = back["key"][0] if isinstance(back, dict) else back
    assert not back.flags.writeable
    assert back.ctypes.data % ALIGNMENT_BYTES == 0
    assert np.shares_memory(back, memory)
    assert sys.getrefcount(memory) > references
    with pytest.raises(ValueError, match="read-only"):
        back[...] = 0


def test_a_contiguous_array_is_not_copied_into_the_parts():
    for array in (np.arange(10.0), np.ones((3, 4), order="F"), np.array(["2024"], "M8[D]")):
        for value in (array, [array]):
            part = serialize(value).parts[1]
            assert np.shares_memory(np.frombuffer(part, "u1"), array.view("u1") if array.ndim == 1 else array)


def test_an_exact_array_is_stored_without_a_pickle():
    assert kind(np.arange(3)) == array_layout.ARRAY
    assert b"numpy" not in dumps(np.arange(3))


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}, None], dtype=object),
        np.zeros(3, "f4, i8"),
        np.ma.masked_array([1, 2, 3], mask=[True, False, False]),
        np.rec.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        np.arange(3).view(type("Sub", (np.ndarray,), {})),
        np.zeros(2, np.dtype("f8", metadata={"unit": "m"})),
    ],
    ids=["object", "structured", "masked", "record", "subclass", "metadata"],
)
def test_arrays_that_need_pickle(array):
    back = round_trip(array)
    assert kind(array) != array_layout.ARRAY
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    assert back.dtype.metadata == array.dtype.metadata
    assert type(back).__name__ == type(array).__name__


def test_a_masked_array_keeps_its_mask():
    back = round_trip(np.ma.masked_array([1, 2, 3], mask=[True, False, False]))
    assert back.mask.tolist() == [True, False, False]


# ---------------------------------------------------------------------------------------- layout


@given(st.lists(st_numpy.arrays(np.uint8, st.integers(0, 200)), min_size=1, max_size=5))
def test_every_part_starts_at_a_multiple_of_64(arrays):
    serialized = serialize(arrays)
    flat = serialized.to_bytes()
    offset = 0
    for part in serialized.parts:
        offset = -(-offset // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        part = memoryview(part)
        assert flat[offset : offset + part.nbytes] == part
        offset += part.nbytes
    assert offset == serialized.size_bytes == len(flat)


def test_pickle_buffers_go_out_of_band():
    class Holder:
        def __init__(self, data):
            self.data = data

        def __reduce_ex__(self, protocol):
            return type(self), (pickle.PickleBuffer(self.data),)

    data = b"y" * 100
    serialized = serialize(Holder(data))
    assert bytes(serialized.parts[1]) == data
    assert memoryview(round_trip(Holder(data)).data) == data


def test_bytes_beyond_the_layout_are_ignored():
    """The store may round an object's size up."""
    for value in (np.arange(5), [np.arange(5)], b"x" * LONG):
        np.testing.assert_array_equal(deserialize(dumps(value) + bytes(64)), value)


# ---------------------------------------------------------------------------------------- code


def test_functions_and_classes_that_cannot_be_imported_travel_by_value():
    factor = 3

    @dataclasses.dataclass
    class Point:
        x: int

        def scaled(self):
            return Point(self.x * factor)

    code = (
        "import sys; from plasma.serialization import loads\n"
        "function, point = loads(sys.stdin.buffer.read()); print(function(2), point.scaled().x)"
    )
    data = dumps((lambda x: x * factor, Point(5)))
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.split() == [b"6", b"15"]


def test_a_type_can_be_given_a_reducer():
    class Reference:
        def __init__(self, number):
            self.number = number

    met = []

    def reduce(reference):
        met.append(reference.number)
        return Reference, (reference.number + 1,)

    serializer = Serializer({Reference: reduce})
    back = loads(serializer.dumps([Reference(1), {"a": Reference(5)}]))
    assert met == [1, 5]
    assert [back[0].number, back[1]["a"].number] == [2, 6]


def test_serializing_never_imports_numpy():
    code = (
        "import sys; from plasma.serialization import dumps, loads\n"
        "import datetime\n"
        "class ndarray: pass\n"
        "assert loads(dumps([1, datetime.date(2024, 1, 1), lambda: 1]))\n"
        "loads(dumps(ndarray()))\n"
        "assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "garbage", [b"", b"\0", b"{}", b"garbage", bytes(64), b"\x80\x04K\x01.", b"\xff" * 100, b"\x80\x05"]
)
def test_garbage_is_refused(garbage):
    with pytest.raises(CorruptStoreError, match="not a serialized value"):
        deserialize(garbage)
    with pytest.raises(CorruptStoreError, match="not a serialized value"):
        loads(garbage)


@pytest.mark.parametrize(
    "value",
    [
        [1, "abc", {"k": 2.0}],
        np.arange(100).reshape(4, 25),
        [np.arange(100)],
        b"x" * LONG,
        [b"x" * LONG, np.arange(3)],
    ],
    ids=["builtin", "array", "buffers", "bytes", "pieces"],
)
def test_truncated_values_are_refused(value):
    flat = dumps(value)
    lengths = {*range(min(len(flat), 300)), len(flat) // 2, len(flat) - 1}
    for length in lengths:
        with pytest.raises(PlasmaError):
            deserialize(flat[:length])


@settings(deadline=None)
@given(
    st.sampled_from([array_layout.ARRAY, serialization.PICKLE5, serialization.BYTES]),
    st.binary(max_size=300),
)
def test_random_headers_are_refused_or_read_within_bounds(first, rest):
    try:
        deserialize(bytes([first]) + rest)
    except PlasmaError:
        pass


@pytest.mark.parametrize("size_bytes", [1 << 62, 100])
def test_sizes_in_a_header_are_checked_before_use(size_bytes):
    array = array_layout.array_header(np.dtype("u1"), (size_bytes,))
    with pytest.raises(PlasmaError):
        deserialize(array + bytes(60))
    with pytest.raises(CorruptStoreError):
        deserialize(struct.pack("<BxxxIQQ", serialization.PICKLE5, 1, 1, size_bytes) + bytes(64))
    with pytest.raises(CorruptStoreError):
        deserialize(struct.pack("<BxxxIQ", serialization.PICKLE5, 0, size_bytes))
    with pytest.raises(CorruptStoreError):
        deserialize(struct.pack("<BxxxIQ", serialization.PICKLE5, 0xFFFFFFFF, 0))


def test_an_array_of_references_to_python_objects_is_never_made_from_bytes():
    header = bytearray(array_layout.array_header(np.dtype("f8"), (1,)))
    header[-3:] = b"|O8"
    with pytest.raises(CorruptStoreError, match="array type"):
        deserialize(bytes(header) + bytes(100))


class RefusesToLive:
    def __reduce__(self):
        return _explode, ()


def _explode():
    raise LookupError("no such thing here")


def test_a_value_that_cannot_be_rebuilt_names_the_cause():
    data = cloudpickle.dumps  # functions of this module travel by value: it can't be imported elsewhere
    assert data
    with pytest.raises(SerializationError, match="LookupError: no such thing here") as caught:
        loads(dumps(RefusesToLive()))
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_missing_module_is_named():
    with pytest.raises(SerializationError, match="no_such_module"):
        loads(b"\x80\x05cno_such_module\nname\n.")


def test_the_error_itself_survives_pickling():
    error = SerializationError("text", path="value['a']")
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.path) == ("text", "value['a']")


def test_recursion_that_is_too_deep():
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(SerializationError, match="recursion"):
        dumps(value)


def test_public_names_exist():
    module = importlib.import_module("plasma.serialization")
    assert all(hasattr(module, name) for name in module.__all__)


def test_partial_functions():
    assert round_trip(functools.partial(int, base=2))("101") == 5


def test_a_function_keeps_the_name_of_its_file_for_tracebacks():
    def fail():
        raise KeyError

    def outer():
        return fail

    assert round_trip(outer).__code__.co_filename == __file__
    assert round_trip(outer)().__code__.co_filename == __file__

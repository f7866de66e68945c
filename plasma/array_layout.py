"""How an array lies in the store: a header that says its dtype, shape and order, then its bytes as they are.

Only for plain dtypes, those that a name describes fully. No pickle is involved, so that a large array costs
two microseconds beside the copy. ``serialization`` says where the header's fields lie.
"""

from __future__ import annotations

import functools
import pickle
import struct
from typing import TYPE_CHECKING, Any, Literal

from plasma.parts import aligned, damaged

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Buffer

__all__ = [
    "ARRAY",
    "array_header",
    "deserialize_array",
    "flat_array",
    "is_plain_dtype",
    "pack_array_header",
    "plain_name",
    "rebuild_array",
    "reduce_array",
]

#: how the dimensions follow one another: the last varies fastest, or the first
Order = Literal["C", "F"]

#: the kind of an array, its first byte
ARRAY = 0x01

#: the kinds of dtypes that their name (``dtype.str``) describes fully
_PLAIN_DTYPE_KINDS = frozenset("biufcmMSU")

#: numpy's own types have numbers below this; those of other packages may share a kind but not the meaning
_NUMPY_TYPE_NUMBERS_END = 24


def is_plain_dtype(dtype: np.dtype[Any]) -> bool:
    """True if the name says it all: numbers, times, text of a fixed length; no fields, no metadata."""
    return (
        dtype.kind in _PLAIN_DTYPE_KINDS
        and dtype.num < _NUMPY_TYPE_NUMBERS_END
        and dtype.itemsize > 0
        and dtype.metadata is None
    )


@functools.lru_cache(maxsize=256)
def _known_name(dtype: np.dtype[Any]) -> bytes | None:
    return dtype.str.encode("ascii") if is_plain_dtype(dtype) else None


def plain_name(dtype: np.dtype[Any]) -> bytes | None:
    """The name of a plain dtype, None for another."""
    # A dtype with metadata equals the one without, so that the cache can't tell them apart.
    return _known_name(dtype) if dtype.metadata is None else None


@functools.lru_cache(maxsize=256)
def _dtype_of(name: bytes) -> np.dtype[Any]:
    """The dtype of that name, which must be a plain one."""
    import numpy as np

    dtype = np.dtype(name.decode("ascii"))
    if not is_plain_dtype(dtype):
        raise damaged("array type")
    return dtype


@functools.lru_cache(maxsize=80)
def _array_head(ndim: int) -> struct.Struct:
    """Kind, order, dimensions, length of the dtype's name, shape."""
    return struct.Struct(f"<BBBB4x{ndim}Q")


def array_header(dtype: np.dtype[Any], shape: tuple[int, ...], order: Order = "C") -> bytes:
    """The header of an ARRAY object. ``order`` is ``"C"`` or ``"F"``, ``dtype`` a plain one."""
    name = _known_name(dtype)
    if name is None:
        raise TypeError(f"arrays of {dtype!r} have no fixed layout")
    return pack_array_header(name, shape, order)


def pack_array_header(name: bytes, shape: tuple[int, ...], order: Order) -> bytes:
    ndim = len(shape)
    return _array_head(ndim).pack(ARRAY, 0x43 if order == "C" else 0x46, ndim, len(name), *shape) + name


def flat_array(array: np.ndarray[Any, Any]) -> tuple[pickle.PickleBuffer, Order]:
    """The memory of an array of a plain dtype, and its order. A strided array is copied, in C order."""
    flags = array.flags
    order: Order = "C"
    if not flags.c_contiguous:
        if flags.f_contiguous:
            order = "F"
        else:
            array = array.copy(order="C")
    try:
        return pickle.PickleBuffer(array), order  # type: ignore[arg-type,unused-ignore]
    except ValueError:  # numpy exports no buffers of datetime64 and timedelta64
        return pickle.PickleBuffer(array.view("i8")), order  # type: ignore[arg-type,unused-ignore]


def deserialize_array(view: memoryview) -> np.ndarray[Any, Any]:
    _, order, ndim, name_length = view[:4]
    head = _array_head(ndim)
    end = head.size + name_length
    if end > len(view) or (order != 0x43 and order != 0x46):
        raise damaged("array header")
    shape = head.unpack_from(view)[4:]
    name = bytes(view[head.size : end])
    return rebuild_array(view[aligned(end) :], name, shape, "F" if order == 0x46 else "C")


def rebuild_array(buffer: Buffer, dtype: bytes, shape: tuple[int, ...], order: str) -> np.ndarray[Any, Any]:
    """An array over ``buffer``, which numpy checks to be large enough. Read-only if ``buffer`` is."""
    import numpy as np

    if 0 in shape:  # numpy wants at least one byte from a buffer
        array = np.empty(shape, _dtype_of(dtype))
        array.flags.writeable = not memoryview(buffer).readonly
        return array
    return np.ndarray(shape, _dtype_of(dtype), buffer, order=order)  # type: ignore[arg-type,unused-ignore]


def reduce_array(array: np.ndarray[Any, Any]) -> Any:
    """How an array inside another value is pickled; NotImplemented leaves it to numpy."""
    name = plain_name(array.dtype)
    if name is None:
        return NotImplemented
    buffer, order = flat_array(array)
    return rebuild_array, (buffer, name, array.shape, order)

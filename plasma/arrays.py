"""numpy arrays that are born in the store, so that putting them copies nothing.

:func:`empty` creates the object as if a finished array had been serialized, header first, and returns an
array over its memory. When that very array is put, only the seal is missing. :func:`allocation_under`
recognises it: nothing is written down anywhere, the array's memory itself leads to its allocation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from plasma import object_id as ids
from plasma.array_layout import Order, array_header
from plasma.errors import ObjectSealedError
from plasma.parts import aligned

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from plasma.buffer import Allocation
    from plasma.store import Store

__all__ = ["allocation_under", "empty"]


def empty(
    store: Store,
    shape: int | tuple[int, ...],
    dtype: npt.DTypeLike = float,
    *,
    order: Order = "C",
    object_id: bytes | None = None,
    timeout_s: float | None = 0.0,
) -> np.ndarray[Any, Any]:
    """An array of undefined content in ``store``.

    ``store.put(array)`` seals it without copying; it is read-only then.
    ``put`` answers the id the object was created under: ``object_id``, or a new one. An array that is dropped
    before gives its memory back. ``timeout_s`` is how long to wait for room (0: not at all, None: for ever).

    Raises TypeError for dtypes without a fixed layout (objects, fields), ValueError for impossible shapes,
    and
    :class:`ObjectStoreFullError` like every other way to store something.
    """
    import numpy as np

    if order not in ("C", "F"):
        raise ValueError(f"order is 'C' or 'F', not {order!r}")
    extents = (shape,) if isinstance(shape, int) else tuple(map(int, shape))
    if any(extent < 0 for extent in extents):
        raise ValueError(f"an array can't have the shape {extents}: negative")
    exact = np.dtype(dtype)
    header = array_header(exact, extents, order)
    offset = aligned(len(header))
    size_bytes = offset + math.prod(extents) * exact.itemsize
    allocation = store.create_buffer(object_id or ids.new(), size_bytes, timeout_s=timeout_s)
    with memoryview(allocation) as memory:
        memory[: len(header)] = header
    if size_bytes == offset:
        # Nothing of the array lies in the store, so nothing would keep the allocation: it goes, and `put`
        # serializes.
        return np.empty(extents, exact)
    return np.ndarray(extents, exact, allocation, offset, order=order)  # type: ignore[arg-type,unused-ignore]


def allocation_under(array: np.ndarray[Any, Any]) -> Allocation | None:
    """The unsealed allocation that ``array`` fills from its first byte to its last, as :func:`empty` made it.

    None for any other array, also for one that shares only a part of such memory, has another dtype, or is
    sealed.
    """
    from plasma.buffer import Allocation

    base: Any = array.base
    while base is not None and not isinstance(base, Allocation):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if base is None or base.sealed or not array.flags.forc:
        return None
    return base if _fills(array, base) else None


def _fills(array: np.ndarray[Any, Any], allocation: Allocation) -> bool:
    """True if the header in the allocation describes exactly this array at exactly this place."""
    import numpy as np

    try:
        header = array_header(array.dtype, array.shape, "C" if array.flags.c_contiguous else "F")
        memory = np.frombuffer(memoryview(allocation), np.uint8)
    except (TypeError, ObjectSealedError):  # a dtype without a header; an allocation that was aborted
        return False
    offset = aligned(len(header))
    return (
        len(memory) == offset + array.nbytes
        and array.ctypes.data == memory.ctypes.data + offset
        and memory[: len(header)].tobytes() == header
    )

"""Values to bytes and back: the layout of every stored object and of every small value in a message.

Layout
------
An object is one or several *parts*, each starting at a multiple of 64 bytes. Part 0, the header, begins with
the kind:

=======  ==========  =========================================================================================
kind     name        layout
=======  ==========  =========================================================================================
``80``   PICKLE      the whole is one pickle stream, protocol 5 (``80`` is the stream's own first byte)
``01``   ARRAY       header: order (``C`` or ``F``), dimensions, length of the dtype's name (a byte each), 4
                     bytes 0, the shape (u64 each), the name; part 1: the array's bytes as they lay in memory
``02``   PICKLE5     header: 3 bytes 0, number of further parts (u32), length of the stream's first piece
                     (u64), per part its size (u64, the highest bit marks a *piece*), the first piece of the
                     stream; then the parts: pieces of the stream or out-of-band buffers, in order
``03``   BYTES       header: 7 bytes 0, size (u64); part 1: the value, a ``bytes``
=======  ==========  =========================================================================================

Numbers are little-endian. A stream has several pieces if it contains long ``bytes``, ``bytearray`` or
``str``: such a payload is a part of its own, so that it is copied once, into the store, and never joined to
the rest.

Nothing is copied on the way back except such payloads: buffers are handed to the unpickler as views of the
stored object, read-only if the object is, and keep it alive.

Which way a value takes
-----------------------
Small builtins go through the C pickler alone; an exact ``numpy.ndarray`` of a plain dtype needs no pickle at
all; everything else goes through a pickler that knows cloudpickle's tricks (functions and classes that can't
be imported travel by value) and the reducers a :class:`Serializer` was given.
"""

from __future__ import annotations

import functools
import pickle
import struct
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

from plasma.array_layout import (
    ARRAY,
    deserialize_array,
    flat_array,
    pack_array_header,
    plain_name,
    rebuild_array,
    reduce_array,
)
from plasma.errors import CorruptStoreError, PlasmaError, SerializationError
from plasma.parts import Serialized, aligned, damaged, lay_out
from plasma.plain import is_plain
from plasma.tensors import TENSOR_MODULES, TENSOR_NAMES, reduce_tensor

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Buffer

__all__ = [
    "Serialized",
    "Serializer",
    "deregister",
    "deserialize",
    "dumps",
    "loads",
    "pickling_error",
    "register",
    "serialize",
]

#: a long payload becomes a part of its own. The pickler hands payloads of 64 KiB and more to its file
#: uncopied; its frames are longer than 64 KiB but never reach 128, so that a piece of this length is surely a
#: payload.
PAYLOAD_SIZE_BYTES_MIN = 128 * 1024

PICKLE, PICKLE5, BYTES = 0x80, 0x02, 0x03

_PIECE = 1 << 63
_PICKLE5_HEAD = struct.Struct("<B3xIQ")
_BYTES_HEAD = struct.Struct("<B7xQ")

Reducer = Callable[[Any], "tuple[Any, ...]"]


# ------------------------------------------------------------------------------------------------ pickles


class _Stream:
    """The file a pickler writes to: keeps the chunks as they come, so that long payloads aren't copied."""

    __slots__ = ("chunks", "write")

    def __init__(self) -> None:
        self.chunks: list[bytes | bytearray] = []
        self.write = self.chunks.append

    def pieces(self) -> list[bytes | bytearray]:
        """The stream, as few pieces as possible: long payloads are one each, all else is joined."""
        if len(self.chunks) == 1:
            return self.chunks
        pieces: list[bytes | bytearray] = []
        joined: list[bytes | bytearray] = []
        for chunk in self.chunks:
            if len(chunk) < PAYLOAD_SIZE_BYTES_MIN:
                joined.append(chunk)
                continue
            pieces += (b"".join(joined), chunk) if joined else (chunk,)
            joined.clear()
        if joined:
            pieces.append(b"".join(joined))
        return pieces


class _PiecesReader:
    """The file an unpickler reads a stream of several pieces from."""

    __slots__ = ("_left", "_rest")

    def __init__(self, pieces: list[memoryview]) -> None:
        self._rest = pieces[::-1]
        self._left = self._rest.pop()

    def readinto(self, target: Any) -> int:
        with memoryview(target).cast("B") as out:
            filled = 0
            while filled < len(out):
                if not self._left:
                    if not self._rest:
                        break
                    self._left = self._rest.pop()
                    continue
                chunk = self._left[: len(out) - filled]
                out[filled : filled + len(chunk)] = chunk
                self._left = self._left[len(chunk) :]
                filled += len(chunk)
        return filled

    def read(self, size: int) -> bytes:
        available = len(self._left) + sum(map(len, self._rest))
        chunk = bytearray(min(size, available))
        self.readinto(chunk)
        return bytes(chunk)

    def readline(self) -> bytes:
        line = bytearray()
        while (char := self.read(1)) and char != b"\n":
            line += char
        return bytes(line + char)


#: Py_TPFLAGS_HEAPTYPE in a type's ``__flags__``. Types without it are built into their C module, thus
#: importable.
_HEAP_TYPE = 1 << 9
#: what cloudpickle 3.1.3 writes in place of a code object's file name
_NO_FILE = "<dynamic-code>"


@functools.cache
def _pickler_class() -> Callable[[Any, Mapping[type, Reducer], Any], pickle.Pickler]:
    """The extensible pickler. Made at the first need, because importing cloudpickle takes 25 ms."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(self, file: Any, reducers: Mapping[type, Reducer], buffer_callback: Any) -> None:
            super().__init__(file, protocol=5, buffer_callback=buffer_callback)
            self._reducers = reducers

        def reducer_override(self, obj: Any) -> Any:
            """Called for every instance, function and class that isn't a builtin: keep it short."""
            cls = type(obj)
            reducer = self._reducers.get(cls)
            if reducer is not None:
                return reducer(obj)
            if cls is FunctionType:
                return NotImplemented if obj is rebuild_array else super().reducer_override(obj)
            if cls is CodeType:
                return _reduce_code(obj)
            if issubclass(cls, type):
                if not obj.__flags__ & _HEAP_TYPE and obj.__module__ != "builtins":
                    return NotImplemented
                return super().reducer_override(obj)
            if cls.__name__ == "ndarray" and _is_array(obj):
                return reduce_array(obj)
            if cls.__name__ in TENSOR_NAMES and cls.__module__ in TENSOR_MODULES:
                return reduce_tensor(obj)
            return NotImplemented

    return Pickler


def _reduce_code(code: CodeType) -> Any:
    """As cloudpickle does it, but with the name of the file, without which no traceback can show a line."""
    from cloudpickle import cloudpickle

    build, parts = cloudpickle._code_reduce(code)
    # A string of its own: one that is met elsewhere too would make equal functions different bytes.
    file = "".join(code.co_filename)
    return build, tuple(file if type(part) is str and part == _NO_FILE else part for part in parts)


def _is_array(value: Any) -> bool:
    """True for an exact ``numpy.ndarray``; cheap for all else, and never the first to import numpy."""
    cls = type(value)
    if cls.__name__ != "ndarray" or cls.__module__ != "numpy":
        return False
    import numpy as np

    return cls is np.ndarray


def _is_ndarray(cls: type) -> bool:
    return cls.__module__ == "numpy" and cls.__name__ == "ndarray"


def _serialize_bytes(value: bytes) -> Serialized:
    """The fast path of bytes that are too long for a message."""
    return lay_out(_BYTES_HEAD.pack(BYTES, len(value)), [value])


def _serialize_array(array: np.ndarray[Any, Any]) -> Serialized | None:
    """The fast path of an exact ndarray; None if its dtype isn't plain."""
    name = plain_name(array.dtype)
    if name is None:
        return None
    buffer, order = flat_array(array)
    header = pack_array_header(name, array.shape, order)
    return Serialized([header, buffer.raw()], aligned(len(header)) + array.nbytes)


class Serializer:
    """Values to bytes, with some types treated specially.

    ``reducers`` maps an exact type to a function like ``__reduce__``: it is handed an instance and returns
    what rebuilds it. That is how a runtime makes its references known to the store, and learns which ones a
    value holds. Builtin types, functions and classes can't be given a reducer.
    """

    __slots__ = ("_reducers", "_short_cuts")

    def __init__(self, reducers: Mapping[type, Reducer] | None = None) -> None:
        self._reducers = dict(reducers or {})
        #: exact type -> the way around the pickler. numpy's array joins when the first one comes, because
        #: importing numpy isn't this module's business.
        self._short_cuts: dict[type, Callable[[Any], Serialized | None]] = {bytes: _serialize_bytes}

    def register(self, cls: type, reducer: Reducer) -> None:
        """Treat instances of exactly this class specially; replaces an earlier reducer.

        Raises TypeError for what never reaches a reducer: builtin types, functions and classes.
        """
        if not isinstance(cls, type):
            raise TypeError(f"a serializer is for a class, not {cls!r}")
        if cls.__module__ == "builtins" or issubclass(cls, type) or _is_ndarray(cls):
            raise TypeError(f"{cls.__qualname__} has a serialization of its own, which can't be replaced")
        self._reducers[cls] = reducer

    def deregister(self, cls: type) -> None:
        """Take a reducer back; nothing happens if there is none."""
        self._reducers.pop(cls, None)

    def serialize(self, value: Any, *, name: str = "value") -> Serialized:
        """The value as parts, for a place that takes them without joining them first.

        Raises :class:`SerializationError` that names the way from ``name`` to what can't be serialized.
        """
        if is_plain(value):
            stream = pickle.dumps(value, 5)
            return Serialized([stream], len(stream))
        short_cut = self._short_cuts.get(type(value))
        if short_cut is None and _is_array(value):
            short_cut = self._short_cuts[type(value)] = _serialize_array
        return (short_cut and short_cut(value)) or self._serialize_any(value, name)

    def dumps(self, value: Any, *, name: str = "value") -> bytes:
        """The value as one ``bytes``, for messages. Raises what :meth:`serialize` does."""
        if is_plain(value):
            return pickle.dumps(value, 5)
        return self.serialize(value, name=name).to_bytes()

    def _serialize_any(self, value: Any, name: str) -> Serialized:
        stream = _Stream()
        buffers: list[pickle.PickleBuffer] = []
        try:
            _pickler_class()(stream, self._reducers, buffers.append).dump(value)
        except PlasmaError:
            raise
        except Exception as error:
            self._refuse(value, name, error)
        first, *pieces = stream.pieces()
        if not pieces and not buffers:
            return Serialized([first], len(first))
        parts: list[Any] = [*pieces, *(buffer.raw() for buffer in buffers)]
        sizes = [len(piece) | _PIECE for piece in pieces] + [len(part) for part in parts[len(pieces) :]]
        head = _PICKLE5_HEAD.pack(PICKLE5, len(parts), len(first))
        return lay_out(b"".join((head, struct.pack(f"<{len(sizes)}Q", *sizes), first)), parts)

    def _refuse(self, value: Any, name: str, error: Exception) -> NoReturn:
        """Raise the error that says which part of ``value`` is to blame."""
        from plasma.culprit import find_culprit

        path = find_culprit(value, name, self.pickling_error)
        raise SerializationError(f"can't serialize {path}: {error}", path=path) from error

    def pickling_error(self, value: Any) -> Exception | None:
        """The error that pickling ``value`` ends with, or None. The stream is thrown away."""
        try:
            _pickler_class()(_Nowhere(), self._reducers, _drop).dump(value)
        except Exception as error:
            return error
        return None


class _Nowhere:
    """A file that forgets."""

    __slots__ = ()

    def write(self, chunk: Any) -> int:
        return len(chunk)


def _drop(_: pickle.PickleBuffer) -> None:
    """Accept an out-of-band buffer and forget it."""


# ------------------------------------------------------------------------------------------------ back


def _deserialize_pickle5(view: memoryview) -> Any:
    _, count, first_size_bytes = _PICKLE5_HEAD.unpack_from(view)
    start = _PICKLE5_HEAD.size + 8 * count
    end = start + first_size_bytes
    if end > len(view):
        raise damaged("header")
    pieces, buffers = [view[start:end]], list[memoryview]()
    for size in struct.unpack_from(f"<{count}Q", view, _PICKLE5_HEAD.size):
        start = aligned(end)
        end = start + (size & ~_PIECE)
        if end > len(view):
            raise damaged("list of parts")
        (pieces if size & _PIECE else buffers).append(view[start:end])
    if len(pieces) == 1:
        return pickle.loads(pieces[0], buffers=buffers)
    return pickle.Unpickler(_PiecesReader(pieces), buffers=buffers).load()


def _deserialize_bytes(view: memoryview) -> bytes:
    _, size_bytes = _BYTES_HEAD.unpack_from(view)
    start = aligned(_BYTES_HEAD.size)
    if start + size_bytes > len(view):
        raise damaged("size")
    return bytes(view[start : start + size_bytes])


_READERS: dict[int, Callable[[memoryview], Any]] = {
    PICKLE: pickle.loads,
    ARRAY: deserialize_array,
    PICKLE5: _deserialize_pickle5,
    BYTES: _deserialize_bytes,
}


def deserialize(buffer: Buffer) -> Any:
    """The value whose layout ``buffer`` holds. Arrays and other buffers in it are views of ``buffer``.

    Raises :class:`CorruptStoreError` if the bytes aren't such a layout, :class:`SerializationError` if the
    value can't be rebuilt here (a missing module, an error in its own code); never trusts a size it hasn't
    checked. As with every pickle, whoever can write the bytes can run code: the store's memory is readable
    only by its user.
    """
    view = memoryview(buffer)
    try:
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        reader = _READERS.get(view[0]) if len(view) else None
        if reader is None:
            raise damaged("kind" if len(view) else "length (0)")
        if reader is pickle.loads and (len(view) < 3 or view[1] != 5 or view[-1] != 0x2E):
            raise damaged("stream")
        return reader(view)
    except PlasmaError:
        raise
    except Exception as error:
        _cant_rebuild(error)


def loads(data: bytes) -> Any:
    """The value :func:`dumps` was given. Raises what :func:`deserialize` does."""
    try:
        if data[:2] == b"\x80\x05":
            return pickle.loads(data)
    except PlasmaError:
        raise
    except Exception as error:
        _cant_rebuild(error)
    return deserialize(data)


def _cant_rebuild(error: Exception) -> NoReturn:
    """Sort the error of a failed load: bytes that are no pickle, or a value that can't be here."""
    if isinstance(error, (pickle.UnpicklingError, EOFError, struct.error, UnicodeError)):
        raise CorruptStoreError(f"not a serialized value, or a damaged one: {error}") from error
    raise SerializationError(f"can't rebuild the value: {type(error).__name__}: {error}") from error


_default = Serializer()

serialize = _default.serialize
pickling_error = _default.pickling_error
dumps = _default.dumps
register = _default.register
deregister = _default.deregister

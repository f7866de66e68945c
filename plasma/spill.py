"""The files of objects that had to leave memory: what is in them, how they are written, checked and read.

A file's name is its number; ``disk`` says who may hold a number. It has one or several *records*, each at a
multiple of 64 bytes:

======  =====  ==================================================================================
offset  bytes  what
======  =====  ==================================================================================
0       8      ``plasma`` and the bytes ``01 0A``
8       16     the object's id
24      8      size of the payload, little-endian, like all numbers here
32      4      CRC-32 of the payload
36      4      CRC-32 of the 36 bytes before
40      24     zeros
64      –      the payload: the object's data, with the list of references it contains behind them
======  =====  ==================================================================================

Small objects share a file, which then has a name for each of them: hard links. Each object removes its own
name, and the file system keeps count of who is left. Where there are no hard links, each has a file.

Nothing is synced: a session's files are of no use after a crash of the machine.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from plasma.errors import OutOfDiskError

__all__ = ["FUSED_BYTES_MIN", "Record", "UnreadableError", "fuse", "open_directory", "read", "view", "write"]

#: smaller objects share a file of at least this size
FUSED_BYTES_MIN = 1 << 20

_HEAD = struct.Struct("<8s16sQII24x")
_MAGIC = b"plasma\x01\n"
_PLACE_BITS = 20
_PLACE_MASK = (1 << _PLACE_BITS) - 1
_ALIGNMENT = 64

#: the disk, a quota or a limit takes no more
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: this file system has no hard links, or no more of them for this file
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


class UnreadableError(Exception):
    """The file is missing, damaged, or not this object's; the text says which."""


class Record(NamedTuple):
    """An object on its way to disk."""

    object_id: bytes
    payload: memoryview


def fuse(sizes: Sequence[int]) -> list[range]:
    """Which of these objects, in order, go into one file: large ones alone, small ones up to the minimum."""
    files: list[range] = []
    begin, total = 0, 0
    for index, size in enumerate(sizes):
        if size >= FUSED_BYTES_MIN and index > begin:
            files.append(range(begin, index))
            begin, total = index, 0
        total += size
        if total >= FUSED_BYTES_MIN:
            files.append(range(begin, index + 1))
            begin, total = index + 1, 0
    if begin < len(sizes):
        files.append(range(begin, len(sizes)))
    return files


def open_directory(path: str, *, create: bool) -> int:
    """A descriptor of the directory; it is made, for its user only, by whoever spills first.

    Raises OSError.
    """
    if create:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if os.fstat(fd).st_uid != os.geteuid():
        os.close(fd)
        raise PermissionError(errno.EPERM, "it belongs to another user")
    return fd


def write(directory: int, first: int, records: Sequence[Record], step: Callable[[], None]) -> list[int]:
    """Write the records into one file and return where each is: number of its file << 20 | place / 64.

    The names are ``first`` and those that follow. ``step`` is called before each record.

    Raises OutOfDiskError; OSError. Nothing is left then.
    """
    written: list[int] = []
    numbers = range(first, first + len(records))
    try:
        _write_file(directory, first, records, step)
        place = 0
        linked = True
        for number, record in zip(numbers, records, strict=True):
            if number > first:
                linked = linked and _link(directory, first, number)
                if not linked:
                    _write_file(directory, number, [record], step)
            written.append(number << _PLACE_BITS | (place // _ALIGNMENT if linked else 0))
            place = _aligned(place + _HEAD.size + record.payload.nbytes)
    except BaseException as error:
        for number in numbers:
            try:
                os.unlink(str(number), dir_fd=directory)
            except OSError:
                pass
        if isinstance(error, OSError) and error.errno in _FULL:
            total = sum(record.payload.nbytes for record in records)
            raise OutOfDiskError(f"{total} bytes couldn't be written to it: {error.strerror}") from error
        raise
    return written


def _write_file(directory: int, number: int, records: Sequence[Record], step: Callable[[], None]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(str(number), flags, 0o600, dir_fd=directory)
    try:
        for record in records:
            step()
            payload = record.payload
            head = _head_of(record.object_id, payload.nbytes, zlib.crc32(payload))
            _write_all(fd, [head, payload, bytes(-payload.nbytes % _ALIGNMENT)])
    finally:
        os.close(fd)


def _head_of(object_id: bytes, size: int, checksum: int) -> bytes:
    head = _HEAD.pack(_MAGIC, object_id, size, checksum, 0)
    return head[:36] + zlib.crc32(head[:36]).to_bytes(4, "little") + head[40:]


def _write_all(fd: int, pieces: Sequence[bytes | memoryview]) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(fd, view) :]


def _link(directory: int, first: int, number: int) -> bool:
    try:
        os.link(str(first), str(number), src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def _aligned(position: int) -> int:
    return position + -position % _ALIGNMENT


# ------------------------------------------------------------------------------------------------ back


def read(directory: int, file: int, object_id: bytes, payload: memoryview) -> None:
    """Fill ``payload`` from the object's record.

    Raises UnreadableError; OSError for what says nothing about the file (no descriptors, no memory).
    """
    fd = _open(directory, file)
    try:
        position = (file & _PLACE_MASK) * _ALIGNMENT
        checksum = _check_head(os.pread(fd, _HEAD.size, position), object_id, payload.nbytes)
        position += _HEAD.size
        rest = payload
        while rest:
            count = os.preadv(fd, [rest], position)
            if not count:
                raise UnreadableError("it is shorter than it was")
            rest = rest[count:]
            position += count
    except OSError as error:
        raise _sorted_error(error) from error
    finally:
        os.close(fd)
    if zlib.crc32(payload) != checksum:
        raise UnreadableError("its checksum doesn't match")


def view(directory: int, file: int, object_id: bytes, size: int) -> memoryview:
    """The first ``size`` bytes of the object's payload, mapped from the file: for when memory has no room.

    Raises what :func:`read` does.
    """
    fd = _open(directory, file)
    try:
        position = (file & _PLACE_MASK) * _ALIGNMENT
        head = os.pread(fd, _HEAD.size, position)
        payload_bytes = _HEAD.unpack(head)[2] if len(head) == _HEAD.size else 0
        checksum = _check_head(head, object_id, payload_bytes)
        position += _HEAD.size
        end = position + payload_bytes
        if payload_bytes < size or os.fstat(fd).st_size < end:
            raise UnreadableError("it is shorter than it was")
        pages = memoryview(mmap.mmap(fd, end, prot=mmap.PROT_READ))
    except OSError as error:
        raise _sorted_error(error) from error
    finally:
        os.close(fd)
    if zlib.crc32(pages[position:end]) != checksum:
        raise UnreadableError("its checksum doesn't match")
    return pages[position : position + size]


def _open(directory: int, file: int) -> int:
    try:
        name = str(file >> _PLACE_BITS)
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        raise _sorted_error(error) from error


def _check_head(head: bytes, object_id: bytes, size: int) -> int:
    """The payload's checksum."""
    if len(head) < _HEAD.size:
        raise UnreadableError("it is shorter than it was")
    magic, found_id, found_size, checksum, head_checksum = _HEAD.unpack(head)
    if magic != _MAGIC or head_checksum != zlib.crc32(head[:36]):
        raise UnreadableError("its head is damaged")
    if found_id != object_id or found_size != size:
        raise UnreadableError("it holds another object")
    return int(checksum)


def _sorted_error(error: OSError) -> Exception:
    if error.errno in (errno.ENOENT, errno.EIO, errno.ELOOP, errno.EISDIR, errno.ESTALE, errno.ENOTDIR):
        return UnreadableError("it is gone" if error.errno == errno.ENOENT else str(error.strerror))
    return error

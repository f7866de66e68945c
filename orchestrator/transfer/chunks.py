"""A `Chunk` of objects.proto as bytes: put in front of the data, and found in front of it, without a copy.

What is written is what protobuf would write, and what is read is what protobuf would read, for this one
message.
"""

from __future__ import annotations

import struct

from orchestrator.transfer.wire import WireError

#: How much of an object one message carries. Larger ones fall out of the processor's cache on their way
#: through gRPC's buffers, smaller ones cost more turns of the interpreter: 1 MiB was fastest of 256 KiB to 4
#: MiB.
CHUNK_BYTES = 1 << 20
#: offset as field 1 of 8 bytes, tag of field 2
_HEAD = struct.Struct("<BQB")
_OFFSET_TAG, _DATA_TAG = 0x09, 0x12
_VARINT_BYTES_MAX = 5


def pack_chunk(offset: int, data: memoryview) -> bytes:
    """Return the message, which is the one copy that gRPC needs."""
    size, varint = data.nbytes, bytearray()
    while size > 0x7F:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    varint.append(size)
    return b"".join((_HEAD.pack(_OFFSET_TAG, offset, _DATA_TAG), varint, data))


def unpack_chunk(message: bytes) -> tuple[int, memoryview]:
    """Return the offset and the data, in the memory of the message.

    Raises:
        WireError: this is no chunk.
    """
    if len(message) < _HEAD.size + 1:
        raise WireError(f"a chunk of {len(message)} bytes in all")
    offset_tag, offset, data_tag = _HEAD.unpack_from(message)
    if (offset_tag, data_tag) != (_OFFSET_TAG, _DATA_TAG):
        raise WireError(f"a chunk that begins with {message[:10].hex()}")
    size, shift, position = 0, 0, _HEAD.size
    while True:
        if position == len(message) or shift == 7 * _VARINT_BYTES_MAX:
            raise WireError("a chunk whose length has no end")
        byte = message[position]
        position += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size != len(message) - position:
        raise WireError(f"a chunk that claims {size} bytes and has {len(message) - position}")
    return offset, memoryview(message)[position:]

"""What goes over a data connection, and what is refused of what comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.transfer.chunks import pack_chunk, unpack_chunk
from orchestrator.transfer.wire import (
    ANSWER_BYTES,
    HELLO_BYTES,
    REQUEST_BYTES,
    Answer,
    Hello,
    Request,
    Status,
    WireError,
)


def test_what_is_packed_is_found_again() -> None:
    hello = Hello(7, b"t" * 32)
    assert Hello.unpack(hello.pack()) == hello
    for size in (None, 0, 1 << 40):
        request = Request(b"i" * 16, 5, size, 0xDEADBEEF)
        assert Request.unpack(request.pack()) == request
    for status in Status:
        assert Answer.unpack(Answer(status, 77).pack()) == Answer(status, 77)


@given(st.binary(min_size=HELLO_BYTES, max_size=HELLO_BYTES))
def test_a_random_hello_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="no data connection"):
        Hello.unpack(data)


def test_another_version_is_named() -> None:
    data = bytearray(Hello(7, b"t" * 32).pack())
    data[8] = 99
    with pytest.raises(WireError, match="speaks version 99"):
        Hello.unpack(bytes(data))


@given(st.binary(min_size=REQUEST_BYTES, max_size=REQUEST_BYTES))
def test_a_random_request_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Request.unpack(data)


def test_a_senseless_answer_is_refused() -> None:
    good = Answer(Status.OK, 5).pack()
    for bad in (b"x" + good[1:], good[:4] + b"\xff" + good[5:], good[:-1] + b"\x7f", bytes(ANSWER_BYTES)):
        with pytest.raises(WireError):
            Answer.unpack(bad)


@given(
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=300) | st.sampled_from([b"x" * 20_000, b"y" * (3 << 20)]),
)
def test_a_chunk_is_what_protobuf_makes_of_it(offset: int, data: bytes) -> None:
    pb = pytest.importorskip("orchestrator.rpc.generated.objects_pb2")
    message = pack_chunk(offset, memoryview(data))
    assert pb.Chunk.FromString(message) == pb.Chunk(offset=offset, data=data)
    found_offset, found = unpack_chunk(message)
    assert (found_offset, bytes(found)) == (offset, data)


@given(st.binary(max_size=60))
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    if data[:1] != b"\x09":
        with pytest.raises(WireError):
            unpack_chunk(data)


@pytest.mark.parametrize("cut", [1, 5, 11, 12, 50])
def test_a_truncated_chunk_is_refused(cut: int) -> None:
    message = pack_chunk(0, memoryview(b"z" * 300))
    with pytest.raises(WireError):
        unpack_chunk(message[:-cut] if cut > 12 else message[:cut])
    with pytest.raises(WireError):
        unpack_chunk(message + b"more")
    with pytest.raises(WireError, match="no end"):
        unpack_chunk(message[:10] + b"\xff" * 10)

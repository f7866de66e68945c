"""Frames come out as they went in, however the stream is cut; what is no frame is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gateway import frames
from orchestrator.gateway.frames import BadFrame, Decoder, Frame

addresses = st.integers(0, 2**64 - 1)
payloads = st.binary(max_size=300)


@st.composite
def some_frame(draw: st.DrawFn) -> tuple[bytes, Frame]:
    payload = draw(payloads)
    source, target = draw(addresses), draw(addresses)
    match draw(st.sampled_from(["message", "news", "forward", "deliver", "ack", "data"])):
        case "message":
            lane = draw(st.integers(0, 1))
            frame = Frame(frames.MESSAGE, source, target, lane, payload)
            return frames.message(source, target, lane, payload), frame
        case "news":
            return frames.news(payload), Frame(frames.NEWS, 0, 0, 0, payload)
        case "forward":
            return frames.forward(source, payload), Frame(frames.FORWARD, source, 0, 0, payload)
        case "deliver":
            return frames.deliver(source, payload), Frame(frames.DELIVER, source, 0, 0, payload)
        case "ack":
            return frames.ack(source), Frame(frames.ACK, source, 0, 0, b"")
    identity = draw(st.binary(min_size=16, max_size=16))
    frame = Frame(frames.DATA, source, target, 0, payload, identity)
    return frames.data(identity, source, target, payload), frame


@given(st.lists(some_frame(), max_size=10), st.data())
def test_they_come_out_as_they_went_in(sent: list[tuple[bytes, Frame]], data: st.DataObject) -> None:
    stream = b"".join(raw for raw, _ in sent)
    decoder = Decoder()
    arrived: list[Frame] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        arrived += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert arrived == [frame for _, frame in sent]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x00\x01",
        b"\xff\xff\xff\xff\x01",
        b"\x01\x00\x00\x00\x63",
        b"\x01\x00\x00\x00\x01",
        frames.message(1, 2, 1, b"").replace(b"\x01\x00", b"\x07\x00", 1)[:-1] + b"\x09",
    ],
)
def test_garbage_is_an_error_at_once(garbage: bytes) -> None:
    with pytest.raises(BadFrame):
        list(Decoder().feed(garbage + bytes(40)))


def test_frames_before_the_garbage_are_not_lost() -> None:
    decoder = Decoder()
    arrived = []
    with pytest.raises(BadFrame):
        arrived.extend(frame for frame in decoder.feed(b""))
        for frame in decoder.feed(frames.news(b"{}") + b"\xff" * 10):
            arrived.append(frame)
    assert [frame.payload for frame in arrived] == [b"{}"]

"""What was sent arrives once and in order, wherever connections break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gateway.stream import ACK_BYTES, Incoming, LinkLost, Outgoing


@given(st.lists(st.sampled_from(["send", "carry", "carry", "acknowledge", "break"]), max_size=200))
def test_nothing_is_lost_or_repeated(steps: list[str]) -> None:
    out, into = Outgoing(), Incoming()
    wire: list[bytes] = []
    arrived: list[bytes] = []
    sent: list[bytes] = []

    def carry() -> None:
        wire.extend(out.take(10))
        for frame in wire[:1]:
            arrived.append(frame)
            into.frame(len(frame))
        del wire[:1]

    for step in steps:
        if step == "send":
            sent.append(b"frame %d" % len(sent))
            out.append(sent[-1])
        elif step == "carry":
            carry()
        elif step == "acknowledge":
            count = into.ack_due(pausing=True)
            if count is not None:
                out.acknowledge(count)
        else:
            wire.clear()
            out.resume(into.arrived)
        out.validate()
        assert arrived == sent[: len(arrived)]
    while len(arrived) < len(sent):
        carry()
    assert arrived == sent
    out.acknowledge(into.arrived)
    assert (out.kept_bytes, out.waits) == (0, False)


def test_what_was_never_sent_cannot_have_arrived() -> None:
    out = Outgoing()
    out.append(b"one")
    with pytest.raises(LinkLost, match="1 frames acknowledged, of 0"):
        out.acknowledge(1)
    out.take(1)
    out.acknowledge(1)
    with pytest.raises(LinkLost):
        out.resume(0)


def test_an_acknowledgement_is_due_when_the_stream_pauses_or_has_carried_much() -> None:
    into = Incoming()
    assert into.ack_due(pausing=True) is None
    into.frame(10)
    assert into.ack_due(pausing=False) is None
    assert into.ack_due(pausing=True) == 1
    assert into.ack_due(pausing=True) is None
    into.frame(ACK_BYTES)
    assert into.ack_due(pausing=False) == 2

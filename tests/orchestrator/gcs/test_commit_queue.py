"""Nothing is said before what came before it is stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gcs.commit_queue import CommitQueue
from orchestrator.gcs.effects import Close, Effect, Write


@given(st.lists(st.sampled_from(["write", "say", "take", "committed"]), max_size=60))
def test_order(steps: list[str]) -> None:
    queue = CommitQueue()
    count = 0
    stored: set[int] = set()
    taken: list[Write] = []
    under_way = False
    written: list[int] = []
    said: list[int] = []

    def see(visible: list[Effect]) -> None:
        for effect in visible:
            assert isinstance(effect, Close)
            assert all(number in stored for number in written if number < effect.session)
            said.append(effect.session)

    for step in steps:
        if step == "write":
            count += 1
            written.append(count)
            see(queue.add([Write("t", str(count), b"")]))
        elif step == "say":
            count += 1
            see(queue.add([Close(count)]))
        elif step == "take" and not under_way:
            taken = queue.take()
            under_way = bool(taken)
        elif step == "committed" and under_way:
            under_way = False
            stored |= {int(write.key) for write in taken}
            see(queue.committed())
    while under_way or queue.has_writes:
        taken = taken if under_way else queue.take()
        under_way = False
        stored |= {int(write.key) for write in taken}
        see(queue.committed())
    assert said == sorted(said) and len(said) + len(written) == count and len(queue) == 0


def test_what_gathers_meanwhile_is_one_batch() -> None:
    queue = CommitQueue()
    queue.add([Write("t", "1", b"")])
    assert len(queue.take()) == 1
    for number in range(2, 100):
        assert queue.add([Write("t", str(number), b""), Close(number)]) == []
    assert queue.committed() == []
    assert len(queue.take()) == 98
    assert len(queue.committed()) == 98

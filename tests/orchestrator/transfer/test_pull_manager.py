"""The pull manager, told what happens and asked what to do: no socket, no store, no clock."""

from __future__ import annotations

from random import Random

import pytest

from orchestrator.common.priority import Priority
from orchestrator.transfer import pull_manager as module
from orchestrator.transfer.events import (
    Ask,
    AttemptEnded,
    BufferMade,
    BufferRefused,
    Cause,
    CreateBuffer,
    DropBuffer,
    End,
    Event,
    Instruction,
    Lost,
    NodeDied,
    Pulled,
    Refusal,
    RoomIs,
    Seal,
    Sealed,
    SealRefused,
    StopAttempt,
    Stream,
    Tick,
    Unwanted,
    Wanted,
)
from orchestrator.transfer.pull_manager import FAILURES_MAX, ROOM_PATIENCE_S, PullManager

MiB = 1 << 20
X, Y, Z = b"X" * 16, b"Y" * 16, b"Z" * 16
GET, ARGUMENT, PREFETCH = Priority


class Driver:
    """A pull manager, and a clock that is turned by hand.

    Each event is followed by a look at the invariants.
    """

    def __init__(self, bytes_max: int = 100 * MiB, **limits: int) -> None:
        self.pulls = PullManager(Random(0), bytes_max=bytes_max, **limits)
        self.now_s = 100.0
        self.attempt = 0

    def tell(self, event: Event) -> list[Instruction]:
        out = self.pulls.handle(event, self.now_s)
        self.pulls.validate()
        for instruction in out:
            if isinstance(instruction, Ask | Stream):
                self.attempt = instruction.attempt
        return out

    def want(
        self, object_id: bytes, *sources: int, size: int | None, priority: Priority = GET
    ) -> list[Instruction]:
        return self.tell(Wanted(object_id, sources, priority, size))

    def end(
        self, object_id: bytes, end: End, received: int = 0, size: int | None = None, attempt: int = 0
    ) -> list[Instruction]:
        return self.tell(AttemptEnded(object_id, attempt or self.attempt, end, received, size, "a reason"))

    def streaming(self, object_id: bytes, *sources: int, size: int, priority: Priority = GET) -> int:
        """Bring a pull to where it streams; returns its attempt."""
        out = self.want(object_id, *sources, size=size, priority=priority)
        assert CreateBuffer(object_id, size) in out
        [stream] = self.tell(BufferMade(object_id))
        assert stream == Stream(object_id, self.attempt, sources[0], 0, size)
        return self.attempt

    def finish(self, object_id: bytes, size: int) -> list[bytes]:
        """Have all bytes come and be sealed; returns what is created in its place."""
        out = self.end(object_id, End.COMPLETE, size, size)
        return created([*out, *self.tell(Sealed(object_id))])

    def wait(self) -> list[Instruction]:
        """Turn the clock to when something is to be done."""
        deadline_s = self.pulls.deadline_s()
        assert deadline_s is not None
        self.now_s = max(self.now_s, deadline_s)
        return self.tell(Tick())


@pytest.fixture
def driver() -> Driver:
    return Driver()


# ---------------------------------------------------------------- the straight way


def test_an_object_of_known_size_is_created_streamed_sealed_and_reported(driver: Driver) -> None:
    assert driver.want(X, 7, size=5) == [CreateBuffer(X, 5)]
    assert driver.tell(BufferMade(X)) == [Stream(X, 1, 7, 0, 5)]
    assert driver.end(X, End.COMPLETE, 5, 5) == [Seal(X)]
    assert driver.tell(Sealed(X)) == [Pulled(X)]
    assert len(driver.pulls) == 0


def test_a_size_that_is_not_known_is_asked_for_first(driver: Driver) -> None:
    assert driver.want(X, 7, size=None) == [Ask(X, 1, 7)]
    assert driver.end(X, End.COMPLETE, 0, 5 * MiB) == [CreateBuffer(X, 5 * MiB)]


def test_an_empty_object_needs_no_stream(driver: Driver) -> None:
    driver.want(X, 7, size=0)
    assert driver.tell(BufferMade(X)) == [Seal(X)]


def test_wanting_twice_pulls_once(driver: Driver) -> None:
    driver.streaming(X, 7, size=5)
    assert driver.want(X, 7, size=5) == []
    driver.end(X, End.COMPLETE, 5, 5)
    assert driver.tell(Sealed(X)) == [Pulled(X)]


def test_what_is_here_already_is_reported_at_once(driver: Driver) -> None:
    driver.want(X, 7, size=5)
    assert driver.tell(BufferRefused(X, Refusal.PRESENT, "")) == [Pulled(X)]


# ---------------------------------------------------------------- sources that fail


def test_another_source_goes_on_at_the_byte_where_the_first_broke(driver: Driver) -> None:
    driver.streaming(X, 7, 8, size=100)
    assert driver.end(X, End.BROKEN, 60, 100) == [Stream(X, 2, 8, 60, 100)]


def test_the_only_source_is_tried_again_after_a_pause(driver: Driver) -> None:
    driver.streaming(X, 7, size=100)
    assert driver.end(X, End.BROKEN, 60, 100) == []
    assert driver.wait() == [Stream(X, 2, 7, 60, 100)]


def test_pauses_grow_and_have_an_end(driver: Driver) -> None:
    driver.streaming(X, 7, size=100)
    pauses = []
    for _ in range(FAILURES_MAX - 1):
        assert driver.end(X, End.BROKEN) == []
        before_s = driver.now_s
        driver.wait()
        pauses.append(driver.now_s - before_s)
    assert pauses[0] < 0.5 and pauses[-1] > 2
    [drop, lost] = driver.end(X, End.BROKEN)
    assert isinstance(lost, Lost) or isinstance(drop, Lost)
    assert len(driver.pulls) == 0


def test_progress_forgives_a_source_its_failures(driver: Driver) -> None:
    driver.streaming(X, 7, size=100)
    for received in range(1, 3 * FAILURES_MAX):
        assert driver.end(X, End.BROKEN, received, 100) == []
        assert driver.wait() == [Stream(X, driver.attempt, 7, received, 100)]


def test_a_source_that_does_not_have_it_is_not_asked_again(driver: Driver) -> None:
    driver.streaming(X, 7, 8, size=100)
    assert driver.end(X, End.ABSENT) == [Stream(X, 2, 8, 0, 100)]
    [lost, drop] = driver.end(X, End.ABSENT)
    assert lost == Lost(X, Cause.NO_SOURCE, "node 7: a reason; node 8: a reason")
    assert drop == DropBuffer(X)


def test_a_lie_about_the_size_strikes_the_source_off(driver: Driver) -> None:
    driver.streaming(X, 7, 8, size=100)
    assert driver.end(X, End.COMPLETE, 100, 99) == [Stream(X, 2, 8, 0, 100)]
    assert driver.want(Y, 7, size=None) == [Ask(Y, 3, 7)]
    [lost] = driver.end(Y, End.COMPLETE, 0, 1 << 60)
    assert isinstance(lost, Lost) and lost.cause is Cause.NO_SOURCE


def test_complete_with_bytes_missing_is_a_lie(driver: Driver) -> None:
    driver.streaming(X, 7, 8, size=100)
    assert driver.end(X, End.COMPLETE, 99, 100) == [Stream(X, 2, 8, 99, 100)]


def test_what_begins_otherwise_is_fetched_from_its_start(driver: Driver) -> None:
    driver.streaming(X, 7, 8, size=100)
    driver.end(X, End.BROKEN, 60, 100)
    assert driver.end(X, End.DIFFERENT, 60, 100) == [Stream(X, 3, 8, 0, 100)]


def test_two_sources_that_never_agree_do_not_go_on_for_ever(driver: Driver) -> None:
    driver.streaming(X, 7, 8, size=100)
    for _ in range(100):
        if not len(driver.pulls):
            break
        out = driver.end(X, End.DIFFERENT, 0, 100)
        if len(driver.pulls) and not out:
            driver.wait()
    assert len(driver.pulls) == 0


def test_a_busy_source_is_left_alone_for_a_while_and_not_blamed(driver: Driver) -> None:
    driver.streaming(X, 7, size=100)
    for _ in range(3 * FAILURES_MAX):
        assert driver.end(X, End.BUSY, 0, 100) == []
        assert driver.wait() == [Stream(X, driver.attempt, 7, 0, 100)]


def test_a_dead_node_is_stopped_and_the_next_one_goes_on(driver: Driver) -> None:
    attempt = driver.streaming(X, 7, 8, size=100)
    assert driver.tell(NodeDied(7)) == [StopAttempt(X, attempt)]
    assert driver.end(X, End.BROKEN, 40, 100) == [Stream(X, 2, 8, 40, 100)]


def test_when_all_sources_are_dead_the_object_is_lost_for_a_reason(driver: Driver) -> None:
    driver.streaming(X, 7, size=100)
    driver.tell(NodeDied(7))
    [lost, _] = driver.end(X, End.BROKEN, 40, 100)
    assert lost == Lost(X, Cause.NO_SOURCE, "node 7 died")


def test_no_source_at_all_is_lost_at_once(driver: Driver) -> None:
    assert driver.want(X, size=100) == [Lost(X, Cause.NO_SOURCE, "no source was named")]


def test_a_further_source_is_used_by_one_that_pauses(driver: Driver) -> None:
    driver.streaming(X, 7, size=100)
    driver.end(X, End.BROKEN, 60, 100)
    assert driver.want(X, 8, size=100) == [Stream(X, 2, 8, 60, 100)]


def test_what_comes_late_changes_nothing(driver: Driver) -> None:
    attempt = driver.streaming(X, 7, 8, size=100)
    driver.end(X, End.BROKEN, 60, 100)
    assert driver.end(X, End.COMPLETE, 100, 100, attempt=attempt) == []
    for event in (Sealed(X), SealRefused(X, ""), Unwanted(Y), BufferRefused(X, Refusal.FULL, ""), Sealed(Y)):
        if not isinstance(event, Unwanted):
            assert driver.tell(event) == []


# ---------------------------------------------------------------- cancelling


def test_a_cancelled_pull_gives_its_buffer_back_when_nobody_writes_into_it(driver: Driver) -> None:
    attempt = driver.streaming(X, 7, size=100)
    assert driver.tell(Unwanted(X)) == [StopAttempt(X, attempt)]
    assert driver.end(X, End.BROKEN, 10, 100) == [DropBuffer(X)]
    assert len(driver.pulls) == 0


def test_who_wants_it_again_meanwhile_goes_on_where_it_was(driver: Driver) -> None:
    driver.streaming(X, 7, size=100)
    driver.tell(Unwanted(X))
    assert driver.want(X, 7, size=100) == []
    assert driver.end(X, End.BROKEN, 10, 100) == [Stream(X, 2, 7, 10, 100)]


def test_a_buffer_that_is_made_too_late_is_given_back(driver: Driver) -> None:
    driver.want(X, 7, size=100)
    assert driver.tell(Unwanted(X)) == []
    assert driver.tell(BufferMade(X)) == [DropBuffer(X)]


def test_what_waits_or_pauses_is_gone_at_once(driver: Driver) -> None:
    driver.streaming(X, 7, size=100)
    driver.end(X, End.BROKEN, 10, 100)
    assert driver.tell(Unwanted(X)) == [DropBuffer(X)]


# ---------------------------------------------------------------- turns and room


def created(out: list[Instruction]) -> list[bytes]:
    return [one.object_id for one in out if isinstance(one, CreateBuffer)]


def test_no_more_is_under_way_than_allowed() -> None:
    driver = Driver(bytes_max=10 * MiB)
    driver.streaming(X, 7, size=6 * MiB)
    assert driver.want(Y, 7, size=6 * MiB) == []
    assert driver.finish(X, 6 * MiB) == [Y]


def test_what_never_fits_goes_alone() -> None:
    driver = Driver(bytes_max=10 * MiB)
    driver.streaming(X, 7, size=2 * MiB)
    assert driver.want(Y, 7, size=50 * MiB) == []
    assert driver.finish(X, 2 * MiB) == [Y]
    assert driver.want(Z, 7, size=2 * MiB) == []


def test_a_small_object_does_not_wait_for_large_ones() -> None:
    driver = Driver(bytes_max=10 * MiB, streams_max=1)
    driver.streaming(X, 7, size=50 * MiB)
    assert driver.want(Y, 7, size=50 * MiB) == []
    assert created(driver.want(Z, 7, size=1000)) == [Z]


def test_a_get_goes_before_arguments_and_these_before_prefetches() -> None:
    driver = Driver(streams_max=1)
    driver.streaming(X, 7, size=2 * MiB)
    for object_id, priority in ((b"p" * 16, PREFETCH), (b"a" * 16, ARGUMENT), (b"g" * 16, GET)):
        assert driver.want(object_id, 7, size=2 * MiB, priority=priority) == []
    order = []
    current = X
    for _ in range(3):
        [current] = driver.finish(current, 2 * MiB)
        driver.tell(BufferMade(current))
        order.append(current[:1])
    assert order == [b"g", b"a", b"p"]


def test_a_prefetch_is_not_overtaken_for_ever() -> None:
    driver = Driver(streams_max=1)
    driver.streaming(X, 7, size=2 * MiB)
    driver.want(Y, 7, size=2 * MiB, priority=PREFETCH)
    driver.now_s += module.PATIENCE_S[PREFETCH] + 1
    driver.want(Z, 7, size=2 * MiB, priority=GET)
    assert driver.finish(X, 2 * MiB) == [Y]


def test_wanting_it_more_urgently_moves_it_ahead() -> None:
    driver = Driver(streams_max=1)
    driver.streaming(X, 7, size=2 * MiB)
    driver.want(Y, 7, size=2 * MiB, priority=ARGUMENT)
    driver.want(Z, 7, size=2 * MiB, priority=PREFETCH)
    driver.want(Z, 7, size=2 * MiB, priority=GET)
    assert driver.finish(X, 2 * MiB) == [Z]


def test_a_get_takes_the_room_of_a_prefetch_which_begins_again_later() -> None:
    driver = Driver(bytes_max=10 * MiB)
    attempt = driver.streaming(X, 7, size=8 * MiB, priority=PREFETCH)
    assert driver.want(Y, 7, size=8 * MiB, priority=GET) == [StopAttempt(X, attempt)]
    assert driver.end(X, End.BROKEN, 3, 8 * MiB) == [DropBuffer(X), CreateBuffer(Y, 8 * MiB)]
    driver.tell(BufferMade(Y))
    assert driver.finish(Y, 8 * MiB) == [X]


def test_a_get_takes_no_room_that_would_not_be_enough() -> None:
    driver = Driver(bytes_max=10 * MiB)
    driver.streaming(X, 7, size=2 * MiB, priority=PREFETCH)
    driver.streaming(Y, 7, size=7 * MiB, priority=GET)
    assert driver.want(Z, 7, size=8 * MiB, priority=GET) == []


def test_the_word_of_the_store_about_room_counts(driver: Driver) -> None:
    driver.streaming(X, 7, size=2 * MiB)
    driver.tell(RoomIs(5 * MiB))
    assert driver.want(Y, 7, size=6 * MiB) == []
    assert created(driver.tell(RoomIs(7 * MiB))) == [Y]


def test_a_full_store_is_tried_again_and_given_up_for_a_reason(driver: Driver) -> None:
    begin_s = driver.now_s
    driver.want(X, 7, size=100)
    for _ in range(1000):
        out = driver.tell(BufferRefused(X, Refusal.FULL, "all is pinned"))
        if out:
            break
        assert driver.wait() == [CreateBuffer(X, 100)]
    [lost] = out
    assert isinstance(lost, Lost) and lost.cause is Cause.NO_ROOM and "all is pinned" in lost.why
    assert driver.now_s - begin_s >= ROOM_PATIENCE_S


def test_what_can_never_be_made_is_lost_at_once(driver: Driver) -> None:
    driver.want(X, 7, size=100)
    assert driver.tell(BufferRefused(X, Refusal.NEVER, "too large")) == [
        Lost(X, Cause.IMPOSSIBLE, "too large")
    ]


def test_an_object_that_somebody_here_is_making_is_waited_for(driver: Driver) -> None:
    driver.want(X, 7, size=100)
    assert driver.tell(BufferRefused(X, Refusal.BEING_MADE, "")) == []
    assert driver.wait() == [CreateBuffer(X, 100)]
    assert driver.tell(BufferRefused(X, Refusal.PRESENT, "")) == [Pulled(X)]


def test_one_that_has_a_buffer_never_waits_behind_one_that_waits_for_room() -> None:
    driver = Driver(bytes_max=10 * MiB)
    driver.streaming(X, 7, size=8 * MiB, priority=GET)
    driver.now_s += 1
    driver.want(Y, 7, size=9 * MiB, priority=GET)
    driver.end(X, End.BROKEN, 5, 8 * MiB, attempt=1)
    assert driver.wait() == [Stream(X, 2, 7, 5, 8 * MiB)]

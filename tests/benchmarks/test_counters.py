"""The counters count what they should, and the same each time."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable

import pytest

from benchmarks import counters
from benchmarks.counters import Bytecodes, Count, Instructions

#: Emulators of this processor are another matter: there `available` says so, and this is to be looked at.
KINDS = ["bytecodes", *(["instructions"] if platform.machine() == "x86_64" else [])]


@pytest.fixture(params=KINDS)
def count(request: pytest.FixtureRequest) -> Count:
    return counters.make(request.param)


def sum_up(numbers: int) -> int:
    total = 0
    for number in range(numbers):
        total += number & 7
    return total


def number_of(count: Count, function: Callable[[], object]) -> int:
    return counters.run(count, function)[0]


def test_more_work_counts_more(count: Count) -> None:
    few, many = (number_of(count, lambda n=n: sum_up(n)) for n in (10, 110))
    assert many - few >= 100


def test_the_same_work_counts_the_same(count: Count) -> None:
    def work() -> int:
        return sum_up(30)

    for _ in range(3):
        number_of(count, work)  # until the interpreter has adapted itself
    low, *_, high = sorted(number_of(count, work) for _ in range(7))[1:-1]
    assert high - low <= (0 if isinstance(count, Bytecodes) else 0.05) * low


def test_the_value_comes_back(count: Count) -> None:
    number, value = counters.run(count, lambda: sum_up(3))
    assert number > 0
    assert value == 3


def test_nothing_is_counted_after_the_end(count: Count) -> None:
    number_of(count, lambda: sum_up(3))
    before = count.now()
    sum_up(1000)
    assert count.now() == before


def test_an_error_ends_the_count(count: Count) -> None:
    with pytest.raises(ZeroDivisionError):
        counters.run(count, lambda: 1 // 0)
    before = count.now()
    sum_up(1000)
    assert count.now() == before


def test_other_threads_are_not_counted(count: Count) -> None:
    go, done = threading.Event(), threading.Event()

    def other() -> None:
        go.wait()
        sum_up(300)
        done.set()

    def wait() -> None:
        go.set()
        done.wait()

    thread = threading.Thread(target=other)
    thread.start()
    number = number_of(count, wait)
    thread.join()
    assert number < number_of(count, lambda: sum_up(300))


def test_bytecodes_are_told_by_function() -> None:
    count = Bytecodes()
    number_of(count, lambda: sum_up(100))
    places = count.take()
    (name,) = [name for name in places if name.endswith("sum_up")]
    assert name.startswith("test_counters.py: ")
    assert places[name] > 100
    assert not count.take()


@pytest.mark.skipif("instructions" not in KINDS, reason="the trap flag is x86-64's")
def test_instructions_are_told_by_library() -> None:
    count = Instructions(places_max=100_000)
    number = number_of(count, lambda: sum_up(20))
    places = count.take()
    assert 0.9 * number < sum(places.values()) <= number  # without what starts and ends the count
    assert any("python" in name for name in places)
    assert count.now() == 0


@pytest.mark.skipif("instructions" not in KINDS, reason="the trap flag is x86-64's")
def test_instructions_can_be_counted_here() -> None:
    assert Instructions.available()

"""Who runs when there is not enough for all: nobody starves, and who matters more comes first."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import orchestrator as ray


@pytest.fixture
def one_cpu() -> Iterator[None]:
    ray.init(num_cpus=1, resources={"disk": 10}, object_store_memory=256 << 20)
    yield
    ray.shutdown()


@ray.remote
def work(seconds: float = 0.005) -> float:
    time.sleep(seconds)
    return time.monotonic()


def test_an_endless_queue_of_one_class_does_not_starve_another(one_cpu: None) -> None:
    endless = [work.remote() for _ in range(2000)]
    other = work.options(resources={"disk": 1}).remote()
    ray.get(other, timeout=8)
    assert ray.wait(endless, num_returns=len(endless), timeout=0)[1], "the queue was there all the time"
    for ref in endless:
        ray.cancel(ref)


def test_an_endless_queue_does_not_starve_an_actor(one_cpu: None) -> None:
    @ray.remote
    class Late:
        def hello(self) -> str:
            return "hello"

    endless = [work.remote() for _ in range(2000)]
    assert ray.get(Late.remote().hello.remote(), timeout=8) == "hello"
    for ref in endless:
        ray.cancel(ref)


def test_two_submitters_share_a_cpu_evenly(one_cpu: None) -> None:
    @ray.remote(num_cpus=0)
    class Submitter:
        def submit(self, count: int) -> list[float]:
            return ray.get([work.remote() for _ in range(count)])

    first, second = Submitter.remote(), Submitter.remote()
    early = first.submit.remote(200)
    late = second.submit.remote(200)
    ends = sorted([(end, 0) for end in ray.get(early)] + [(end, 1) for end in ray.get(late)])
    half = [who for _, who in ends[: len(ends) // 2]]
    assert 0.3 <= sum(half) / len(half) <= 0.7


def test_the_more_urgent_comes_first(one_cpu: None) -> None:
    @ray.remote(num_cpus=0)
    class Order:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def note(self, name: str) -> None:
            self.seen.append(name)

        def all(self) -> list[str]:
            return self.seen

    order = Order.remote()

    @ray.remote
    def note(name: str) -> None:
        time.sleep(0.01)
        ray.get(order.note.remote(name))

    low = [note.remote("low") for _ in range(100)]
    ray.get(low[0])
    ray.get(note.options(priority=1).remote("high"))
    assert ray.get(order.all.remote()).count("low") < 20, "it has passed nearly all of them"
    ray.get(low)


def test_the_less_urgent_comes_too(one_cpu: None) -> None:
    urgent = work.options(priority=10)
    ray.get(urgent.remote())
    endless = [urgent.remote() for _ in range(3000)]
    ray.get(work.options(priority=-10).remote(), timeout=12)
    assert ray.wait(endless, num_returns=len(endless), timeout=0)[1], (
        "the urgent ones were there all the time"
    )
    for ref in endless:
        ray.cancel(ref)

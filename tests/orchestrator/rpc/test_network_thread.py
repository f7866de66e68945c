"""Two loops, one queue."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Iterator

import pytest

from orchestrator.rpc.network_thread import POLL_MAX, NetworkThread


@pytest.fixture
def thread() -> Iterator[NetworkThread]:
    thread = NetworkThread()
    yield thread
    thread.close()


def poll(thread: NetworkThread) -> None:
    select.select([thread.fileno()], [], [], 10.0)
    thread.poll()


def test_what_is_posted_runs_here_and_in_order(thread: NetworkThread) -> None:
    seen: list[tuple[int, int]] = []

    async def post_some() -> None:
        for number in range(5):
            thread.post(lambda number=number: seen.append((number, threading.get_ident())))  # type: ignore[misc]

    thread.spawn(post_some())
    while len(seen) < 5:
        poll(thread)
    assert seen == [(number, threading.get_ident()) for number in range(5)]
    assert not select.select([thread.fileno()], [], [], 0)[0]


def test_a_flood_comes_in_bounded_portions(thread: NetworkThread) -> None:
    seen: list[int] = []
    for number in range(POLL_MAX + 10):
        thread.post(lambda number=number: seen.append(number))  # type: ignore[misc]
    thread.poll()
    assert len(seen) == POLL_MAX
    poll(thread)
    assert seen == list(range(POLL_MAX + 10))


def test_waiting_for_a_coroutine(thread: NetworkThread) -> None:
    async def add(one: int, other: int) -> int:
        await asyncio.sleep(0)
        return one + other

    assert thread.wait_for(add(1, 2), 10.0) == 3


@pytest.mark.usefixtures("no_leaks")
def test_closing_cancels_what_runs() -> None:
    thread = NetworkThread()
    began, cancelled = threading.Event(), threading.Event()

    async def wait_for_ever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    thread.spawn(wait_for_ever())
    assert began.wait(10.0)
    thread.close()
    assert cancelled.is_set()
    thread.post(lambda: None)  # too late, and harmless
    thread.close()

"""A session that may use so much memory and no more."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psutil import pid_exists

import orchestrator as ray
from orchestrator.exceptions import ActorDiedError, OutOfMemoryError
from tests.waiting import until

MIB = 1 << 20


@pytest.fixture(scope="module")
def limited() -> Iterator[None]:
    """400 MiB for all workers together."""
    os.environ["ORCHESTRATOR_MEMORY_LIMIT_BYTES"] = str(400 * MIB)
    try:
        ray.init(num_cpus=2, object_store_memory=256 * MIB)
    finally:
        del os.environ["ORCHESTRATOR_MEMORY_LIMIT_BYTES"]
    yield
    ray.shutdown()


def grow(size: int) -> None:
    held = bytearray(size)
    held[:: os.sysconf("SC_PAGESIZE")] = b"x" * len(held[:: os.sysconf("SC_PAGESIZE")])
    time.sleep(60)


def test_a_task_that_takes_too_much_is_ended_and_told_why(limited: None) -> None:
    with pytest.raises(OutOfMemoryError, match=r"memory ran out: .* of 0.39 GiB.*this process had 0.\d+ GiB"):
        ray.get(ray.remote(grow).remote(800 * MIB), timeout=60)
    assert ray.get(ray.remote(os.getpid).remote()) > 0, "the session goes on"


def test_an_actor_that_takes_too_much_dies_of_it(limited: None) -> None:
    @ray.remote
    class Hog:
        def grow(self) -> None:
            grow(800 * MIB)

    with pytest.raises(ActorDiedError, match="memory ran out"):
        ray.get(Hog.remote().grow.remote(), timeout=60)


def test_who_had_to_make_room_is_tried_again(limited: None, tmp_path: Path) -> None:
    """Two that need most of it: one is ended, and runs again when the other is done."""
    seen = tmp_path / "seen"

    @ray.remote(max_retries=1)
    def need(name: str) -> str:
        with open(seen, "a") as file:
            file.write(f"{os.getpid()}\n")
        held = bytearray(250 * MIB)
        held[:: os.sysconf("SC_PAGESIZE")] = b"x" * len(held[:: os.sysconf("SC_PAGESIZE")])
        # It keeps it until the other has come, and has been ended. (One that is tried again finds that so.)
        until(lambda: len(pids := seen.read_text().split()) > 1 and not all(map(pid_exists, map(int, pids))))
        return name

    assert ray.get([need.remote("a"), need.remote("b")], timeout=90) == ["a", "b"]
    assert len(seen.read_text().split()) > 2, "one of them began more than once"


def test_what_must_not_be_repeated_is_not(limited: None, tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    @ray.remote(max_retries=0)
    def once() -> None:
        with open(seen, "a") as file:
            file.write("x")
        grow(800 * MIB)

    with pytest.raises(OutOfMemoryError):
        ray.get(once.remote(), timeout=60)
    assert seen.read_text() == "x"

"""The event loop: whom it calls, and when it lets the rest of the node have a look."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from orchestrator.node import reactor as reactors
from orchestrator.node.reactor import CARRIED, LOOK_S, Reactor


class Pipe:
    """A descriptor that is readable when it was written to."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()

    def write(self) -> None:
        os.write(self.write_fd, b"x")

    def read(self) -> None:
        os.read(self.read_fd, 1)

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    pipes = [Pipe(), Pipe()]
    yield pipes
    for pipe in pipes:
        pipe.close()


def test_it_waits_on_while_things_are_only_passed_on(reactor: Reactor, pipes: list[Pipe]) -> None:
    first, second = pipes
    log: list[str] = []

    def carry() -> bool:
        first.read()
        log.append("carried")
        if log.count("carried") < 3:
            first.write()
        else:
            second.write()
        return CARRIED

    def change() -> None:
        second.read()
        log.append("changed")

    reactor.watch(first.read_fd, carry)
    reactor.watch(second.read_fd, change)
    reactor.after_carrying = lambda: log.append("settled")
    first.write()
    reactor.run(60)
    assert log == ["carried", "settled"] * 3 + ["changed"]


def test_its_time_is_over_though_there_is_always_something_to_pass_on(
    reactor: Reactor, pipes: list[Pipe]
) -> None:
    pipes[0].write()
    reactor.watch(pipes[0].read_fd, lambda: CARRIED)  # it stays readable
    reactor.run(0.01)
    reactor.run(0)


def test_what_follows_passing_on_may_want_the_rest_to_look(reactor: Reactor, pipes: list[Pipe]) -> None:
    pipes[0].write()
    reactor.watch(pipes[0].read_fd, lambda: CARRIED)  # it stays readable: it would go on
    reactor.after_carrying = lambda: True
    reactor.run(60)


@pytest.mark.parametrize(("between_looks_s", "looks_s"), [(1e-6, LOOK_S), (1e-3, 0.0)])
def test_it_stays_awake_for_what_comes_soon(
    reactor: Reactor,
    pipes: list[Pipe],
    monkeypatch: pytest.MonkeyPatch,
    between_looks_s: float,
    looks_s: float,
) -> None:
    times_s = itertools.count(0.0, between_looks_s)
    monkeypatch.setattr(reactors, "monotonic", lambda: next(times_s))
    pipes[0].write()
    reactor.watch(pipes[0].read_fd, lambda: CARRIED)  # it stays readable
    reactor._look_s = LOOK_S / 2
    reactor.run(100 * between_looks_s)
    assert reactor._look_s == looks_s


def test_nothing_to_read_is_nothing_passed_on(reactor: Reactor) -> None:
    assert reactor.run_once(0) is False
    reactor.run(0.001)


def test_one_that_changes_something_among_those_that_carry(reactor: Reactor, pipes: list[Pipe]) -> None:
    for pipe in pipes:
        pipe.write()
    reactor.watch(pipes[0].read_fd, lambda: CARRIED)
    reactor.watch(pipes[1].read_fd, pipes[1].read)
    assert reactor.run_once(1) is False
    assert reactor.run_once(1) is True

"""What the object plane asks of the transfer, and what becomes of copies, with everything around it faked."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.common.ids import object_id, process_prefix
from orchestrator.common.priority import ARGUMENT, GET, PREFETCH
from orchestrator.gateway import directory as states
from orchestrator.gateway.spare_copies import SPARE_S
from orchestrator.node.object_plane import ObjectPlane

HERE, HOME = 2, 1
THEIRS = object_id(process_prefix("session", 7, HOME), 1)
LARGE = 8 << 20


class Store:
    """A store that knows one object."""

    size_bytes = 100 * LARGE

    def __init__(self) -> None:
        self.now = states.PENDING
        self.needed = True
        self.unneeded: list[bytes] = []
        self.is_kept = False

    def state(self, identity: bytes) -> int:
        return self.now

    def size_of(self, identity: bytes) -> int | None:
        return LARGE if self.now in states.HERE else None

    def keep(self, identity: bytes) -> int:
        self.is_kept = True
        return self.now

    def unkeep_if_unneeded(self, identity: bytes) -> bool:
        if not self.needed:
            self.is_kept = False
        return not self.needed

    def is_needed(self, identity: bytes) -> bool:
        return self.needed

    def take_unneeded(self, limit: int) -> list[bytes]:
        taken, self.unneeded = self.unneeded, []
        return taken

    def stats(self, objects: bool) -> dict[str, int]:
        return {"free_bytes": self.size_bytes}

    def let_go(self) -> None:
        self.needed = False
        self.unneeded.append(THEIRS)


class Transfer:
    """Writes down what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def pull(self, *what: Any) -> None:
        self.asked.append(("pull", *what))

    def hasten(self, *what: Any) -> None:
        self.asked.append(("hasten", *what))

    def cancel(self, *what: Any) -> None:
        self.asked.append(("cancel", *what))


class Gateway:
    def read_control(self) -> bool:
        return True

    def let_go(self, process: int) -> None:
        pass


class StandIns:
    def at(self, address: int) -> None:
        return None


class World:
    """A plane that has asked for an object of another node, and been told where it is."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.store, self.transfer = Store(), Transfer()
        self.said: list[str] = []
        self.plane = ObjectPlane(
            "session",
            self.store,
            StandIns(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            here=HERE,
            tell=lambda node, message: self.said.append(message["op"]),
            tell_process=lambda process, message: True,
            tell_all=lambda message: None,
            complain=pytest.fail,
            now=lambda: self.now_s,
        )
        self.plane.transfer = self.transfer
        self.plane.gateway = Gateway()  # type: ignore[assignment]
        self.plane.borrow(100, THEIRS)
        self.plane.on_news(HOME, "borrowed", {"object": THEIRS.hex()})

    def located(self) -> None:
        self.plane.on_news(HOME, "located", {"object": THEIRS.hex(), "nodes": [HOME], "size": LARGE})


@pytest.mark.parametrize("priority", [GET, ARGUMENT, PREFETCH])
def test_a_pull_says_what_it_is_for(priority: Any) -> None:
    world = World()
    world.plane.want(THEIRS, priority)
    world.located()
    assert world.transfer.asked == [("pull", THEIRS, (HOME,), LARGE, priority)]


def test_the_most_urgent_of_those_who_wait_counts() -> None:
    world = World()
    world.plane.want(THEIRS, PREFETCH)
    world.plane.want(THEIRS, ARGUMENT)
    world.plane.want(THEIRS, PREFETCH)
    world.located()
    assert world.transfer.asked[-1] == ("pull", THEIRS, (HOME,), LARGE, ARGUMENT)


def test_what_is_on_its_way_is_hastened_by_who_is_more_urgent_and_by_no_other() -> None:
    world = World()
    world.plane.want(THEIRS, ARGUMENT)
    world.located()
    del world.transfer.asked[:]
    world.plane.want(THEIRS, PREFETCH)
    world.plane.want(THEIRS, ARGUMENT)
    assert world.transfer.asked == []
    world.plane.want(THEIRS, GET)
    assert world.transfer.asked == [("hasten", THEIRS, GET)]


def test_a_copy_that_is_read_and_dropped_before_the_end_of_its_pull_is_heard_of_stays_all_the_same() -> None:
    world = World()
    world.plane.want(THEIRS, GET)
    world.located()
    world.store.now = states.SEALED
    world.store.let_go()
    world.plane.look()
    assert world.store.is_kept and world.transfer.asked[-1][0] == "pull"
    world.plane.arrived(THEIRS)
    world.plane.look()
    assert world.store.is_kept and world.said[-2:] == ["copied", "unborrow"]


def spare() -> World:
    world = World()
    world.plane.want(THEIRS, GET)
    world.located()
    world.store.now = states.SEALED
    world.plane.arrived(THEIRS)
    world.store.let_go()
    world.plane.look()
    assert world.store.is_kept
    return world


def test_a_spare_copy_goes_after_a_while() -> None:
    world = spare()
    assert world.plane.tick() < SPARE_S and world.store.is_kept
    world.now_s = SPARE_S
    world.plane.tick()
    assert not world.store.is_kept and world.said[-1] == "dropped"
    assert world.plane.tick() >= SPARE_S, "nothing is left to look after"


def test_a_spare_copy_that_is_used_again_does_not() -> None:
    world = spare()
    world.store.needed = True
    world.plane.borrow(100, THEIRS)
    world.now_s = SPARE_S
    world.plane.tick()
    world.plane.drop_spares()
    assert world.store.is_kept and world.said[-1] == "borrow"


def test_one_that_is_used_again_before_that_is_heard_of_does_not_go_either() -> None:
    world = spare()
    world.store.needed = True
    world.plane.drop_spares()
    assert world.store.is_kept
    world.store.let_go()
    world.plane.look()
    world.plane.drop_spares()
    assert not world.store.is_kept


def test_when_memory_is_short_none_stays() -> None:
    world = spare()
    world.plane.drop_spares()
    assert not world.store.is_kept and world.said[-1] == "dropped"

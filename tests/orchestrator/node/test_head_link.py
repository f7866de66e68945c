"""What a node makes of the head's views: who joins, who dies, and who was dead before it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs.messages import NodeView, View
from orchestrator.node import head_link
from orchestrator.node.head_link import LINK, HeadLink

HERE = 5
Show = Callable[..., list[tuple[str, int]]]


class Member:
    """What a node is as far as views are concerned; it writes down what it is told."""

    here = HERE

    def __init__(self) -> None:
        self.leases = self.leaving = self
        self.told: list[tuple[str, int]] = []

    def node_joined(self, index: int, host: str, port: int, objects: str) -> None:
        self.told.append(("joined", index))

    def node_died(self, index: int, why: str) -> None:
        self.told.append(("died", index))

    def node_drains(self, index: int) -> None:
        self.told.append(("drains", index))

    def on_view(self, node: NodeView) -> None:
        pass


def seen(index: int, state: str = "ALIVE") -> NodeView:
    services = {LINK: "127.0.0.1:1"}
    none = ResourceSet()
    return NodeView(index, f"{index:016x}", "vm", services, none, none, {}, False, state, "", False)


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    views: list[View] = []

    class Link:
        def __init__(self, *_: Any) -> None:
            pass

        def poll(self) -> list[View]:
            taken, views[:] = list(views), []
            return taken

    monkeypatch.setattr(head_link, "GcsLink", Link)
    link = HeadLink("", None, None, None)  # type: ignore[arg-type]
    member = Member()

    def told_by(*more: View) -> list[tuple[str, int]]:
        views.extend(more)
        link.poll(member)  # type: ignore[arg-type]
        told, member.told = member.told, []
        return told

    return told_by


def test_nodes_that_were_dead_before_it_came_are_dead(show: Show) -> None:
    """Or who refers to what was theirs would wait for ever."""
    told = show(View(1, 7, True, (seen(3), seen(HERE))))
    assert told == [("joined", 3), ("joined", HERE), ("died", 2), ("died", 4)]
    assert show(View(1, 8, False, (seen(1),))) == [("joined", 1)], "the head's own may come late"
    assert show(View(1, 9, False, (seen(3, "DEAD"), seen(6)))) == [("died", 3), ("joined", 6)]


def test_a_snapshot_in_pieces_is_looked_at_when_it_is_whole(
    show: Callable[..., list[tuple[str, int]]],
) -> None:
    assert show(View(1, 7, True, (seen(2), seen(3), seen(4), seen(HERE))))[-1] == ("joined", HERE)
    assert show(View(2, 0, True, (seen(2), seen(3)))) == []
    assert show(View(2, 1, False, (seen(HERE),))) == [("died", 4)]

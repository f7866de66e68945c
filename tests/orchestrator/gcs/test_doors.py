"""Nodes that have no session are looked after: does anybody listen there?"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import doors
from orchestrator.gcs.doors import SERVICE, Doors, knock
from orchestrator.gcs.messages import NodeSpec, Register
from orchestrator.gcs.nodes import HealthPolicy, NodeRecord, NodeTable
from orchestrator.node.head_link import LINK

Answers = dict[int, type[Exception] | None]


def table_of(count: int, services: dict[str, str] | None = None) -> NodeTable:
    """Return the nodes 2, 3, ..., which listen at port 2, 3, ..., and have no session."""
    table = NodeTable(HealthPolicy())
    for index in range(2, count + 2):
        named = {SERVICE: f"host:{index}"} if services is None else services
        spec = NodeSpec(f"{index:016x}", "host", named, ResourceSet(), {})
        record, _, _ = table.register(index, Register(spec), 0.0)
        assert isinstance(record, NodeRecord)
        table.session_lost(record, 0.0)
    return table


def answering(answers: Answers, knocked: list[int]) -> Callable[[str, int], Awaitable[None]]:
    async def knock(host: str, port: int) -> None:
        assert host == "host"
        knocked.append(port)
        await asyncio.sleep(0)
        answer = answers.get(port)
        if answer is not None:
            raise answer

    return knock


async def look(made: Doors, condition: Callable[[], bool]) -> None:
    """Run it until a condition holds."""
    task = asyncio.create_task(made.run())
    while not condition():
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not made._under_way


def test_it_is_the_door_that_a_node_has() -> None:
    assert SERVICE == LINK


def test_only_a_refusal_says_anything() -> None:
    refused: list[int] = []
    knocked: list[int] = []
    answers: Answers = {3: ConnectionRefusedError, 4: OSError, 5: TimeoutError}
    made = Doors(table_of(4), refused.append, answering(answers, knocked), look_s=0.0)
    asyncio.run(look(made, lambda: knocked.count(5) > 2))
    assert set(knocked) == {2, 3, 4, 5} and set(refused) == {3}


@pytest.mark.parametrize("services", [{}, {SERVICE: "nonsense"}, {SERVICE: "host:port"}])
def test_who_does_not_say_where_it_listens_is_left_alone(services: dict[str, str]) -> None:
    refused: list[int] = []
    asyncio.run(
        look(Doors(table_of(1, services), refused.append, answering({}, []), look_s=0.0), lambda: True)
    )
    assert not refused


def test_who_has_a_session_is_left_alone() -> None:
    knocked: list[int] = []
    table = table_of(3)
    record = table.get(3)
    assert record is not None
    table.register(9, Register(record.spec, 3), 1.0)
    asyncio.run(
        look(Doors(table, lambda _: None, answering({}, knocked), look_s=0.0), lambda: len(knocked) > 4)
    )
    assert set(knocked) == {2, 4}


def test_all_have_their_turn_though_some_never_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "LOOKS_MAX", 3)
    monkeypatch.setattr(doors, "ANSWER_S", 0.01)
    knocked: list[int] = []

    async def silent(host: str, port: int) -> None:
        knocked.append(port)
        await asyncio.Event().wait()

    made = Doors(table_of(10), lambda _: None, silent, look_s=0.0)
    asyncio.run(look(made, lambda: len(knocked) >= 30))
    assert knocked[:30] == [*range(2, 12)] * 3


def test_a_port_at_which_somebody_listens_and_then_nobody_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        asyncio.run(knock("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(knock("127.0.0.1", port))

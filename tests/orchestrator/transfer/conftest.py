"""Nodes that can send each other objects, without the rest of a node."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.common.priority import Priority
from orchestrator.transfer.addresses import NodeAddress
from orchestrator.transfer.events import Lost, Pulled
from orchestrator.transfer.security import Security
from orchestrator.transfer.transfer import ObjectTransfer
from plasma.store import Store

IN_THE_CLEAR = Security(None)


class Node:
    """A store and its transfer."""

    def __init__(
        self,
        index: int,
        security: Security,
        store_bytes: int,
        spill_directory: str | None = None,
        **options: Any,
    ) -> None:
        self.store = Store.create(store_bytes, spill_directory=spill_directory)
        self.transfer = ObjectTransfer(self.store, index, "127.0.0.1", security, **options)
        self.address: NodeAddress = self.transfer.start()
        self.events: list[Pulled | Lost] = []
        self.closed = False

    def put(self, object_id: bytes, data: bytes) -> None:
        self.store.put_parts(object_id, [data], referenced=True)

    def pull(
        self,
        object_id: bytes,
        *sources: Node | NodeAddress,
        priority: Priority = Priority.GET,
        size: int | None = None,
    ) -> None:
        addresses = [one.address if isinstance(one, Node) else one for one in sources]
        self.transfer.pull(object_id, addresses, priority, size)

    def next_event(self) -> Pulled | Lost:
        while not self.events:
            readable, _, _ = select.select([self.transfer], [], [], 60.0)
            assert readable, f"no event; {list(self.transfer.complaints)}"
            self.events = self.transfer.take_events()
        return self.events.pop(0)

    def read(self, object_id: bytes) -> bytes:
        return bytes(self.store.get(object_id, 0))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.transfer.close()
            self.store.close()


@pytest.fixture(scope="session", autouse=True)
def grpc_is_awake() -> Iterator[None]:
    """gRPC opens a poller with the first call of a process, and keeps it:

    Nothing that a test leaves behind.
    """
    import grpc

    with grpc.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/nobody/Nothing")(b"", timeout=5.0)
        yield


MakeNode = Callable[..., Node]


@pytest.fixture
def make_node() -> Iterator[MakeNode]:
    nodes: list[Node] = []

    def make(security: Security = IN_THE_CLEAR, store_bytes: int = 64 << 20, **options: Any) -> Node:
        node = Node(len(nodes) + 1, security, store_bytes, **options)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def data() -> bytes:
    """Three MB and a bit, each byte where it belongs."""
    return os.urandom(3_000_001)

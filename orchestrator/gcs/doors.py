"""Looks whether anybody listens where nodes that have no session did.

A refusal is the one sign by which a process that has ended differs from a network that fails, and the head
does not get it by itself: a node that dies while the head is away breaks no session. Any other outcome says
nothing (the port may be somebody else's by now), and the node has its time: see `nodes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from orchestrator.gcs.nodes import NodeRecord, NodeTable
from orchestrator.rpc.join_string import JoinStringError, split_address

#: How often a node is looked after.
LOOK_S = 0.5
#: An answer that takes longer is none.
ANSWER_S = 2.0
#: Connections at the same time: all nodes of a large cluster are away when the head has been restarted.
LOOKS_MAX = 100
#: The service of nodes at whose door is knocked: it is there for as long as the node is.
SERVICE = "link"

#: Connects to (host, port) and hangs up. `ConnectionRefusedError` or another `OSError` says what was wrong.
Knock = Callable[[str, int], Awaitable[None]]


async def knock(host: str, port: int) -> None:
    """Connect, and hang up.

    Raises:
        OSError: there is no connection.
    """
    _, writer = await asyncio.open_connection(host, port)
    writer.close()


class Doors:
    """See the module's text.

    Args:
        nodes: the head's.
        refused: is told the index of a node each time that its door was found shut.
        knock: how to look.
        look_s: how often.
    """

    def __init__(
        self,
        nodes: NodeTable,
        refused: Callable[[int], None],
        knock: Knock = knock,
        look_s: float = LOOK_S,
    ) -> None:
        self._nodes = nodes
        self._refused = refused
        self._knock = knock
        self._look_s = look_s
        self._under_way: dict[int, asyncio.Task[None]] = {}
        #: Nodes that are away, the one that was looked after longest ago first.
        self._turns: dict[int, None] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                self._begin()
                await asyncio.sleep(self._look_s)
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> None:
        absent = {record.index: record for record in self._nodes.absent()}
        self._turns = {index: None for index in [*self._turns, *absent] if index in absent}
        for index in list(self._turns):
            if len(self._under_way) >= LOOKS_MAX:
                return
            if index not in self._under_way:
                del self._turns[index]
                self._turns[index] = None
                self._under_way[index] = asyncio.create_task(self._look(absent[index]))

    async def _look(self, record: NodeRecord) -> None:
        try:
            where = split_address(record.spec.services.get(SERVICE, ""), "a node's address")
            await asyncio.wait_for(self._knock(*where), ANSWER_S)
        except ConnectionRefusedError:
            self._refused(record.index)
        except (OSError, asyncio.TimeoutError, JoinStringError):
            pass  # no answer is none
        finally:
            del self._under_way[record.index]

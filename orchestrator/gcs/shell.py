"""Does what the head's state machine says: stores first, then speaks (`commit_queue`).

A head that is killed at any moment has said nothing that its successor does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from orchestrator.gcs.commit_queue import CommitQueue
from orchestrator.gcs.effects import Close, Effect, Reply, Send
from orchestrator.gcs.messages import ToNode
from orchestrator.gcs.requests import Answer
from orchestrator.gcs.storage import Storage

#: Effects that may wait for the storage: with more it is stuck, and askers are turned away until it is not.
BACKLOG_MAX = 100_000


class Shell:
    """One loop, one thread for the storage.

    Args:
        storage: where writes go.
        send: says something on a session.
        close: ends a session.
        reply: answers a request: node, number, answer.
    """

    def __init__(
        self,
        storage: Storage,
        send: Callable[[int, ToNode], None],
        close: Callable[[int], None],
        reply: Callable[[int, int, Answer], None],
    ) -> None:
        self._storage = storage
        self._send = send
        self._close = close
        self._reply = reply
        self._queue = CommitQueue()
        self._has_writes = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gcs-storage")
        #: How many commits there were, and how many writes in them.
        self.commits_count = 0
        self.writes_count = 0

    @property
    def is_stuck(self) -> bool:
        """Tell whether no more requests should be taken."""
        return len(self._queue) > BACKLOG_MAX

    def perform(self, effects: Iterable[Effect]) -> None:
        """Do these, in order, after all that came before."""
        self._show(self._queue.add(effects))
        if self._queue.has_writes:
            self._has_writes.set()

    def _show(self, visible: list[Effect]) -> None:
        for effect in visible:
            match effect:
                case Send(session, event):
                    self._send(session, event)
                case Close(session):
                    self._close(session)
                case Reply(node, number, answer):
                    self._reply(node, number, answer)

    async def run(self) -> None:
        """Store until cancelled.

        Raises:
            StorageError: it cannot be stored; nothing that depended on it was said.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._has_writes.wait()
                self._has_writes.clear()
                while writes := self._queue.take():
                    await loop.run_in_executor(self._thread, self._storage.commit, writes)
                    self.commits_count += 1
                    self.writes_count += len(writes)
                    self._show(self._queue.committed())
        finally:
            self._thread.shutdown(wait=True)

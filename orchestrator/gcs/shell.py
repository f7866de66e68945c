"""Does what the head's state machine says: stores first, then speaks.

What several requests want stored goes in one commit (*group commit*): while one is being written, the next
ones gather, and all that they would say waits with them. Answers to questions wait too, if they could tell of
something that is not stored yet. So a head that is killed at any moment has said nothing that its successor
does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from orchestrator.gcs.effects import Close, Effect, Reply, Send, Write
from orchestrator.gcs.messages import ToNode
from orchestrator.gcs.requests import Answer
from orchestrator.gcs.storage import Storage

#: Effects that may wait for the storage: more means that it is stuck, and askers are turned away until it is
#: not.
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
        self._writes: list[Write] = []
        self._visible: list[Effect] = []
        self._has_news = asyncio.Event()
        self._is_writing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gcs-storage")
        #: How many commits there were, and how many writes in them.
        self.commits_count = 0
        self.writes_count = 0

    @property
    def is_stuck(self) -> bool:
        """Tell whether no more requests should be taken."""
        return len(self._writes) + len(self._visible) > BACKLOG_MAX

    def perform(self, effects: Iterable[Effect]) -> None:
        """Do these, in order, after all that came before."""
        for effect in effects:
            if isinstance(effect, Write):
                self._writes.append(effect)
            else:
                self._visible.append(effect)
        if self._writes:
            self._has_news.set()
        elif not self._is_writing:
            self._show()

    def _show(self) -> None:
        visible, self._visible = self._visible, []
        self._show_these(visible)

    def _show_these(self, visible: list[Effect]) -> None:
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
                await self._has_news.wait()
                self._has_news.clear()
                writes, self._writes = self._writes, []
                visible, self._visible = self._visible, []
                self._is_writing = True
                await loop.run_in_executor(self._thread, self._storage.commit, writes)
                self._is_writing = False
                self.commits_count += 1
                self.writes_count += len(writes)
                self._show_these(visible)
                if not self._writes:
                    self._show()
        finally:
            self._thread.shutdown(wait=True)

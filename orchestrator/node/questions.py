"""Questions of one node process to another. Each has one answer, or None: the node is dead, or too slow."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.gateway import frames

#: A node that lives and does not answer in this time is taken for one that cannot.
TIMEOUT_S = 30.0

Fields = dict[str, Any]
Reply = Callable[[Fields], None]
#: Takes the asking node and the question's fields; calls `reply` once, now or later.
Handler = Callable[[int, Fields, Reply], None]

_encode = json.JSONEncoder(separators=(",", ":")).encode


class _Asked(NamedTuple):
    node: int
    on_answer: Callable[[Fields | None], None]
    due_s: float


class Questions:
    """See the module's text.

    Args:
        here: index of this node.
        send: sends a frame to a node; with the address of a process of this node that is not 0, behind
            what that has sent.
        now: the clock, in seconds.
    """

    def __init__(self, here: int, send: Callable[[int, int, bytes], None], now: Callable[[], float]) -> None:
        self._here = here
        self._send = send
        self._now = now
        self._next_number = itertools.count(1).__next__
        self._asked: dict[int, _Asked] = {}
        #: Who answers, by topic.
        self.handlers: dict[str, Handler] = {}

    def ask(
        self,
        node: int,
        topic: str,
        fields: Fields,
        on_answer: Callable[[Fields | None], None],
        *,
        behind: int = 0,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Ask a node, maybe this one; `on_answer` is called once."""
        if node == self._here:
            self.handlers[topic](node, fields, on_answer)
            return
        number = self._next_number()
        self._asked[number] = _Asked(node, on_answer, self._now() + timeout_s)
        message = {"op": "question", "number": number, "topic": topic, "fields": fields}
        self._send(behind, node, frames.news(_encode(message).encode()))

    def on_question(self, node: int, message: Fields) -> None:
        """A node asks.

        Raises:
            KeyError, TypeError, ValueError: it makes no sense.
        """
        number = int(message["number"])

        def reply(answer: Fields) -> None:
            out = {"op": "answer_to", "number": number, "answer": answer}
            self._send(0, node, frames.news(_encode(out).encode()))

        self.handlers[message["topic"]](node, message["fields"], reply)

    def on_answer(self, node: int, message: Fields) -> None:
        """A node answers."""
        asked = self._asked.get(message["number"])
        if asked is not None and asked.node == node:
            del self._asked[message["number"]]
            asked.on_answer(message["answer"])

    def node_died(self, node: int) -> None:
        """A node is dead: it will not answer."""
        self._give_up([number for number, asked in self._asked.items() if asked.node == node])

    def tick(self) -> float:
        """Give up what is overdue; return the seconds until the next call is due."""
        now_s = self._now()
        self._give_up([number for number, asked in self._asked.items() if asked.due_s <= now_s])
        return max(0.0, min((asked.due_s for asked in self._asked.values()), default=now_s + 60.0) - now_s)

    def _give_up(self, numbers: list[int]) -> None:
        for number in numbers:
            asked = self._asked.pop(number, None)
            if asked is not None:
                asked.on_answer(None)

"""The asker's half of "each request takes effect once": numbers. `answered` is the head's half."""

from __future__ import annotations

from orchestrator.gcs.requests import Call, Request


class CallBook:
    """The requests of one node that are not answered yet. Pure."""

    def __init__(self) -> None:
        self._numbers_used = 0
        #: In order.
        self._unanswered: dict[int, Request] = {}

    def enter(self, request: Request) -> int:
        """Give a request its number."""
        self._numbers_used += 1
        self._unanswered[self._numbers_used] = request
        return self._numbers_used

    def call(self, node: int, number: int) -> Call:
        """Return what is to be sent, now or again."""
        return Call(node, number, next(iter(self._unanswered)), self._unanswered[number])

    def settle(self, number: int) -> bool:
        """Note that a request is answered, or given up; return False if it was already."""
        return self._unanswered.pop(number, None) is not None

    def __len__(self) -> int:
        return len(self._unanswered)

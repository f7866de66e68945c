"""Each request takes effect once, however often it arrives.

An asker repeats a request until it has the answer: after a broken connection it cannot know whether the head
had it. So the head keeps the answer to each request that changed something, and stores it in the same commit
as the change. It is kept until a later request of the asker says that all below some number have arrived
(`answered_below`), or the asker's node is dead. A repetition gets the kept answer; one below the line is a
straggler of the network's, whose asker waits for nothing, and is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, get_args

from orchestrator.gcs import records
from orchestrator.gcs.effects import Write
from orchestrator.gcs.requests import Answer, Call

TABLE = "answered"
#: Answers that one node may leave unconfirmed: so many requests of one node can be under way.
ANSWERS_PER_NODE_MAX = 10_000

_CLASSES: dict[str, Any] = {cls.__name__: cls for cls in get_args(Answer)}


#: The kind of a row that says instead below which number all answers of a node were confirmed.
BELOW = "below"


class StoredAnswer(NamedTuple):
    """One row."""

    node: int
    number: int
    kind: str
    answer: str


class AnsweredTable:
    """Pure."""

    def __init__(self) -> None:
        self._answers: dict[int, dict[int, Answer]] = {}
        self._below: dict[int, int] = {}

    def restore(self, rows: Iterable[bytes]) -> None:
        """Take over what a former head has stored."""
        for row in rows:
            stored = records.load(StoredAnswer, row)
            if stored.kind == BELOW:
                self._below[stored.node] = stored.number
                continue
            answer = records.load(_CLASSES[stored.kind], stored.answer.encode())
            self._answers.setdefault(stored.node, {})[stored.number] = answer

    def confirm(self, call: Call) -> list[Write]:
        """Forget what the asker has received."""
        if call.answered_below <= self._below.get(call.node, 0):
            return []
        self._below[call.node] = call.answered_below
        kept = self._answers.get(call.node, {})
        # Numbers come in order but for what overtakes: the lowest are the first.
        gone = [number for number in kept if number < call.answered_below]
        if not gone:
            return []
        for number in gone:
            del kept[number]
        # With the answers, as a head that has neither would do again what comes late.
        below = StoredAnswer(call.node, call.answered_below, BELOW, "")
        forgotten = [Write(TABLE, f"{call.node}/{number}", None) for number in gone]
        return [*forgotten, Write(TABLE, f"{call.node}/{BELOW}", records.dump(below))]

    def is_stale(self, call: Call) -> bool:
        """Tell whether nobody waits for an answer to this any more."""
        return call.number < self._below.get(call.node, 0)

    def find(self, call: Call) -> Answer | None:
        """Return the answer that was given to this."""
        return self._answers.get(call.node, {}).get(call.number)

    def is_full(self, node: int) -> bool:
        """Tell whether a node has too many requests under way."""
        return len(self._answers.get(node, ())) >= ANSWERS_PER_NODE_MAX

    def keep(self, call: Call, answer: Answer) -> Write:
        """Remember an answer."""
        self._answers.setdefault(call.node, {})[call.number] = answer
        plain = records.dump(answer).decode()
        stored = StoredAnswer(call.node, call.number, type(answer).__name__, plain)
        return Write(TABLE, f"{call.node}/{call.number}", records.dump(stored))

    def node_died(self, index: int) -> list[Write]:
        """Nobody waits there any more."""
        self._below.pop(index, None)
        gone = [BELOW, *self._answers.pop(index, ())]
        return [Write(TABLE, f"{index}/{key}", None) for key in gone]

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for node, kept in self._answers.items():
            assert len(kept) <= ANSWERS_PER_NODE_MAX, node
            assert all(number >= self._below.get(node, 0) for number in kept), node

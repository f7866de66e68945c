"""The other side of the lease router: what nodes have asked this one for, and what they are answered.

The node's own router asks here as those of other nodes do.

Each ask is answered with what is kept of it, after the grants that it has led to; the answer is repeated
every `REPEAT_S` as long as anything is kept, so that whoever asked can tell a long wait from a node that
has gone wrong. Of an impatient ask no more is kept than there is room for; a patient one waits its turn in
the local scheduler.

Asks and grants cross on their way. An ask says how many grants have been seen, so those that were under way
are counted against what it asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling.cluster.lease_events import ClassKey

#: How often an answer is repeated. A third of what the router takes for silence.
REPEAT_S = 3.0
#: How often it is checked whether there is still room for what was kept.
CHECK_S = 0.05


class Want(NamedTuple):
    """Tell the local scheduler what a client, or another node's stand-in, wants: a `LeaseWanted`."""

    client: int
    class_key: ClassKey
    scheduling: SchedulingClass
    want: int
    job: str = ""


class Answer(NamedTuple):
    """Tell the node that asked what is kept: a `Refused` over there, behind the grants before it."""

    peer: int
    client: int
    class_key: ClassKey
    serial: int
    left: int


class _Record:
    __slots__ = (
        "answered_s",
        "granted",
        "is_over",
        "job",
        "open",
        "patient",
        "peer",
        "scheduling",
        "serial",
        "since",
    )

    def __init__(self, peer: int, scheduling: SchedulingClass, since: int, seen: int) -> None:
        self.peer = peer
        self.scheduling = scheduling
        #: Grants since the ask with this serial. What was forgotten here has been seen.
        self.granted = seen
        self.since = since
        self.open = 0
        self.serial = -1
        self.patient = False
        self.job = ""
        #: Nothing is wanted, and all grants were seen: there is nothing to remember.
        self.is_over = False
        self.answered_s = 0.0


class Lender:
    """See the module's text.

    The caller performs what a method returns, in order, and before it hands over the next event; what the
    local scheduler grants in answer to a `Want` is told by `granted` before `settle` is called.

    Args:
        room: how many leases of a class could be served with what is free on this node now.
    """

    def __init__(self, room: Callable[[SchedulingClass], int]) -> None:
        self._room = room
        self._records: dict[tuple[int, ClassKey], _Record] = {}
        #: Those of which something is open or to be answered.
        self._active: dict[tuple[int, ClassKey], None] = {}
        self._draining = False

    def asked(
        self,
        peer: int,
        client: int,
        class_key: ClassKey,
        scheduling: SchedulingClass,
        want: int,
        *,
        seen: int,
        serial: int,
        since: int,
        patient: bool,
        job: str = "",
    ) -> list[Want]:
        """Take an ask of a node, on behalf of its client, or of the client's stand-in; then call `settle`."""
        key = (client, class_key)
        record = self._records.get(key)
        if record is None or since > record.since:
            record = self._records[key] = _Record(peer, scheduling, since, seen)
        if serial <= record.serial:
            return []
        record.serial, record.patient, record.job = serial, patient, job
        record.answered_s = float("-inf")
        wanted = max(0, want - (record.granted - seen))
        if self._draining:
            wanted = 0
        record.open = wanted
        record.is_over = not want and record.granted == seen
        self._active[key] = None
        return [Want(client, class_key, scheduling, wanted, job)]

    def granted(self, client: int, class_key: ClassKey) -> int | None:
        """Note a grant of the local scheduler; return the node that has asked for it, None if none has."""
        record = self._records.get((client, class_key))
        if record is None:
            return None
        record.granted += 1
        record.open = max(0, record.open - 1)
        return record.peer

    def settle(self, now_s: float) -> list[Want | Answer]:
        """Return the answers that are due, and what they take back from the local scheduler."""
        out: list[Want | Answer] = []
        for key in list(self._active):
            record = self._records[key]
            client, class_key = key
            left = record.open
            if left and (self._draining or not record.patient):
                left = 0 if self._draining else min(left, max(0, self._room(record.scheduling)))
            if left < record.open:
                record.open = left
                record.answered_s = float("-inf")
                out.append(Want(client, class_key, record.scheduling, left, record.job))
            if record.answered_s == float("-inf") or (left and now_s - record.answered_s >= REPEAT_S):
                record.answered_s = now_s
                out.append(Answer(record.peer, client, class_key, record.serial, left))
            if not left:
                del self._active[key]
                if record.is_over:
                    del self._records[key]
        return out

    def failed(self, client: int, class_key: ClassKey) -> int | None:
        """Note that the local scheduler has dropped a demand; return the node that has asked for it."""
        record = self._records.get((client, class_key))
        if record is None:
            return None
        record.open = 0
        return record.peer

    def drain(self) -> None:
        """Keep nothing any more: this node is about to leave."""
        self._draining = True

    def client_gone(self, client: int) -> None:
        """Forget a client that is dead, or whose node is."""
        for key in [key for key in self._records if key[0] == client]:
            del self._records[key]
            self._active.pop(key, None)

    def deadline_s(self, now_s: float) -> float | None:
        """Return when `settle` is to be called at the latest; None if only events matter."""
        if not self._active:
            return None
        patient = all(self._records[key].patient for key in self._active)
        return now_s + (REPEAT_S if patient else CHECK_S)

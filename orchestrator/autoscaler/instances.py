"""The instances that the autoscaler has asked for, and what has become of them.

=============  =====================  =============  =================================================
state          event                  next           meaning of the state; what else may happen
=============  =====================  =============  =================================================
(none)         plan                   REQUESTED      written down, and the provider is asked; nobody knows
                                                     yet whether it has heard
REQUESTED      a new autoscaler       REQUESTED      the provider is asked once more
REQUESTED      seen at the provider   ALLOCATED      a machine is reserved, or boots
REQUESTED      failed, too long       FAILED         given up: the plan asks for another one
ALLOCATED      runs                   JOINING        it runs, and is not in the cluster yet
JOINING        seen in the cluster    RUNNING        it serves
ALLOCATED      too long               TERMINATING    a machine that never came up
JOINING        too long               TERMINATING    a node that never joined
RUNNING        idle, or not wanted    DRAINING       takes nothing new, finishes, moves its objects away; as
                                                     long as that takes, which the operator is told
DRAINING       drained, or gone       TERMINATING    the provider is to take the machine back
RUNNING        gone from the cluster  TERMINATING    the node died; its machine is of no use
TERMINATING    gone at the provider   TERMINATED     nothing is left of it
TERMINATING    too long               TERMINATING    the provider is asked once more
(any)          gone at the provider   TERMINATED     somebody else took it
FAILED         seen at the provider   TERMINATING    it came after all: nobody waits for it any more
TERMINATED     seen at the provider   TERMINATED     the provider is asked once more
=============  =====================  =============  =================================================

An instance is named by its *request*: a name that is written down before the provider is asked, and that
the provider gives back with what it has made. So an autoscaler that starts anew knows its own, also those
it never heard of again.

Records of the dead are kept for a while, so that a machine that turns up late is recognized and taken back.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any


class State(enum.Enum):
    """Where an instance is in its life."""

    REQUESTED = "requested"
    ALLOCATED = "allocated"
    JOINING = "joining"
    RUNNING = "running"
    DRAINING = "draining"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FAILED = "failed"


class Change(enum.Enum):
    """What can happen to an instance."""

    SEEN = "seen at the provider"
    RUNS = "runs"
    JOINED = "joined the cluster"
    DRAIN = "is drained"
    END = "is to go"
    GONE = "gone at the provider"
    GIVE_UP = "given up"


_S, _C = State, Change

TRANSITIONS: dict[tuple[State, Change], State] = {
    (_S.REQUESTED, _C.SEEN): _S.ALLOCATED,
    (_S.REQUESTED, _C.GIVE_UP): _S.FAILED,
    (_S.ALLOCATED, _C.RUNS): _S.JOINING,
    (_S.JOINING, _C.JOINED): _S.RUNNING,
    (_S.RUNNING, _C.DRAIN): _S.DRAINING,
    **{(s, _C.END): _S.TERMINATING for s in (_S.ALLOCATED, _S.JOINING, _S.RUNNING, _S.DRAINING, _S.FAILED)},
    **{
        (s, _C.GONE): _S.TERMINATED
        for s in (_S.ALLOCATED, _S.JOINING, _S.RUNNING, _S.DRAINING, _S.TERMINATING)
    },
}

#: There may be a machine. `FAILED` counts with the dead until one is seen.
LIVING = (_S.REQUESTED, _S.ALLOCATED, _S.JOINING, _S.RUNNING, _S.DRAINING, _S.TERMINATING)
#: It does not serve yet.
COMING = (_S.REQUESTED, _S.ALLOCATED, _S.JOINING)
#: It serves nothing new.
LEAVING = (_S.DRAINING, _S.TERMINATING)
DEAD = (_S.TERMINATED, _S.FAILED)

#: Records of the dead that are kept.
DEAD_MAX = 200


class InvalidTransition(Exception):
    """An instance was to do what its state does not allow: our bug."""


class Instance:
    """One instance. Changed only through `Instances.change`."""

    __slots__ = ("asked_s", "cause", "node", "node_type", "provider_id", "request", "since_s", "state")

    def __init__(self, request: str, node_type: str, now_s: float) -> None:
        self.request = request
        self.node_type = node_type
        self.state = State.REQUESTED
        #: When it came into its state.
        self.since_s = now_s
        #: The provider's name of it; "" until it is seen there.
        self.provider_id = ""
        #: The node's id in the cluster; "" until it has joined.
        self.node = ""
        #: Why it is where it is, for people.
        self.cause = ""
        #: When the provider, or the cluster, was last asked to do something about it.
        self.asked_s = now_s

    def __repr__(self) -> str:
        return (
            f"<instance {self.request} {self.node_type} {self.state.value} {self.provider_id} {self.cause}>"
        )


class Instances:
    """All instances, by request."""

    def __init__(self) -> None:
        self._all: dict[str, Instance] = {}
        #: Something has changed that is to be written down.
        self.is_changed = False

    def __iter__(self) -> Iterator[Instance]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def get(self, request: str) -> Instance | None:
        """Return the instance of this request, dead ones included as long as they are known."""
        return self._all.get(request)

    def in_state(self, *states: State) -> list[Instance]:
        """Return the instances in one of these states, the oldest first."""
        return [one for one in self._all.values() if one.state in states]

    def add(self, request: str, node_type: str, now_s: float) -> Instance:
        """Enter an instance that is about to be asked for."""
        assert request not in self._all, request
        one = self._all[request] = Instance(request, node_type, now_s)
        self.is_changed = True
        return one

    def change(self, one: Instance, change: Change, now_s: float, cause: str = "") -> None:
        """Take an instance to its next state.

        Raises:
            InvalidTransition: there is none.
        """
        after = TRANSITIONS.get((one.state, change))
        if after is None:
            raise InvalidTransition(f"{one} {change.value}")
        one.state, one.since_s, one.asked_s, one.cause = after, now_s, now_s, cause
        self.is_changed = True
        if after in DEAD:
            dead = self.in_state(*DEAD)
            for old in dead[: max(0, len(dead) - DEAD_MAX)]:
                del self._all[old.request]

    # ------------------------------------------------------------ to be written down

    def to_records(self) -> list[dict[str, Any]]:
        """Return the instances as JSON can carry them. Times are left out: the next clock is another."""
        self.is_changed = False
        return [
            {
                "request": one.request,
                "type": one.node_type,
                "state": one.state.value,
                "provider_id": one.provider_id,
                "node": one.node,
                "cause": one.cause,
            }
            for one in self._all.values()
        ]

    @classmethod
    def from_records(cls, records: list[Mapping[str, Any]], now_s: float) -> Instances:
        """Return what `to_records` has made records of; each is in its state since now.

        Raises:
            ValueError: these are no such records.
        """
        made = cls()
        for record in records:
            try:
                one = made.add(record["request"], record["type"], now_s)
                one.state = State(record["state"])
                one.provider_id, one.node, one.cause = record["provider_id"], record["node"], record["cause"]
            except (KeyError, TypeError) as exc:
                raise ValueError(f"{record!r:.200} is no record of an instance: {exc!r}") from None
        made.is_changed = False
        return made

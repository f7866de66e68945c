"""The workers of a node and what each of them is doing.

A worker is one process. Its life, as a table: `TRANSITIONS` is the whole truth, and whatever is not in it
raises `InvalidTransition`.

*Resources.* A leased worker, or an actor, **holds** a vector of resources. A worker whose task waits in `get`
**lends** its CPU (only its CPU: what sits on a GPU stays there while its owner waits) and takes it back when
it goes on, even when that oversubscribes the node for a moment: the alternative is that a parent with its
result in hand waits for a stranger to finish. `held - lent` of all workers together is what the node has
given away.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from orchestrator.common.resources import CPU, ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling.accounts import Account, Devices

NOTHING = ResourceSet()
NO_ACCOUNT = Account(NOTHING)
NO_CLASS = SchedulingClass(NOTHING)


class WorkerState(enum.Enum):
    """What a worker is doing."""

    #: Asked for; the process may not exist yet. Holds nothing.
    STARTING = "starting"
    #: Attached to the store, and free. Holds nothing.
    IDLE = "idle"
    #: Lent to one submitter for one scheduling class.
    LEASED = "leased"
    #: Leased, and its task waits in `get` or `wait`: its CPU is lent out.
    BLOCKED = "blocked"
    #: Hosts an actor, for the rest of its life.
    ACTOR = "actor"
    #: Hosts an actor whose method waits in `get` or `wait`: its CPU is lent out.
    ACTOR_BLOCKED = "actor_blocked"
    #: Told to end. Gets no more work; holds what it held until it is really gone.
    ENDING = "ending"
    #: Gone. No slot is kept in this state; it is what callers see in a slot that was taken out.
    DEAD = "dead"


class WorkerChange(enum.Enum):
    """What can happen to a worker."""

    READY = "ready"
    LEASE = "lease"
    RETURN = "return"
    BLOCK = "block"
    UNBLOCK = "unblock"
    RETIRE = "retire"
    BECOME_ACTOR = "become_actor"
    END = "end"
    DIE = "die"


_S, _C = WorkerState, WorkerChange

TRANSITIONS: dict[tuple[WorkerState, WorkerChange], WorkerState] = {
    (_S.STARTING, _C.READY): _S.IDLE,
    (_S.IDLE, _C.LEASE): _S.LEASED,
    (_S.IDLE, _C.BECOME_ACTOR): _S.ACTOR,
    (_S.LEASED, _C.RETURN): _S.IDLE,
    (_S.LEASED, _C.BLOCK): _S.BLOCKED,
    (_S.BLOCKED, _C.UNBLOCK): _S.LEASED,
    # Its last task is over, and it waits for what that has submitted: nothing is lent, all is given back.
    (_S.LEASED, _C.RETIRE): _S.BLOCKED,
    (_S.BLOCKED, _C.RETIRE): _S.BLOCKED,
    # A task may end while another thread of its worker is still waiting.
    (_S.BLOCKED, _C.RETURN): _S.IDLE,
    (_S.ACTOR, _C.BLOCK): _S.ACTOR_BLOCKED,
    (_S.ACTOR_BLOCKED, _C.UNBLOCK): _S.ACTOR,
    # Everybody can be told to end, once; and everybody dies.
    **{(state, _C.END): _S.ENDING for state in _S if state not in (_S.ENDING, _S.DEAD)},
    **{(state, _C.DIE): _S.DEAD for state in _S if state is not _S.DEAD},
}

#: States in which a worker counts as one of the pool that serves tasks at this moment. Blocked workers
#: don't: another one runs in their place.
POOL_STATES = (_S.STARTING, _S.IDLE, _S.LEASED)


class InvalidTransition(Exception):
    """A worker was asked to do what its state does not allow: our bug, or a client that sends nonsense."""


class WorkerSlot:
    """One worker. Changed only through `WorkerSlots.change`."""

    __slots__ = (
        "account",
        "actor",
        "address",
        "asked_s",
        "class_key",
        "devices",
        "env",
        "held",
        "holder",
        "job",
        "lent",
        "scheduling",
        "since_s",
        "state",
        "token",
    )

    def __init__(self, token: int, env: str, now_s: float) -> None:
        #: Number given by the node when it asks for the process; never reused.
        self.token = token
        #: Key of the runtime environment that it was made for. It serves no other.
        self.env = env
        self.state = WorkerState.STARTING
        #: When it came into this state, on the clock that is passed in.
        self.since_s = now_s
        #: Its address in the store; 0 until it is ready.
        self.address = 0
        #: Address of the client that has it on lease; 0 if nobody.
        self.holder = 0
        #: The job that the lease, or the actor, is for.
        self.job = ""
        #: The holder's scheduling class of the lease.
        self.class_key: int | str = ""
        #: Id of the actor it hosts.
        self.actor: str | None = None
        #: Whom it serves, as the demand said.
        self.scheduling = NO_CLASS
        #: What it takes from the node's resources, before lending, which devices, and from which account.
        self.held = NOTHING
        self.devices: Devices = {}
        self.account = NO_ACCOUNT
        #: When its holder was asked to give it back though there is work for it; None if not.
        self.asked_s: float | None = None
        #: Part of `held` that is given back while it waits. Empty unless blocked (or ended while blocked).
        self.lent = NOTHING

    @property
    def occupied(self) -> ResourceSet:
        """What the node has less because of this worker."""
        return self.held.subtract(self.lent) if self.lent else self.held

    def __repr__(self) -> str:
        whom = f" actor={self.actor}" if self.actor else f" holder={self.holder}" if self.holder else ""
        return f"<worker {self.token} {self.state.value}{whom} holds {self.held} lends {self.lent}>"


class WorkerSlots:
    """All workers of the node, by token, by address and by state."""

    def __init__(self) -> None:
        self._by_token: dict[int, WorkerSlot] = {}
        #: Only workers that have become ready.
        self._by_address: dict[int, WorkerSlot] = {}
        #: By state and token, who came into the state first at the front. The dead are in none. Work goes to
        #: the last of the idle: its caches are warm, and the others can age.
        self._in_state: dict[WorkerState, dict[int, WorkerSlot]] = {state: {} for state in WorkerState}
        #: The idle ones by environment, in the same order. No environment is without an idle worker.
        self._idle: dict[str, dict[int, WorkerSlot]] = {}

    def __len__(self) -> int:
        return len(self._by_token)

    def __iter__(self) -> Iterator[WorkerSlot]:
        return iter(list(self._by_token.values()))

    def count(self, *states: WorkerState) -> int:
        """Return how many workers are in one of `states`."""
        return sum(len(self._in_state[state]) for state in states)

    def in_state(self, state: WorkerState) -> list[WorkerSlot]:
        """Return the workers in `state`, the longest in it first."""
        return list(self._in_state[state].values())

    def get(self, token: int) -> WorkerSlot | None:
        """Return the worker with this token, unless it is dead or was never asked for."""
        return self._by_token.get(token)

    def at(self, address: int) -> WorkerSlot | None:
        """Return the worker with this address in the store."""
        return self._by_address.get(address)

    def newest_idle(self, env: str) -> WorkerSlot | None:
        """Return the worker of this environment that has been idle for the shortest time."""
        idle = self._idle.get(env)
        return idle[next(reversed(idle))] if idle else None

    def count_of(self, env: str, *states: WorkerState) -> int:
        """Return how many workers of this environment are in one of `states`."""
        return sum(slot.env == env for state in states for slot in self._in_state[state].values())

    def add(self, token: int, env: str, now_s: float) -> WorkerSlot:
        """Enter a worker that has been asked for."""
        if token in self._by_token:
            raise InvalidTransition(f"worker {token} exists: {self._by_token[token]}")
        slot = self._by_token[token] = WorkerSlot(token, env, now_s)
        self._in_state[WorkerState.STARTING][token] = slot
        return slot

    def change(self, slot: WorkerSlot, change: WorkerChange, now_s: float) -> None:
        """Take a worker to its next state, and clear what the new state does not have.

        Raises:
            InvalidTransition: the table has no such transition; nothing is changed.
        """
        state = TRANSITIONS.get((slot.state, change))
        if state is None:
            raise InvalidTransition(f"{change.value} is not possible for {slot}")
        del self._in_state[slot.state][slot.token]
        if slot.state is WorkerState.IDLE:
            del self._idle[slot.env][slot.token]
            if not self._idle[slot.env]:
                del self._idle[slot.env]
        slot.state, slot.since_s = state, now_s
        if state is WorkerState.DEAD:
            del self._by_token[slot.token]
            if slot.address:
                del self._by_address[slot.address]
            return
        self._in_state[state][slot.token] = slot
        if state is WorkerState.IDLE:
            self._idle.setdefault(slot.env, {})[slot.token] = slot
            slot.holder, slot.class_key, slot.held, slot.lent = 0, "", NOTHING, NOTHING
            slot.scheduling, slot.devices, slot.account, slot.asked_s = NO_CLASS, {}, NO_ACCOUNT, None
        elif change is WorkerChange.BLOCK:
            slot.lent = slot.held.only(CPU)
        elif change is WorkerChange.UNBLOCK:
            slot.lent = NOTHING
        elif change is WorkerChange.RETIRE:
            slot.held, slot.lent, slot.devices = NOTHING, NOTHING, {}

    def set_address(self, slot: WorkerSlot, address: int) -> None:
        """Enter the address under which a worker that has just become ready is reached."""
        if address in self._by_address:
            raise InvalidTransition(f"address {address} belongs to {self._by_address[address]}")
        slot.address = address
        self._by_address[address] = slot

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for token, slot in self._by_token.items():
            state = slot.state
            assert slot.token == token and state is not WorkerState.DEAD, slot
            assert self._in_state[state][token] is slot, slot
            assert (slot.address == 0) <= (state in (WorkerState.STARTING, WorkerState.ENDING)), slot
            assert slot.address == 0 or self._by_address[slot.address] is slot, slot
            assert slot.lent == NOTHING or slot.lent == slot.held.only(CPU), slot
            if state in (WorkerState.STARTING, WorkerState.IDLE):
                assert not slot.held and not slot.holder and slot.actor is None, slot
            if state in (WorkerState.LEASED, WorkerState.BLOCKED):
                assert slot.holder and slot.actor is None, slot
            if state in (WorkerState.ACTOR, WorkerState.ACTOR_BLOCKED):
                assert slot.actor is not None and not slot.holder, slot
            if state in (WorkerState.LEASED, WorkerState.ACTOR):
                assert not slot.lent, slot
        assert sum(map(len, self._in_state.values())) == len(self._by_token)
        assert {token for idle in self._idle.values() for token in idle} == set(
            self._in_state[WorkerState.IDLE]
        )
        for env, idle in self._idle.items():
            assert idle and all(slot.env == env for slot in idle.values()), env
        for address, slot in self._by_address.items():
            assert slot.address == address and self._by_token[slot.token] is slot, slot

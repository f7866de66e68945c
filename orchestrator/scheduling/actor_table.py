"""The actors of the session: their names, where they are, and who waits to hear it.

========== ====================== ========== =============================================================
state      event                  next       what happens
========== ====================== ========== =============================================================
(none)     create                 PENDING    a process is asked for
PENDING    placed                 STARTING   the creator learns the worker, and sends the constructor there
PENDING    infeasible             DEAD       the creator learns why
PENDING    kill, owner died       DEAD       the request for a process is withdrawn
STARTING   alive                  ALIVE      everybody who asked is told the address
STARTING   dead, kill, owner died DEAD       the worker is ended
ALIVE      dead, kill, owner died DEAD       the worker is ended
STARTING   worker died            RESTARTING if restarts are left, and after a pause; else DEAD
ALIVE      worker died            RESTARTING the same, at once
ALIVE      its node leaves        ALIVE      its worker is to end; that counts as no restart
RESTARTING placed                 STARTING   the new worker is told where the constructor is kept
RESTARTING infeasible             DEAD
RESTARTING kill, owner died       DEAD       the request for a process is withdrawn
========== ====================== ========== =============================================================

`kill` is the one with `no_restart`; without, it only ends the worker, whose death then is one like any other.
*dead* is what an actor says of itself: it was asked to end, its handles are gone, its constructor raised.

**Restarts.** The first constructor comes from the creator. For an actor that may be restarted the creator
also keeps it in the store, inside the actor's own object, where it lives as long as there are handles (of a
detached actor the node has one); so a restart needs nobody but the node. The name stays taken. Whoever has
calls for the actor asks for its address again, and hears it when the constructor has returned.

**Detached actors** are made in the same way the first time, from the store, as their creator may be gone
before they have a process. What one that is not restarted needs once only, the node holds until it is alive.

A dead actor's name is free at once. The dead are remembered, the last `DEAD_MAX` of them, so that whoever
comes late with a handle hears the cause. An actor whose owner dies goes with it, unless it is detached.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling.jobs import job_of

#: Pause before a constructor is run again in which the process had died, doubled each time up to the second.
RESTART_PAUSE_S = (0.05, 5.0)
#: Dead actors of which the cause of death is still known. One costs about 1 KiB.
DEAD_MAX = 10_000


class ActorState(enum.Enum):
    """Where an actor is in its life."""

    #: Waits for resources and a process.
    PENDING = "pending"
    #: Has a process; the constructor has not returned yet.
    STARTING = "starting"
    #: Takes calls.
    ALIVE = "alive"
    #: Its process died; waits for another one.
    RESTARTING = "restarting"
    #: Gone for good.
    DEAD = "dead"


class ActorSpec(NamedTuple):
    """What the creator asks for."""

    actor: str
    name: str | None
    namespace: str
    class_name: str
    #: What it takes to be placed.
    scheduling: SchedulingClass
    #: What it then holds for life.
    hold: ResourceSet
    #: Opaque to the node: never decoded here, only handed to whoever asks by name.
    handle: str
    detached: bool
    #: How often it may be restarted; -1 for ever again.
    max_restarts: int = 0
    #: Id of the object that keeps the constructor's call for restarts.
    constructor: str = ""
    #: Whether it wants to know of its end.
    has_hook: bool = False


# ---------------------------------------------------------------- instructions


class RequestPlacement(NamedTuple):
    """Ask the scheduler for a process, after a pause. `client` is 0 for a detached actor."""

    client: int
    spec: ActorSpec
    pause_s: float = 0.0


class WithdrawPlacement(NamedTuple):
    """The process is no longer wanted."""

    actor: str


class KillActorWorker(NamedTuple):
    """End the worker of an actor that is dead by decision."""

    worker: int
    reason: str


class Tell(NamedTuple):
    """Send a message to a client."""

    client: int
    message: dict[str, Any]


class MoveActorWorker(NamedTuple):
    """End a worker of a node that leaves, when it has done what it was sent: its actor restarts elsewhere."""

    worker: int
    reason: str


class HoldActor(NamedTuple):
    """Keep a reference to a detached actor's object: it needs no handles to live; or to its constructor's."""

    actor: str


class DropActor(NamedTuple):
    """Give that reference back."""

    actor: str


class Buried(NamedTuple):
    """An actor is dead for good: its name is free."""

    actor: str


Instruction = (
    RequestPlacement
    | WithdrawPlacement
    | KillActorWorker
    | MoveActorWorker
    | Tell
    | HoldActor
    | DropActor
    | Buried
)

#: States in which an actor has a worker, and those in which whoever asks for the address has to wait.
HAS_WORKER = (ActorState.STARTING, ActorState.ALIVE)
UNSETTLED = (ActorState.PENDING, ActorState.STARTING, ActorState.RESTARTING)


class ActorRecord:
    """What is known of one actor."""

    __slots__ = (
        "cause",
        "creator",
        "failed_starts",
        "has_moved",
        "init_failed",
        "is_moving",
        "owner",
        "report",
        "request",
        "restarts",
        "spec",
        "state",
        "waiters",
        "worker",
    )

    def __init__(self, spec: ActorSpec, creator: int, request: int) -> None:
        self.spec = spec
        self.state = ActorState.PENDING
        #: Who hears where it is placed, and the number of his request.
        self.creator = creator
        self.request = request
        #: With whom it dies; 0 for nobody.
        self.owner = 0 if spec.detached else creator
        #: Address of its worker; 0 while pending, restarting and when dead.
        self.worker = 0
        #: How often it has been restarted.
        self.restarts = 0
        #: Processes in a row that died before the constructor had returned.
        self.failed_starts = 0
        #: Clients that want to hear when it is alive or dead. Empty in those states.
        self.waiters: dict[int, None] = {}
        #: Why it is dead, and how its process ended if that was the reason.
        self.cause = ""
        self.report: dict[str, Any] | None = None
        self.init_failed = False
        #: Its process ends because its node leaves; it restarts elsewhere.
        self.is_moving = False
        #: It did that once, and its creator has nothing to do with where it is any more.
        self.has_moved = False

    @property
    def may_restart(self) -> bool:
        """Whether a restart is left, and a constructor to do it with."""
        if not self.spec.constructor:
            return False
        return self.spec.max_restarts < 0 or self.restarts < self.spec.max_restarts

    @property
    def is_made_from_store(self) -> bool:
        """Whether its constructor is not sent by its creator: it is detached, and that may be gone."""
        return self.spec.detached and bool(self.spec.constructor)

    @property
    def pause_s(self) -> float:
        """How long to wait before the next process is asked for.

        Nobody waits in a process of its own: that would hold resources, and its death count as a failure.
        """
        first_s, last_s = RESTART_PAUSE_S
        # Past 2**16 the second number is reached, and an exponent without bound is an OverflowError.
        return min(first_s * 2 ** min(self.failed_starts - 1, 16), last_s) if self.failed_starts else 0.0


class ActorTable:
    """Pure: every method returns what to do."""

    def __init__(self) -> None:
        self._records: dict[str, ActorRecord] = {}
        #: Names of actors that are not dead.
        self._names: dict[tuple[str, str], str] = {}
        #: Actors that have a worker, by its address.
        self._workers: dict[int, str] = {}
        #: Dead ones, the first to be forgotten first.
        self._dead: dict[str, None] = {}

    # ------------------------------------------------------------ creation

    def create(self, client: int, spec: ActorSpec, request: int, *, get_if_exists: bool) -> list[Instruction]:
        """Enter a new actor, or answer with the one that has its name."""
        taken = self._records.get(spec.actor)
        if spec.name is not None and (holder := self._names.get((spec.namespace, spec.name))) is not None:
            taken = self._records[holder]
        if taken is not None:
            answer = {"op": "reply", "req": request, "found": True, "actor": taken.spec.actor}
            answer |= {"handle": taken.spec.handle}
            if not get_if_exists:
                answer["error"] = "exists"
            return [Tell(client, answer)]
        self._records[spec.actor] = ActorRecord(spec, client, request)
        if spec.name is not None:
            self._names[spec.namespace, spec.name] = spec.actor
        hold: list[Instruction] = [HoldActor(spec.actor)] if spec.detached else []
        if self._records[spec.actor].is_made_from_store and not spec.max_restarts:
            hold.append(HoldActor(spec.constructor))
        # Whoever gives a name waits to hear that it is free. A refusal or a worker at once comes before this.
        news: list[Instruction] = []
        if spec.name is not None or spec.detached:
            news.append(Tell(client, {"op": "reply", "req": request, "actor": spec.actor, "created": True}))
        return [*hold, RequestPlacement(0 if spec.detached else client, spec), *news]

    def placed(self, actor: str, worker: int) -> list[Instruction]:
        """An actor has got a worker."""
        record = self._records.get(actor)
        if record is None or not self.wants_process(actor):
            return [KillActorWorker(worker, "its actor is no longer wanted")]
        record.state, record.worker = ActorState.STARTING, worker
        self._workers[worker] = actor
        if record.restarts or record.has_moved or record.is_made_from_store:
            order: dict[str, Any] = {"op": "restart_actor", "actor": actor}
            order |= {"constructor": record.spec.constructor, "restarts": record.restarts}
            return [Tell(worker, order)]
        message = {"op": "actor_worker", "actor": actor, "worker": worker, "req": record.request}
        return [Tell(record.creator, message)]

    def infeasible(self, actor: str, verdict: str, cause: str) -> list[Instruction]:
        """No process will ever be found for an actor."""
        record = self._records.get(actor)
        if record is None or not self.wants_process(actor):
            return []
        if record.restarts:
            return self._die(record, cause, None)
        answer = {"op": "reply", "req": record.request, "error": verdict, "actor": actor, "cause": cause}
        return [Tell(record.creator, answer), *self._die(record, cause, None)]

    # ------------------------------------------------------------ life and death

    def alive(self, actor: str, client: int) -> list[Instruction]:
        """The constructor has returned; only its own worker may say so."""
        record = self._records.get(actor)
        if record is None or record.state is not ActorState.STARTING or record.worker != client:
            return []
        record.state = ActorState.ALIVE
        record.failed_starts = 0
        return [*self._answer_waiters(record), *_drop_constructor(record)]

    def end(
        self, actor: str, cause: str, *, no_restart: bool = True, init_failed: bool = False
    ) -> list[Instruction]:
        """An actor is to be dead: killed, out of scope, or its constructor failed.

        With `no_restart=False` only its worker is ended.
        """
        record = self._records.get(actor)
        if record is None or record.state is ActorState.DEAD:
            return []
        if not no_restart:
            return [KillActorWorker(record.worker, cause)] if record.worker else []
        record.init_failed = init_failed
        out: list[Instruction] = []
        if record.state in HAS_WORKER:
            out.append(KillActorWorker(record.worker, cause))
        else:
            out.append(WithdrawPlacement(actor))
        return out + self._die(record, cause, None)

    def client_died(self, client: int, report: dict[str, Any] | None) -> list[Instruction]:
        """A process is gone: the actor it hosted, and the actors it owned."""
        out: list[Instruction] = []
        hosted = self._workers.get(client)
        if hosted is not None:
            record = self._records[hosted]
            if record.may_restart:
                out += self._restart(record)
            else:
                out += self._die(record, (report or {}).get("reason", "its process ended"), report)
        for actor, record in list(self._records.items()):
            record.waiters.pop(client, None)
            if record.owner == client and record.state is not ActorState.DEAD:
                out += self.end(actor, "the process that created it is gone")
        return out

    def move_away(self, is_there: Callable[[int], bool], cause: str) -> list[Instruction]:
        """Have actors restarted that may be and whose workers are there; it counts as no restart."""
        out: list[Instruction] = []
        for record in self._records.values():
            if not record.is_moving and record.worker and is_there(record.worker) and record.may_restart:
                record.is_moving = True
                out.append(MoveActorWorker(record.worker, cause))
        return out

    def said_dead(self, actor: str, cause: str, *, init_failed: bool) -> list[Instruction]:
        """An actor says that it ends: for good, unless that is because it moves."""
        record = self._records.get(actor)
        if record is not None and record.is_moving and not init_failed:
            return []
        return self.end(actor, cause, init_failed=init_failed)

    def is_not_needed(self, actor: str) -> None:
        """Nobody has a handle of an actor any more: if it moves, it ends instead."""
        record = self._records.get(actor)
        if record is not None:
            record.is_moving = False

    # ------------------------------------------------------------ questions

    @property
    def has_living(self) -> bool:
        """Whether some actor lives, or is about to."""
        return len(self._records) > len(self._dead)

    def knows(self, actor: str) -> bool:
        """Tell whether this actor was ever created, and is not forgotten."""
        return actor in self._records

    def lives(self, actor: str) -> bool:
        """Tell whether an actor is known and not dead."""
        record = self._records.get(actor)
        return record is not None and record.state is not ActorState.DEAD

    def detached_jobs(self) -> set[str]:
        """Return the jobs that have made detached actors which live."""
        living = (one for one in self._records.values() if one.state is not ActorState.DEAD)
        return {job_of(one.spec.scheduling.env) for one in living if one.spec.detached}

    def wants_process(self, actor: str) -> bool:
        """Tell whether an actor waits for a process."""
        record = self._records.get(actor)
        return record is not None and record.state in (ActorState.PENDING, ActorState.RESTARTING)

    def resolve(self, client: int, actor: str) -> list[Instruction]:
        """A client wants to know where an actor is: now if it is settled, else as soon as it is."""
        record = self._records.get(actor)
        if record is None:
            cause = "this session does not know it"
            return [Tell(client, _address(actor, "dead", None, None, cause, False))]
        if record.state in UNSETTLED:
            record.waiters[client] = None
            return []
        return [Tell(client, _describe(record))]

    def find(self, client: int, name: str, namespace: str, request: int) -> list[Instruction]:
        """A client asks for an actor by name."""
        answer: dict[str, Any] = {"op": "reply", "req": request, "found": False}
        actor = self._names.get((namespace, name))
        if actor is not None:
            answer |= {"found": True, "actor": actor, "handle": self._records[actor].spec.handle}
        return [Tell(client, answer)]

    def listing(self) -> list[dict[str, Any]]:
        """Return a description of every actor that is known, the living first."""
        records = sorted(self._records.values(), key=lambda record: record.state is ActorState.DEAD)
        return [
            {
                "actor": record.spec.actor,
                "name": record.spec.name,
                "namespace": record.spec.namespace,
                "class_name": record.spec.class_name,
                "state": record.state.value,
                "worker": record.worker or None,
                "detached": record.spec.detached,
                "restarts": record.restarts,
                "cause": record.cause,
                **record.spec.scheduling.described(),
                "job": job_of(record.spec.scheduling.env),
            }
            for record in records
        ]

    def names(self, namespace: str | None) -> list[dict[str, str]]:
        """Return the names of the living actors, of one namespace or of all, in order."""
        found = sorted(pair for pair in self._names if namespace is None or pair[0] == namespace)
        return [{"namespace": space, "name": name} for space, name in found]

    def with_hooks(self, *, detached: bool) -> list[int]:
        """Return the workers of living actors that want to know of their end, maybe of detached ones."""
        return [
            worker
            for worker, actor in self._workers.items()
            if (record := self._records[actor]).spec.has_hook
            and record.state is ActorState.ALIVE
            and (detached or not record.spec.detached)
        ]

    def fate(self, actor: str) -> dict[str, Any]:
        """Return what becomes of an actor whose process has died, for the news of it."""
        record = self._records.get(actor)
        if record is None:
            return {}
        told: dict[str, Any] = {
            "restarting": record.state is ActorState.RESTARTING,
            "restarts": record.restarts,
        }
        if record.state is ActorState.DEAD and record.report is None:
            # Somebody's decision: how its process was ended does not matter.
            told |= {"cause": record.cause, "init_failed": record.init_failed}
        return told

    def owner_of(self, actor: str) -> int:
        """Return with whom an actor dies; 0 for nobody, or if it is not known."""
        record = self._records.get(actor)
        return record.owner if record is not None else 0

    def of_worker(self, worker: int, said: str | None = None) -> str | None:
        """Return the actor that this worker hosts; or a dead one that it is `said` to have been for.

        One that lives has, or waits for, another process: a late word about this one must not end it.
        """
        return self._workers.get(worker, said if said in self._dead else None)

    def job_of(self, actor: str) -> str:
        """Return the job that an actor works for."""
        record = self._records.get(actor)
        return job_of(record.spec.scheduling.env) if record else ""

    def class_name(self, actor: str) -> str:
        """Return the name of an actor's class, for log prefixes."""
        record = self._records.get(actor)
        return record.spec.class_name if record else ""

    def worker_of(self, actor: str) -> int:
        """Return the address of an actor's worker; 0 if it has none."""
        record = self._records.get(actor)
        return record.worker if record else 0

    # ------------------------------------------------------------ inside

    def _restart(self, record: ActorRecord) -> list[Instruction]:
        if record.state is ActorState.STARTING:
            record.failed_starts += 1
        record.state = ActorState.RESTARTING
        if record.is_moving:
            record.is_moving, record.has_moved = False, True
        else:
            record.restarts += 1
        del self._workers[record.worker]
        record.worker = 0
        return [RequestPlacement(record.owner, record.spec, record.pause_s)]

    def _die(self, record: ActorRecord, cause: str, report: dict[str, Any] | None) -> list[Instruction]:
        spec = record.spec
        record.state, record.cause, record.report = ActorState.DEAD, cause, report
        if record.worker:
            del self._workers[record.worker]
            record.worker = 0
        if spec.name is not None:
            del self._names[spec.namespace, spec.name]
        self._dead[spec.actor] = None
        out = [
            *self._answer_waiters(record),
            *([Buried(spec.actor)] if spec.name is not None or spec.detached else []),
        ]
        if spec.detached:
            out += [DropActor(spec.actor), *_drop_constructor(record)]
        if len(self._dead) > DEAD_MAX:
            oldest = next(iter(self._dead))
            del self._dead[oldest], self._records[oldest]
        return out

    def _answer_waiters(self, record: ActorRecord) -> list[Instruction]:
        waiters, record.waiters = record.waiters, {}
        return [Tell(client, _describe(record)) for client in waiters]

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for actor, record in self._records.items():
            spec, state = record.spec, record.state
            assert spec.actor == actor
            assert (state is ActorState.DEAD) == (actor in self._dead), actor
            has_worker = state in HAS_WORKER
            assert has_worker == (record.worker != 0), actor
            assert not has_worker or self._workers[record.worker] == actor, actor
            assert not record.waiters or state in UNSETTLED, actor
            assert spec.max_restarts < 0 or record.restarts <= spec.max_restarts, actor
            if spec.name is not None and state is not ActorState.DEAD:
                assert self._names[spec.namespace, spec.name] == actor, actor
        assert len(self._workers) == sum(record.worker != 0 for record in self._records.values())
        for actor in self._names.values():
            assert self._records[actor].state is not ActorState.DEAD, actor
        assert len(self._dead) <= DEAD_MAX


def _drop_constructor(record: ActorRecord) -> list[Instruction]:
    """Return what lets a constructor's call go that is needed no more: nobody restarts the actor."""
    spec = record.spec
    return [DropActor(spec.constructor)] if record.is_made_from_store and not spec.max_restarts else []


def _address(
    actor: str, state: str, worker: int | None, report: dict[str, Any] | None, cause: str, init_failed: bool
) -> dict[str, Any]:
    return {
        "op": "actor_address",
        "actor": actor,
        "state": state,
        "worker": worker,
        "report": report,
        "cause": cause,
        "init_failed": init_failed,
    }


def _describe(record: ActorRecord) -> dict[str, Any]:
    return _address(
        record.spec.actor,
        record.state.value,
        record.worker or None,
        record.report,
        record.cause,
        record.init_failed,
    )

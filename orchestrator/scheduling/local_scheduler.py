"""Lends the workers of one node: events in, instructions out.

How it works
============
*Clients* (drivers, and workers whose tasks submit tasks) state demands: "I want n workers of this scheduling
class", which is a vector of resources. The scheduler answers with grants. A granted worker is the client's
own until the client returns it; what runs on it in between is none of the scheduler's business. Everything
else follows from this:

====================  ==================================================================================
event                 consequence
====================  ==================================================================================
lease wanted          dropped as infeasible at once if the node could never serve it, else it waits its turn
worker ready          it is idle
lease returned        its resources are free, it is idle
worker blocked        its CPU is free, though its task is not finished; another worker is started in its place
worker unblocked      its CPU is taken back, even when that is more than there is
worker died           what it held is free; it stops being a client
client died           its demands vanish; workers it had on lease run tasks nobody owns: they are ended
actor wanted          waits its turn for its placement resources, then holds what it holds, for life
any of them           `_dispatch`: grant, start, reclaim
====================  ==================================================================================

*Turns.* Round robin over clients and over the classes of each (`demands.py`), with one privilege: a client
that is itself a blocked worker is served first, because somebody waits for it in turn. Depth first, a
recursion of depth d needs about d processes; breadth first it would need as many as there are calls. The
privilege is not absolute (`FAVOURS_IN_A_ROW_MAX`), or two actors that call each other for ever would starve
the driver.

*Starting.* A process is started for each demand that would fit the free resources and finds nobody idle, and
to keep the pool (starting + idle + leased) at its size. Idle workers beyond that size are ended after a
while, unless they own something: leases, demands, or living actors.

*Reclaiming.* When a demand waits for resources, whoever has workers on lease that hold such resources is
asked for those that are idle. He may have none; the question is repeated while the wait lasts.

A demand that asks for nothing (`num_cpus=0`) always fits; a limit on such leases takes the place of the
resources.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.demands import ClassKey, Demand, DemandQueue
from orchestrator.scheduling.events import (
    ENVIRONMENT,
    INFEASIBLE,
    ActorWanted,
    ActorWithdrawn,
    ClientDied,
    Complain,
    EndWorker,
    EnvironmentFailed,
    Event,
    Grant,
    Infeasible,
    Instruction,
    LeaseReturned,
    LeaseWanted,
    PlaceActor,
    Reclaim,
    StartWorker,
    Tick,
    WorkerBlocked,
    WorkerDied,
    WorkerDoomed,
    WorkerReady,
    WorkerUnblocked,
)
from orchestrator.scheduling.worker_slots import (
    NOTHING,
    InvalidTransition,
    WorkerChange,
    WorkerSlot,
    WorkerSlots,
    WorkerState,
)

#: Idle workers beyond the pool's size are ended after this time. Long enough that a loop which starts a few
#: actors or recursions per second does not fork for each of them.
IDLE_TIMEOUT_S = 5.0
#: How often idle workers that own something are looked at again.
IDLE_REPEAT_S = 0.5
#: How often a holder of leases is asked again. The holder keeps an idle lease for 200 ms by itself.
RECLAIM_REPEAT_S = 0.05
#: Processes that are being started at one time. A fork costs a few milliseconds of the zygote, attaching some
#: more of a CPU: with many at once none of them is ready soon.
STARTS_MAX = 16
#: A process that has not become ready after this time is taken for stuck. Generous: the machine may be
#: swapping.
START_TIMEOUT_S = 60.0
#: Pause after a process died before it was ready, doubled each time up to the second number.
START_PAUSE_S = (0.05, 5.0)
#: Leases that hold no resource at all, not counting blocked ones.
FREE_LEASES_MAX = 256
#: Grants to blocked clients before somebody else gets one.
FAVOURS_IN_A_ROW_MAX = 16


class LocalScheduler:
    """See the module's text. `handle` is the only way in; the caller performs what it returns, in order."""

    def __init__(
        self,
        total: ResourceSet,
        *,
        pool_size: int,
        workers_max: int = 2048,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        #: What the node has.
        self.total = total
        #: What is free now. A quantity may be below zero after an unblocking.
        self.available = total
        self.slots = WorkerSlots()
        self._demands = DemandQueue()
        self._pool_size = pool_size
        #: Processes of any state. The store has a limited number of client slots.
        self._workers_max = workers_max
        self._idle_timeout_s = idle_timeout_s
        self._token_last = 0
        #: Owner of each placed actor's worker by token; 0 for detached ones.
        self._actor_owners: dict[int, int] = {}
        #: (client, class) pairs that have been asked for idle leases since `_reclaimed_at_s`.
        self._reclaimed: set[tuple[int, int | str]] = set()
        self._reclaimed_at_s = 0.0
        self._favours_in_a_row = 0
        #: Processes in a row that died before they were ready, and when the next may be started.
        self._start_failures = 0
        self._start_not_before_s = 0.0
        self._now_s = 0.0
        self._ticked_at_s = 0.0
        self._out: list[Instruction] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            Tick: self._tick,
            WorkerReady: self._worker_ready,
            WorkerDied: self._worker_died,
            WorkerDoomed: self._worker_doomed,
            WorkerBlocked: self._worker_blocked,
            WorkerUnblocked: self._worker_unblocked,
            LeaseWanted: self._lease_wanted,
            LeaseReturned: self._lease_returned,
            ActorWanted: self._actor_wanted,
            ActorWithdrawn: self._actor_withdrawn,
            EnvironmentFailed: self._environment_failed,
            ClientDied: lambda event: self._client_died(event.client),
        }

    # ------------------------------------------------------------ the way in

    def handle(self, event: Event, now_s: float) -> list[Instruction]:
        """Take one event into account and return what to do. Events that make no sense change nothing."""
        self._now_s = now_s
        out = self._out = []
        try:
            self._handlers[type(event)](event)
        except InvalidTransition as exc:
            out.append(Complain(f"{event}: {exc}"))
        else:
            self._dispatch()
        return out

    def deadline_s(self) -> float | None:
        """Return when the next `Tick` is needed at the latest; None if only other events matter."""
        deadlines: list[float] = []
        if self._demands:
            deadlines.append(max(self._reclaimed_at_s + RECLAIM_REPEAT_S, self._start_not_before_s))
        if self.slots.count(WorkerState.STARTING):
            deadlines.append(self._now_s + START_TIMEOUT_S / 4)
        if self._surplus() > 0 and (oldest := self.slots.in_state(WorkerState.IDLE)[:1]):
            # An idle worker may be kept because it owns something: not looked at without a pause, then.
            deadlines.append(max(oldest[0].since_s + self._idle_timeout_s, self._ticked_at_s + IDLE_REPEAT_S))
        if self._start_failures and self._missing() > 0:
            deadlines.append(self._start_not_before_s)
        return min(deadlines, default=None)

    def waiting(self) -> list[Demand]:
        """Return the demands that are not served yet, for explanations."""
        return list(self._demands)

    # ------------------------------------------------------------ workers

    def _worker_ready(self, event: WorkerReady) -> None:
        slot = self._slot(event.token)
        if slot.state is WorkerState.ENDING and not slot.address:
            self.slots.set_address(slot, event.address)  # ended while it started: it will not be granted
            return
        if slot.state is not WorkerState.STARTING:
            raise InvalidTransition(f"ready twice: {slot}")
        self.slots.set_address(slot, event.address)
        self.slots.change(slot, WorkerChange.READY, self._now_s)
        self._start_failures = 0

    def _worker_died(self, event: WorkerDied) -> None:
        slot = self._slot(event.token)
        if slot.state is WorkerState.STARTING:
            first_s, last_s = START_PAUSE_S
            self._start_not_before_s = self._now_s + min(first_s * 2**self._start_failures, last_s)
            self._start_failures = min(self._start_failures + 1, 20)
        self.available = self.available.add(slot.occupied)
        self.slots.change(slot, WorkerChange.DIE, self._now_s)
        self._actor_owners.pop(slot.token, None)
        if slot.address:
            self._client_died(slot.address)

    def _worker_doomed(self, event: WorkerDoomed) -> None:
        self.slots.change(self._slot(event.token), WorkerChange.END, self._now_s)

    def _worker_blocked(self, event: WorkerBlocked) -> None:
        slot = self._slot(event.token)
        self.slots.change(slot, WorkerChange.BLOCK, self._now_s)
        self.available = self.available.add(slot.lent)

    def _worker_unblocked(self, event: WorkerUnblocked) -> None:
        slot = self._slot(event.token)
        if slot.state is WorkerState.IDLE:
            return  # its lease was returned while it was blocked
        lent = slot.lent
        self.slots.change(slot, WorkerChange.UNBLOCK, self._now_s)
        self.available = self.available.subtract(lent)

    # ------------------------------------------------------------ leases and clients

    def _lease_wanted(self, event: LeaseWanted) -> None:
        resources = event.scheduling.resources
        if event.want > 0 and not resources.fits(self.total):
            self._demands.remove(event.client, event.class_key)
            self._refuse(event.client, event.class_key, None, self._never(resources))
            return
        demand = Demand(event.client, event.class_key, event.scheduling, resources, None)
        self._demands.put(demand, event.want)

    def _lease_returned(self, event: LeaseReturned) -> None:
        slot = self._slot(event.token)
        if slot.holder != event.client:
            raise InvalidTransition(f"client {event.client} does not hold {slot}")
        if slot.state is WorkerState.ENDING:
            return  # it will not be granted again, and its resources are free when it is gone
        occupied = slot.occupied
        self.slots.change(slot, WorkerChange.RETURN, self._now_s)
        self.available = self.available.add(occupied)

    def _client_died(self, client: int) -> None:
        self._demands.remove_client(client)
        for slot in self.slots:
            if slot.holder == client and slot.state in (WorkerState.LEASED, WorkerState.BLOCKED):
                self._end(slot, "the process that submitted its task is gone", gently=False)

    def _never(self, resources: ResourceSet) -> str:
        return f"it needs {resources}, and the node has {self.total} in total"

    def _refuse(
        self, client: int, class_key: ClassKey, actor: str | None, cause: str, verdict: str = INFEASIBLE
    ) -> None:
        key = "" if isinstance(class_key, tuple) else class_key
        self._out.append(Infeasible(client, key, actor, verdict, cause))

    def _environment_failed(self, event: EnvironmentFailed) -> None:
        for demand in self._demands:
            if demand.env == event.env:
                self._demands.remove(demand.client, demand.class_key)
                self._refuse(demand.client, demand.class_key, demand.actor, event.cause, ENVIRONMENT)

    # ------------------------------------------------------------ actors

    def _actor_wanted(self, event: ActorWanted) -> None:
        for resources in (event.scheduling.resources, event.hold):
            if not resources.fits(self.total):
                self._refuse(event.client, "", event.actor, self._never(resources))
                return
        key = ("actor", event.actor)
        self._demands.put(Demand(event.client, key, event.scheduling, event.hold, event.actor), 1)

    def _actor_withdrawn(self, event: ActorWithdrawn) -> None:
        for demand in self._demands:
            if demand.actor == event.actor:
                self._demands.remove(demand.client, demand.class_key)

    # ------------------------------------------------------------ time

    def _tick(self, _: Tick) -> None:
        self._ticked_at_s = self._now_s
        for slot in self.slots.in_state(WorkerState.IDLE):
            if self._surplus() <= 0 or self._now_s - slot.since_s < self._idle_timeout_s:
                break
            if not self._owns_something(slot.address):
                self._end(slot, "it was idle and not needed", gently=True)
        if self.slots.count(WorkerState.STARTING):
            for slot in self.slots.in_state(WorkerState.STARTING):
                if self._now_s - slot.since_s > START_TIMEOUT_S:
                    self._end(slot, f"it was not ready {START_TIMEOUT_S:.0f} s after its start", gently=False)

    def _owns_something(self, client: int) -> bool:
        if self._demands.has_client(client) or client in self._actor_owners.values():
            return True
        return any(slot.holder == client for slot in self.slots)

    # ------------------------------------------------------------ grant, start, reclaim

    def _dispatch(self) -> None:
        while self.slots.count(WorkerState.IDLE):
            demand = self._next_demand()
            if demand is None:
                break
            slot = self.slots.newest_idle(demand.env)
            assert slot is not None
            self._grant(demand, slot)
        self._start_workers()
        if self._demands:
            self._reclaim()

    def _fits(self, demand: Demand) -> bool:
        if not demand.hold and demand.actor is None and self._free_leases() >= FREE_LEASES_MAX:
            return False
        return demand.resources.fits(self.available) and demand.hold.fits(self.available)

    def _free_leases(self) -> int:
        return sum(not slot.held for slot in self.slots.in_state(WorkerState.LEASED))

    def _is_blocked(self, client: int) -> bool:
        slot = self.slots.at(client)
        return slot is not None and slot.state in (WorkerState.BLOCKED, WorkerState.ACTOR_BLOCKED)

    def _can_be_served(self, demand: Demand) -> bool:
        return self.slots.newest_idle(demand.env) is not None and self._fits(demand)

    def _next_demand(self) -> Demand | None:
        serve = self._can_be_served
        favoured = self._demands.next(lambda demand: self._is_blocked(demand.client) and serve(demand))
        if favoured is not None and self._favours_in_a_row < FAVOURS_IN_A_ROW_MAX:
            self._favours_in_a_row += 1
            return favoured
        other = self._demands.next(lambda demand: not self._is_blocked(demand.client) and serve(demand))
        self._favours_in_a_row = 0
        return other or favoured

    def _grant(self, demand: Demand, slot: WorkerSlot) -> None:
        actor = demand.actor
        self.slots.change(
            slot, WorkerChange.LEASE if actor is None else WorkerChange.BECOME_ACTOR, self._now_s
        )
        slot.held = demand.hold
        self.available = self.available.subtract(demand.hold)
        if actor is None:
            assert not isinstance(demand.class_key, tuple)
            slot.holder, slot.class_key = demand.client, demand.class_key
            self._out.append(Grant(demand.client, demand.class_key, slot.token))
        else:
            slot.actor = actor
            self._actor_owners[slot.token] = demand.client
            self._out.append(PlaceActor(actor, slot.token))
        self._demands.served(demand)

    def _start_workers(self) -> None:
        if self._now_s < self._start_not_before_s:
            return
        unready = (WorkerState.STARTING, WorkerState.IDLE)
        for env, servable in self._servable().items():
            for _ in range(servable - self.slots.count_of(env, *unready)):
                if not self._start_worker(env):
                    return
        for _ in range(self._missing()):
            if not self._start_worker(""):
                return

    def _start_worker(self, env: str) -> bool:
        if self.slots.count(WorkerState.STARTING) >= STARTS_MAX:
            return False
        if len(self.slots) >= self._workers_max and not self._make_room(env):
            return False
        self._token_last += 1
        self.slots.add(self._token_last, env, self._now_s)
        self._out.append(StartWorker(self._token_last, env))
        return True

    def _make_room(self, env: str) -> bool:
        """End an idle worker of another environment; False as long as no process has gone."""
        for slot in self.slots.in_state(WorkerState.IDLE):
            if slot.env != env and not self._owns_something(slot.address):
                if not self.slots.count(WorkerState.ENDING):
                    self._end(slot, "workers of another environment are wanted", gently=True)
                break
        return False

    def _servable(self) -> dict[str, int]:
        """Return for each environment how many more workers could be employed at this moment.

        One at least, even if its resources are taken: others would take them each time that they are free,
        were there nobody who could be granted.
        """
        free = self.available
        counts: dict[str, int] = {}
        for demand in self._demands:
            count = 0
            if not demand.hold:
                room = 1 if demand.actor else max(FREE_LEASES_MAX - self._free_leases(), 0)
                count = min(demand.want, room) if demand.resources.fits(free) else 0
            else:
                for _ in range(min(demand.want, STARTS_MAX)):
                    if not (demand.resources.fits(free) and demand.hold.fits(free)):
                        break
                    free = free.subtract(demand.hold)
                    count += 1
            counts[demand.env] = counts.get(demand.env, 0) + count
        return {env: max(count, 1) if env else count for env, count in counts.items()}

    def _missing(self) -> int:
        return self._pool_size - self.slots.count(WorkerState.STARTING, WorkerState.IDLE, WorkerState.LEASED)

    def _surplus(self) -> int:
        return -self._missing()

    def _reclaim(self) -> None:
        if self._now_s - self._reclaimed_at_s >= RECLAIM_REPEAT_S:
            self._reclaimed.clear()
            self._reclaimed_at_s = self._now_s
        # Leases that run are at most as many as the resources allow, however many workers are blocked and
        # however many clients wait: look at these first.
        leased = [
            slot
            for slot in self.slots.in_state(WorkerState.LEASED)
            if (slot.holder, slot.class_key) not in self._reclaimed
        ]
        if not leased:
            return
        waiting = [demand for demand in self._demands if not self._fits(demand)]
        if not waiting and len(self.slots) >= self._workers_max:
            waiting = list(self._demands)
        for slot in leased:
            pair = (slot.holder, slot.class_key)
            if pair in self._reclaimed:
                continue
            for demand in waiting:
                if pair != (demand.client, demand.class_key) and self._would_help(slot.held, demand):
                    self._reclaimed.add(pair)
                    self._out.append(Reclaim(slot.holder, slot.class_key))
                    break

    def _would_help(self, held: ResourceSet, demand: Demand) -> bool:
        lacking = [n for want in (demand.resources, demand.hold) for n in want if want[n] > self.available[n]]
        return any(held[name] for name in lacking) or not lacking

    # ------------------------------------------------------------ small things

    def _slot(self, token: int) -> WorkerSlot:
        slot = self.slots.get(token)
        if slot is None:
            raise InvalidTransition(f"there is no worker {token}")
        return slot

    def _end(self, slot: WorkerSlot, reason: str, *, gently: bool) -> None:
        self.slots.change(slot, WorkerChange.END, self._now_s)
        self._out.append(EndWorker(slot.token, reason, gently))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        self.slots.validate()
        self._demands.validate()
        given = NOTHING
        for slot in self.slots:
            given = given.add(slot.occupied)
        assert self.available.add(given) == self.total, (self.available, given, self.total)
        for name in self.total:
            # Only a CPU can be taken back before whoever has borrowed it is ready.
            assert name == "CPU" or self.available[name] >= 0, self.available
        for demand in self._demands:
            assert demand.resources.fits(self.total) and demand.hold.fits(self.total), demand
        placed = {slot.token for slot in self.slots if slot.actor is not None}
        assert placed == set(self._actor_owners), (placed, self._actor_owners)
        # A demand that could be served waits for a process only.
        assert not any(map(self._can_be_served, self._demands)), list(self._demands)
        assert len(self.slots) <= self._workers_max

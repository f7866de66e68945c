"""Lends the workers of one node: events in, instructions out.

How it works
============
*Clients* (drivers, and workers whose tasks submit tasks) state demands: "I want n workers of this scheduling
class", which is a vector of resources. The scheduler answers with grants. A granted worker is the client's
own until the client returns it; what runs on it in between is none of the scheduler's business. All else
follows from this:

====================  ==================================================================================
event                 consequence
====================  ==================================================================================
lease wanted          dropped as infeasible at once if the node could never serve it, else it waits its turn
worker ready          it is idle
lease returned        its resources are free, it is idle
worker blocked        its CPU is free, or all it held if it runs nothing more; another is started in its place
worker unblocked      its CPU is taken back, even when that is more than there is
worker died           what it held is free; it stops being a client
client died           its demands vanish; workers it had on lease run tasks nobody owns: they are ended
actor wanted          waits its turn for its placement resources, then holds what it holds, for life
bundles wanted        wait their turn like a worker, then are accounts of their own (`places.py`)
bundles released      what runs in them is ended
part wanted           waits its turn like bundles, but not for long: the head of a cluster tries another node
any of them           `_dispatch`: grant, start, reclaim
====================  ==================================================================================

*Turns.* By rank, then round robin over jobs, the clients of each, and the classes of each (`demands.py`),
with one privilege: a client that is itself a blocked worker is served first, because somebody waits for it
in turn. Depth first, a recursion of depth d needs about d processes; breadth first it would need as many as
there are calls. The privilege is not absolute (`FAVOURS_IN_A_ROW_MAX`), or two actors that call each other
for ever would starve the driver.

*Starting.* A process is started for each demand that would fit the free resources and finds nobody idle, and
to keep the pool (starting + idle + leased) at its size; for a runtime environment only when that has been
prepared. Idle workers beyond that size are ended after a
while, unless they own something: leases, demands, or living actors.

*Reclaiming.* When a demand waits for resources, whoever has workers on lease that hold such resources is
asked for them, by the rules of `sharing.py`.

A demand that asks for nothing (`num_cpus=0`) always fits; a limit on such leases takes the place of the
resources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import InBundle, SchedulingClass
from orchestrator.scheduling.accounts import Account, Devices
from orchestrator.scheduling.demands import Demand, DemandQueue
from orchestrator.scheduling.environments import EnvironmentStates
from orchestrator.scheduling.events import (
    ENVIRONMENT,
    GROUP_REMOVED,
    ActorWanted,
    ActorWithdrawn,
    BundlesInfeasible,
    BundlesReleased,
    BundlesReserved,
    BundlesWanted,
    ClientDied,
    Complain,
    EndWorker,
    EnvironmentFailed,
    EnvironmentReady,
    Event,
    Grant,
    Infeasible,
    Instruction,
    JobBegan,
    JobEnded,
    LeaseReturned,
    LeaseWanted,
    PartCommitted,
    PartReleased,
    PartReserved,
    PartWanted,
    PlaceActor,
    PoolWanted,
    PrepareEnvironment,
    StartWorker,
    Tick,
    WorkerBlocked,
    WorkerDied,
    WorkerDoomed,
    WorkerReady,
    WorkerUnblocked,
)
from orchestrator.scheduling.explaining import explain_waits
from orchestrator.scheduling.idling import Idling
from orchestrator.scheduling.places import Places
from orchestrator.scheduling.sharing import REPEAT_S, Sharing, leaves_alone, total_of
from orchestrator.scheduling.starting import Starting
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
#: A process that has not become ready after this time is taken for stuck. Generous: the machine may be
#: swapping.
START_TIMEOUT_S = 60.0
#: How long bundles wait that the head of a cluster wants: less than it gives a whole attempt.
PART_PATIENCE_S = 6.0
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
        devices: Devices | None = None,
        node_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        places = self.places = Places(total, devices or {}, node_id, labels or {})
        self.slots = WorkerSlots()
        self._demands = DemandQueue()
        self._sharing = Sharing(self.slots, self._demands, lambda one: places.accounts_of(one.scheduling))
        self._environments = EnvironmentStates()
        self._starting = Starting(self.slots, self._demands, self.places, self._environments, pool_size)
        #: For whom something is kept free.
        self._claimant: Demand | None = None
        #: Processes of any state. The store has a limited number of client slots.
        self._workers_max = workers_max
        self._token_last = 0
        #: Owner of each placed actor's worker by token; 0 for detached ones.
        self._actor_owners: dict[int, int] = {}
        self._idling = Idling(self.slots, self._demands, self._starting, self._actor_owners, idle_timeout_s)
        self._favours_in_a_row = 0
        self._now_s = self._ticked_at_s = 0.0
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
            ActorWithdrawn: lambda event: self._demands.remove_actor(event.actor),
            EnvironmentReady: lambda event: self._environments.ready(event.env),
            EnvironmentFailed: self._environment_failed,
            BundlesWanted: self._bundles_wanted,
            BundlesReleased: self._bundles_released,
            PartWanted: self._part_wanted,
            PartCommitted: lambda event: places.parts.commit(event.group, event.attempt),
            PartReleased: self._part_released,
            PoolWanted: lambda event: self._environments.wants_pool(event.env),
            JobBegan: self._job_began,
            JobEnded: self._job_ended,
            ClientDied: lambda event: self._client_died(event.client),
        }

    @property
    def total(self) -> ResourceSet:
        """What the node has."""
        return self.places.root.total

    @property
    def available(self) -> ResourceSet:
        """What is free now, bundles of placement groups apart. A CPU may be below zero when it was lent."""
        return self.places.root.available

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
            deadlines.append(max(self._sharing.repeated_at_s + REPEAT_S, self._starting.not_before_s))
        if self.slots.count(WorkerState.STARTING):
            deadlines.append(self._now_s + START_TIMEOUT_S / 4)
        if (idle_s := self._idling.due_s(self._ticked_at_s)) is not None:
            deadlines.append(idle_s)
        if self._starting.failures and self._starting.missing() > 0:
            deadlines.append(self._starting.not_before_s)
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
        self._starting.succeeded()

    def _worker_died(self, event: WorkerDied) -> None:
        slot = self._slot(event.token)
        if slot.state is WorkerState.STARTING and self._environments.works(slot.env):
            self._starting.failed(self._now_s)
        slot.account.give(slot.occupied, slot.devices)
        self.slots.change(slot, WorkerChange.DIE, self._now_s)
        self._actor_owners.pop(slot.token, None)
        if slot.address:
            self._client_died(slot.address)

    def _worker_doomed(self, event: WorkerDoomed) -> None:
        self.slots.change(self._slot(event.token), WorkerChange.END, self._now_s)

    def _worker_blocked(self, event: WorkerBlocked) -> None:
        slot = self._slot(event.token)
        if event.for_good:
            slot.account.give(slot.occupied, slot.devices)
        self.slots.change(slot, WorkerChange.RETIRE if event.for_good else WorkerChange.BLOCK, self._now_s)
        slot.account.give(slot.lent)

    def _worker_unblocked(self, event: WorkerUnblocked) -> None:
        slot = self._slot(event.token)
        if slot.state is WorkerState.IDLE:
            return  # its lease was returned while it was blocked
        lent = slot.lent
        self.slots.change(slot, WorkerChange.UNBLOCK, self._now_s)
        slot.account.retake(lent)

    # ------------------------------------------------------------ leases and clients

    def _lease_wanted(self, event: LeaseWanted) -> None:
        hold = event.scheduling.resources
        demand = Demand(
            event.client, event.class_key, event.scheduling, hold, None, self._now_s, job=event.job
        )
        self._demands.put(demand, event.want)
        self._refuse_impossible(demand)

    def _lease_returned(self, event: LeaseReturned) -> None:
        slot = self._slot(event.token)
        if slot.holder != event.client:
            raise InvalidTransition(f"client {event.client} does not hold {slot}")
        if slot.state is WorkerState.ENDING:
            return  # it will not be granted again, and its resources are free when it is gone
        slot.account.give(slot.occupied, slot.devices)
        self._demands.is_served(slot.holder, slot.class_key, self._now_s)
        self.slots.change(slot, WorkerChange.RETURN, self._now_s)

    def _client_died(self, client: int) -> None:
        self._demands.remove_client(client)
        for slot in self.slots:
            if slot.holder == client and slot.state in (WorkerState.LEASED, WorkerState.BLOCKED):
                self._end(slot, "the process that submitted its task is gone", gently=False)

    def _refuse(self, demand: Demand, verdict: str, cause: str) -> None:
        if self._demands.remove(demand.client, demand.class_key) is not None:
            key = "" if isinstance(demand.class_key, tuple) else demand.class_key
            self._out.append(Infeasible(demand.client, key, demand.actor, verdict, cause))

    def _refuse_impossible(self, demand: Demand) -> None:
        objection = self.places.objection(demand.scheduling, demand.hold)
        if objection is not None:
            self._refuse(demand, *objection)

    def _job_began(self, event: JobBegan) -> None:
        self._idling.job_began(event.job)
        self._environments.job_began(event.job)

    def _job_ended(self, event: JobEnded) -> None:
        self._environments.job_ended(event.job)
        for slot in self._idling.job_ended(event.job):
            self._end(slot, event.reason, gently=True)

    def _environment_failed(self, event: EnvironmentFailed) -> None:
        self._environments.failed(event.env)
        for demand in self._demands:
            if demand.env == event.env:
                self._refuse(demand, ENVIRONMENT, event.cause)

    # ------------------------------------------------------------ actors

    def _actor_wanted(self, event: ActorWanted) -> None:
        key = ("actor", event.actor)
        demand = Demand(
            event.client, key, event.scheduling, event.hold, event.actor, self._now_s, job=event.job
        )
        self._demands.put(demand, 1)
        self._refuse_impossible(demand)

    # ------------------------------------------------------------ placement groups

    def _bundles_wanted(self, event: BundlesWanted) -> None:
        cause = self.places.want(event.group, event.bundles)
        if cause is not None:
            self._out.append(BundlesInfeasible(event.group, cause))
        else:
            # Not its creator's: a group outlives the task that makes it.
            total = total_of(event.bundles)
            key = ("group", event.group)
            demand = Demand(0, key, SchedulingClass(total), total, None, self._now_s, event.bundles)
            self._demands.put(demand, 1)
        self._reconsider(event.group)  # some may have been heard of before the group

    def _bundles_released(self, event: BundlesReleased) -> None:
        self._demands.remove(0, ("group", event.group))
        bundles = self.places.release(event.group)
        self._reconsider(event.group)
        self._end_in(bundles)

    def _reconsider(self, group: str) -> None:
        for demand in self._demands:
            place = demand.scheduling.placement
            if isinstance(place, InBundle) and place.group == group:
                self._refuse_impossible(demand)

    def _part_wanted(self, event: PartWanted) -> None:
        cause = self.places.parts.prepare(event.group, event.attempt, event.bundles)
        bundles = tuple(event.bundles.values())
        if not cause or not self.places.could_hold(bundles):
            self._out.append(PartReserved(event.group, event.attempt, cause))
            return
        total = total_of(bundles)
        key = ("part", f"{event.group}/{event.attempt}")
        demand = Demand(0, key, SchedulingClass(total), total, None, self._now_s, bundles)
        demand.part = event
        self._demands.put(demand, 1)

    def _part_released(self, event: PartReleased) -> None:
        self._demands.remove(0, ("part", f"{event.group}/{event.attempt}"))
        self._end_in(self.places.parts.release(event.group, event.attempt))

    def _refuse_late_parts(self) -> None:
        for demand in self._demands:
            part = demand.part
            if part is not None and self._now_s - demand.since_s >= PART_PATIENCE_S:
                self._demands.remove(demand.client, demand.class_key)
                cause = f"it has not had room for {demand.resources} within {PART_PATIENCE_S:g} s"
                self._out.append(PartReserved(part.group, part.attempt, cause))

    def _end_in(self, bundles: list[Account]) -> None:
        """End what runs in bundles that are released."""
        for slot in self.slots:
            if slot.account in bundles:
                # What it holds comes back to the node when it is gone.
                slot.account = self.places.root
                if slot.state is not WorkerState.ENDING:
                    self._end(slot, "its placement group was removed", gently=False, verdict=GROUP_REMOVED)

    # ------------------------------------------------------------ time

    def _tick(self, _: Tick) -> None:
        self._ticked_at_s = self._now_s
        self._refuse_late_parts()
        self._out += explain_waits(self._demands, self.slots, self.places, self._now_s)
        while (slot := self._idling.overdue(self._now_s)) is not None:
            self._end(slot, "it was idle and not needed", gently=True)
        if self.slots.count(WorkerState.STARTING):
            for slot in self.slots.in_state(WorkerState.STARTING):
                if self._now_s - slot.since_s > START_TIMEOUT_S:
                    self._end(slot, f"it was not ready {START_TIMEOUT_S:.0f} s after its start", gently=False)

    # ------------------------------------------------------------ grant, start, reclaim

    def _dispatch(self) -> None:
        self._claimant = None
        if self._demands:
            for slot in self.slots.in_state(WorkerState.LEASED):
                self._demands.is_served(slot.holder, slot.class_key, self._now_s)
            self._claimant = self._sharing.claimant(self._now_s, self._fits)
            while (demand := self._next_demand()) is not None:
                if demand is self._claimant:
                    self._claimant = None
                if demand.bundles:
                    self._reserve(demand)
                else:
                    self._grant(demand)
        self._start_workers()
        if self._demands:
            waiting = [demand for demand in self._demands if not self._fits(demand)]
            if not waiting and len(self.slots) >= self._workers_max:
                waiting = list(self._demands)
            self._out += self._sharing.reclaims(waiting, self._now_s)

    def _account_for(self, demand: Demand) -> Account | None:
        """Return an account that has enough for a demand at this moment."""
        for account in self.places.accounts_of(demand.scheduling):
            if account.fits(demand.resources) and account.fits(demand.hold):
                return account
        return None

    def _fits(self, demand: Demand) -> bool:
        if demand.bundles:
            return self.places.fit_together(demand.bundles)
        if not demand.hold and demand.actor is None and not self._starting.room_for_free_leases():
            return False
        return self._account_for(demand) is not None

    def _is_blocked(self, client: int) -> bool:
        slot = self.slots.at(client)
        return slot is not None and slot.state in (WorkerState.BLOCKED, WorkerState.ACTOR_BLOCKED)

    def _can_be_served(self, demand: Demand) -> bool:
        if not demand.bundles and self.slots.newest_idle(demand.env) is None:
            return False
        return self._fits(demand)

    def _is_next(self, demand: Demand) -> bool:
        return (self._claimant is None or leaves_alone(demand, self._claimant)) and self._can_be_served(
            demand
        )

    def _next_demand(self) -> Demand | None:
        now_s, serve = self._now_s, self._can_be_served
        favoured = self._demands.next(lambda demand: self._is_blocked(demand.client) and serve(demand), now_s)
        if favoured is not None and self._favours_in_a_row < FAVOURS_IN_A_ROW_MAX:
            self._favours_in_a_row += 1
            return favoured
        serve = self._is_next
        other = self._demands.next(
            lambda demand: not self._is_blocked(demand.client) and serve(demand), now_s
        )
        if other is not None:
            self._favours_in_a_row = 0
        return other or favoured

    def _reserve(self, demand: Demand) -> None:
        if demand.part is not None:
            cause = self.places.parts.prepare(*demand.part)
            self._out.append(PartReserved(demand.part.group, demand.part.attempt, cause))
        else:
            group = demand.class_key[1]  # type: ignore[index]
            self.places.reserve(group)
            self._out.append(BundlesReserved(group))
        self._demands.served(demand, self._now_s)

    def _grant(self, demand: Demand) -> None:
        actor = demand.actor
        slot, account = self.slots.newest_idle(demand.env), self._account_for(demand)
        assert slot is not None and account is not None, demand
        self.slots.change(
            slot, WorkerChange.LEASE if actor is None else WorkerChange.BECOME_ACTOR, self._now_s
        )
        slot.scheduling, slot.account, slot.job = demand.scheduling, account, demand.job
        slot.held = demand.hold
        slot.devices = account.take(demand.hold)
        if actor is None:
            assert not isinstance(demand.class_key, tuple)
            slot.holder, slot.class_key = demand.client, demand.class_key
            self._out.append(Grant(demand.client, demand.class_key, slot.token))
        else:
            slot.actor = actor
            self._actor_owners[slot.token] = demand.client
            self._out.append(PlaceActor(actor, slot.token))
        self._demands.served(demand, self._now_s)

    def _start_workers(self) -> None:
        for env in self._starting.wanted(self._now_s):
            if len(self.slots) >= self._workers_max:
                self._make_room(env)
                return
            self._token_last += 1
            self.slots.add(self._token_last, env, self._now_s)
            self._out.append(StartWorker(self._token_last, env))
        self._out += [PrepareEnvironment(env) for env in self._environments.take_new()]

    def _make_room(self, env: str) -> None:
        """End an idle worker of another environment, one at a time; its place is free when it has gone."""
        if self.slots.count(WorkerState.ENDING):
            return
        for slot in self.slots.in_state(WorkerState.IDLE):
            if slot.env != env and not self._idling.owns_something(slot.address):
                self._end(slot, "workers of another environment are wanted", gently=True)
                return

    # ------------------------------------------------------------ small things

    def _slot(self, token: int) -> WorkerSlot:
        slot = self.slots.get(token)
        if slot is None:
            raise InvalidTransition(f"there is no worker {token}")
        return slot

    def _end(self, slot: WorkerSlot, reason: str, *, gently: bool, verdict: str = "") -> None:
        self.slots.change(slot, WorkerChange.END, self._now_s)
        self._out.append(EndWorker(slot.token, reason, gently, verdict))

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        self.slots.validate()
        self._demands.validate()
        given: dict[Account, ResourceSet] = {}
        for slot in self.slots:
            given[slot.account] = given.get(slot.account, NOTHING).add(slot.occupied)
        self.places.validate(given)
        for demand in self._demands:
            assert self.places.objection(demand.scheduling, demand.hold) is None, demand
        placed = {slot.token for slot in self.slots if slot.actor is not None}
        assert placed == set(self._actor_owners), (placed, self._actor_owners)
        # A demand that could be served waits for a process only.
        assert not any(map(self._is_next, self._demands)), list(self._demands)
        assert len(self.slots) <= self._workers_max

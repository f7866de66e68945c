"""Who gives way when there is not enough for all.

Three rules, from the mildest to the strictest:

*Idle leases.* While a demand waits for resources, whoever has workers on lease that hold such resources is
asked for those that are idle. He may have none; the question is repeated while the wait lasts.

*Time slices.* A lease whose holder always has work would never be idle. So after `SLICE_S` it is asked for as
such, and goes back when the task that it runs is done, if a demand of the same priority waits whose job
(or, for demands of one job, whose client, or, for those of one client, whose class) has fewer leases. A
demand of a higher priority needs no patience, and one of a lower priority asks for nothing, until it is
overdue.

*Reservations.* Small demands pass a large one that does not fit, and could do so for ever. One that is
overdue gets what it lacks kept free for it. As what it waits for may take hours, that lasts only for spells:
from 5 to 10 s after it began to wait, then from 20 to 40 s, from 80 to 160 s, and so on. However long the
tasks are, one of the spells is long enough for them; and the others are not kept waiting all the time.

Demands of blocked clients are exempt from reservations: somebody waits for them with resources in hand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.accounts import Account
from orchestrator.scheduling.demands import PATIENCE_S, Demand, DemandQueue
from orchestrator.scheduling.events import Reclaim
from orchestrator.scheduling.worker_slots import WorkerSlot, WorkerSlots, WorkerState

#: How often a holder of leases is asked again. The holder keeps an idle lease for 200 ms by itself.
REPEAT_S = 0.05
#: How long a lease with work is left alone while others wait: changing hands costs less than a millisecond.
SLICE_S = 0.1
#: How long a lease that was asked for is counted on. One that runs a long task is not back by then.
COUNTED_ON_S = 0.1


class Sharing:
    """Asks for leases back, and keeps resources for those who wait too long."""

    def __init__(
        self,
        slots: WorkerSlots,
        demands: DemandQueue,
        accounts_of: Callable[[Demand], list[Account]],
    ) -> None:
        self._slots = slots
        self._demands = demands
        self._accounts_of = accounts_of
        #: (client, class) pairs that have been asked for idle leases since `repeated_at_s`.
        self._asked: set[tuple[int, int | str]] = set()
        self.repeated_at_s = 0.0

    def reclaims(self, waiting: list[Demand], now_s: float) -> list[Reclaim]:
        """Return whom to ask for what, for the sake of these demands, which are not served for want of it."""
        repeat = now_s - self.repeated_at_s >= REPEAT_S
        if repeat:
            self._asked.clear()
            self.repeated_at_s = now_s
        leased = self._slots.in_state(WorkerState.LEASED)
        out = self._idle_ones(leased, waiting)
        if repeat or any(demand.is_new for demand in waiting):
            out += self._busy_ones(leased, waiting, now_s)
            for demand in waiting:
                demand.is_new = False
        return out

    def _idle_ones(self, leased: list[WorkerSlot], waiting: list[Demand]) -> list[Reclaim]:
        # Leases that run are at most as many as the resources allow, however many workers are blocked and
        # however many clients wait: look at these first.
        out: list[Reclaim] = []
        for slot in leased:
            pair = (slot.holder, slot.class_key)
            if pair in self._asked:
                continue
            for demand in waiting:
                if pair != (demand.client, demand.class_key) and self._would_help(slot, demand):
                    self._asked.add(pair)
                    out.append(Reclaim(slot.holder, slot.class_key))
                    break
        return out

    def _would_help(self, slot: WorkerSlot, demand: Demand) -> bool:
        if slot.account not in self._accounts_of(demand):
            return False
        free = slot.account.available
        lacking = [n for want in (demand.resources, demand.hold) for n in want if want[n] > free[n]]
        return any(slot.held[name] for name in lacking) or not lacking

    def _busy_ones(self, leased: list[WorkerSlot], waiting: list[Demand], now_s: float) -> list[Reclaim]:
        out: list[Reclaim] = []
        jobs = Counter(slot.job for slot in leased)
        clients = Counter(slot.holder for slot in leased)
        pairs = Counter((slot.holder, slot.class_key) for slot in leased)
        #: What is free in each account, with what is about to come back.
        coming: dict[Account, ResourceSet] = {}
        for slot in leased:
            if slot.asked_s is not None and now_s - slot.asked_s < COUNTED_ON_S:
                coming[slot.account] = _free(coming, slot.account).add(slot.held)
        for demand in sorted(waiting, key=lambda demand: -demand.rank(now_s)):
            while True:
                accounts = self._accounts_of(demand)
                fitting = next((a for a in accounts if demand.resources.fits(_free(coming, a))), None)
                if fitting is not None:
                    coming[fitting] = _free(coming, fitting).subtract(demand.hold)
                    break
                candidates = [
                    slot
                    for slot in leased
                    if slot.asked_s is None
                    and (slot.holder, slot.class_key) != (demand.client, demand.class_key)
                    and self._gives_way(slot, demand, jobs, clients, pairs, now_s)
                    and self._would_help(slot, demand)
                ]
                if not candidates:
                    break
                slot = min(candidates, key=lambda slot: (slot.scheduling.priority, slot.since_s))
                slot.asked_s = now_s
                jobs[slot.job] -= 1
                clients[slot.holder] -= 1
                pairs[slot.holder, slot.class_key] -= 1
                coming[slot.account] = _free(coming, slot.account).add(slot.held)
                out.append(Reclaim(slot.holder, slot.class_key, slot.token))
        return out

    def _gives_way(
        self,
        slot: WorkerSlot,
        demand: Demand,
        jobs: Counter[str],
        clients: Counter[int],
        pairs: Counter[tuple[int, int | str]],
        now_s: float,
    ) -> bool:
        rank, priority = demand.rank(now_s), slot.scheduling.priority
        if rank != priority:
            return rank > priority
        if now_s - slot.since_s < SLICE_S:
            return False
        if slot.job != demand.job:
            return jobs[slot.job] > jobs[demand.job]
        if slot.holder != demand.client:
            return clients[slot.holder] > clients[demand.client]
        assert not isinstance(demand.class_key, tuple) or demand.actor or demand.bundles
        theirs = 0 if isinstance(demand.class_key, tuple) else pairs[demand.client, demand.class_key]
        return pairs[slot.holder, slot.class_key] > theirs

    def claimant(self, now_s: float, fits: Callable[[Demand], bool]) -> Demand | None:
        """Return the overdue demand for which resources are to be kept at this moment."""
        for demand in self._demands:
            waited_s = now_s - demand.since_s
            if waited_s < PATIENCE_S or int(math.log2(waited_s / PATIENCE_S)) % 2:
                continue
            if not fits(demand) and any(map(self._can_become_free(demand), self._accounts_of(demand))):
                return demand
        return None

    def _can_become_free(self, demand: Demand) -> Callable[[Account], bool]:
        """Tell of an account whether the demand fits into what actors do not hold for life."""

        def check(account: Account) -> bool:
            left = account.available
            for slot in self._slots:
                if slot.account is account and slot.actor is None:
                    left = left.add(slot.occupied)
            return demand.resources.fits(left)

        return check


def leaves_alone(demand: Demand, claimant: Demand) -> bool:
    """Tell whether serving a demand takes nothing that another one needs."""
    return demand is claimant or not any(claimant.resources[name] for name in demand.hold)


def _free(coming: dict[Account, ResourceSet], account: Account) -> ResourceSet:
    found = coming.get(account)
    return account.available if found is None else found


def total_of(parts: Iterable[ResourceSet]) -> ResourceSet:
    """Return the sum of several vectors."""
    total = ResourceSet()
    for part in parts:
        total = total.add(part)
    return total

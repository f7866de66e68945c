"""Why an actor or a placement group still waits, for its creator. Tasks are explained by who submits them."""

from __future__ import annotations

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.demands import Demand, DemandQueue
from orchestrator.scheduling.events import Explain
from orchestrator.scheduling.places import Places
from orchestrator.scheduling.worker_slots import WorkerSlots

#: A wait of this long is explained, once.
EXPLAIN_AFTER_S = 10.0


def explain_waits(demands: DemandQueue, slots: WorkerSlots, places: Places, now_s: float) -> list[Explain]:
    """Return explanations for those who have waited for long."""
    out: list[Explain] = []
    for demand in demands:
        waits = demand.actor is not None or bool(demand.bundles)
        if waits and not demand.explained and now_s - demand.since_s >= EXPLAIN_AFTER_S:
            demand.explained = True
            group = (
                str(demand.class_key[1]) if isinstance(demand.class_key, tuple) and demand.bundles else None
            )
            text = _explanation(demand, slots, places)
            out.append(Explain(demand.client, demand.actor, text, group))
    return out


def _explanation(demand: Demand, slots: WorkerSlots, places: Places) -> str:
    wanted = demand.resources
    accounts = places.accounts_of(demand.scheduling)
    if not accounts:
        return f"has waited {EXPLAIN_AFTER_S:g} s for {wanted} in a placement group that is not created yet"
    free = max((account.available.within(wanted) for account in accounts), key=str)
    held = {"tasks": ResourceSet(), "actors": ResourceSet()}
    for slot in slots:
        if slot.account in accounts:
            kind = "tasks" if slot.actor is None else "actors"
            held[kind] = held[kind].add(slot.occupied.within(wanted))
    if places.root in accounts:
        groups = ResourceSet()
        for account in places:
            if account is not places.root:
                groups = groups.add(account.total.within(wanted))
        held["placement groups"] = groups
    holders = ", ".join(f"{who} hold {what}" for who, what in held.items() if what) or "nobody holds any"
    return f"has waited {EXPLAIN_AFTER_S:g} s for {wanted}: {free} is free, {holders}"

"""Where on this node a demand may be served: from which accounts, or why from none, ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.common.labels import matches
from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import InBundle, OnNode, SchedulingClass, WithLabels
from orchestrator.scheduling.accounts import Account, Devices
from orchestrator.scheduling.events import GROUP_REMOVED, INFEASIBLE, UNSCHEDULABLE
from orchestrator.scheduling.group_parts import GroupParts

#: Placement groups of which it is still known that they are gone.
GONE_MAX = 10_000
#: Leases for which there is room where they need nothing.
MANY = 1_000_000


class Places:
    """The node's account, the bundles that were split off from it, and the node's name and labels."""

    def __init__(self, total: ResourceSet, devices: Devices, node_id: str, labels: Mapping[str, str]) -> None:
        self.root = Account(total, devices)
        #: Never taken from: what fits into it can be had some day.
        self._whole = Account(total, devices)
        self._node_id = node_id
        self._labels = dict(labels)
        #: Bundles of the groups that are wanted, and the accounts of those that are reserved.
        self._wanted: dict[str, tuple[ResourceSet, ...]] = {}
        self._reserved: dict[str, list[Account]] = {}
        self._gone: dict[str, None] = {}
        #: Bundles of groups that lie on several nodes.
        self.parts = GroupParts(self.root)

    def accounts_of(self, scheduling: SchedulingClass) -> list[Account]:
        """Return the accounts from which this may be served, as soon as one of them has enough."""
        place = scheduling.placement
        if not isinstance(place, InBundle):
            return [self.root]
        accounts = self._reserved.get(place.group)
        if accounts is None:
            return self.parts.accounts_of(place.group, place.bundle)
        return accounts if place.bundle < 0 else accounts[place.bundle : place.bundle + 1]

    def room(self, scheduling: SchedulingClass) -> int:
        """Return how many leases of a class could be served with what is free now."""
        wanted = scheduling.resources
        if not wanted:
            return MANY
        room = 0
        for account in self.accounts_of(scheduling):
            if account.fits(wanted):
                room += max(1, min(account.available[name] // wanted[name] for name in wanted))
        return room

    def objection(self, scheduling: SchedulingClass, hold: ResourceSet) -> tuple[str, str] | None:
        """Return (verdict, cause) if this can never be served here."""
        place = scheduling.placement
        if isinstance(place, InBundle):
            return self._objection_of_group(place, scheduling.resources)
        if isinstance(place, OnNode) and place.node != self._node_id and not place.soft:
            cause = f"node {place.node} is not in this session; its only node is {self._node_id}"
            return UNSCHEDULABLE, cause
        if isinstance(place, WithLabels) and not any(matches(one, self._labels) for one in place.selectors):
            wanted = " or ".join(str(dict(one)) for one in place.selectors)
            return UNSCHEDULABLE, f"no node has labels that match {wanted}; the only one has {self._labels}"
        for resources in (scheduling.resources, hold):
            if not self._whole.fits(resources):
                have = self.root.total.within({"CPU", "GPU", *resources})
                return INFEASIBLE, f"it needs {resources}, and the node has {have} in total"
        return None

    def _objection_of_group(self, place: InBundle, resources: ResourceSet) -> tuple[str, str] | None:
        if place.group in self._gone:
            return GROUP_REMOVED, "its placement group was removed"
        bundles = self._wanted.get(place.group)
        if bundles is None:
            return None  # the news of the group and this demand come on different ways
        if place.bundle >= len(bundles):
            return INFEASIBLE, f"its placement group has {len(bundles)} bundles, and none at {place.bundle}"
        if place.bundle >= 0:
            bundles = bundles[place.bundle : place.bundle + 1]
        if not any(resources.fits(bundle) for bundle in bundles):
            have = ", ".join(map(str, bundles))
            return INFEASIBLE, f"it needs {resources}, and its bundles in the placement group have {have}"
        return None

    # ------------------------------------------------------------ placement groups

    def want(self, group: str, bundles: tuple[ResourceSet, ...]) -> str | None:
        """Note that a group is to be reserved; return why it never can be, if so."""
        fresh = Account(self._whole.total, self._whole.free)
        if fresh.split(bundles) is None:
            self._forget(group)
            have = self.root.total.within({"CPU", "GPU", *(name for bundle in bundles for name in bundle)})
            needs = ", ".join(map(str, bundles))
            return f"its bundles need {needs} at the same time, and the node has {have} in total"
        self._wanted[group] = bundles
        return None

    def could_hold(self, bundles: tuple[ResourceSet, ...]) -> bool:
        """Tell whether all bundles could be reserved if nothing else were here."""
        return Account(self._whole.total, self._whole.free).split(bundles) is not None

    def fit_together(self, bundles: tuple[ResourceSet, ...]) -> bool:
        """Tell whether all bundles could be reserved now."""
        accounts = self.root.split(bundles)
        for account in accounts or ():
            self.root.merge(account)
        return accounts is not None

    def reserve(self, group: str) -> None:
        """Reserve the bundles of a group; the caller has seen that they fit."""
        accounts = self.root.split(self._wanted[group])
        assert accounts is not None, group
        self._reserved[group] = accounts

    def release(self, group: str) -> list[Account]:
        """Give back what is free in a group's bundles; return them, as something may still be taken there."""
        accounts = self._reserved.pop(group, [])
        for account in accounts:
            self.root.merge(account)
        self._forget(group)
        return accounts

    def _forget(self, group: str) -> None:
        self._wanted.pop(group, None)
        self._gone[group] = None
        if len(self._gone) > GONE_MAX:
            del self._gone[next(iter(self._gone))]

    def __iter__(self) -> Iterator[Account]:
        """Every account from which something can be taken."""
        yield self.root
        for accounts in self._reserved.values():
            yield from accounts
        yield from self.parts

    def validate(self, occupied: Mapping[Account, ResourceSet]) -> None:
        """Check that nothing is lost or given twice; `AssertionError` with the culprit."""
        total = occupied.get(self.root, ResourceSet()).add(self.root.available)
        for account in self:
            if account is not self.root:
                total = total.add(account.total)
                taken = occupied.get(account, ResourceSet())
                assert account.available.add(taken) == account.total, (account, taken)
            for name in account.total:
                # Only a CPU can be taken back before whoever has borrowed it is ready.
                assert name == "CPU" or account.available[name] >= 0, account
            for free in account.free.values():
                assert all(units >= 0 for units in free.values()), account.free
        assert total == self.root.total, (total, self.root.total)
        self.parts.validate()
        assert set(self._reserved) <= set(self._wanted)

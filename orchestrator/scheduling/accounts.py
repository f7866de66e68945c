"""What there is to give, and what is given: a vector of quantities, and devices that have names.

The node has an account. A bundle of a placement group is an account, too, made of what was taken from the
node's; whoever runs in the bundle takes from there, and in the end all that is left goes back.

*Devices.* A GPU is not just a quantity: whoever holds one must be told which, and two halves of different
ones are not a whole. So an account knows how much of each device is free. Half a device comes from the one
with the least that suffices, whole ones from those nobody has touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.common.resources import UNITS_PER_WHOLE, ResourceSet

#: Resource name to device id to units of it.
Devices = dict[str, dict[str, int]]


class Account:
    """Quantities and devices that can be taken and given back."""

    def __init__(self, total: ResourceSet, devices: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self.total = total
        #: What is free now. A CPU may be below zero: it can be taken back before its borrower is ready.
        self.available = total
        #: Free units of each device, all devices of the account, also those with none.
        self.free: Devices = {name: dict(units) for name, units in (devices or {}).items()}

    def __repr__(self) -> str:
        return f"<account {self.available} of {self.total}>"

    def fits(self, resources: ResourceSet) -> bool:
        """Tell whether these can be taken now."""
        if not resources.fits(self.available):
            return False
        return not self.free or all(
            self._choose(name, resources[name]) is not None for name in self.free if resources[name]
        )

    def take(self, resources: ResourceSet) -> Devices:
        """Take quantities, and return the devices among them. The caller has seen that they fit."""
        self.available = self.available.subtract(resources)
        taken: Devices = {}
        for name, free in self.free.items():
            chosen = self._choose(name, resources[name]) if resources[name] else None
            if chosen:
                taken[name] = chosen
                for device, units in chosen.items():
                    free[device] -= units
        return taken

    def give(self, resources: ResourceSet, devices: Devices | None = None) -> None:
        """Give back quantities and devices."""
        self.available = self.available.add(resources)
        for name, given in (devices or {}).items():
            free = self.free[name]
            for device, units in given.items():
                free[device] += units

    def retake(self, resources: ResourceSet) -> None:
        """Take back what was lent out, even when that is more than there is."""
        self.available = self.available.subtract(resources)

    def split(self, parts: Sequence[ResourceSet]) -> list[Account] | None:
        """Take an account for each part, all or, returning None, nothing."""
        made: list[Account] = []
        for part in parts:
            if not self.fits(part):
                for account in made:
                    self.merge(account)
                return None
            made.append(Account(part, self.take(part)))
        return made

    def merge(self, part: Account) -> None:
        """Take back what is free in an account that was split off. What is not is given back here later."""
        self.give(part.available, part.free)

    def _choose(self, name: str, units: int) -> dict[str, int] | None:
        """Return units of devices that make up a quantity; None if there are none."""
        free = self.free[name]
        if units < UNITS_PER_WHOLE:
            enough = [(left, device) for device, left in free.items() if left >= units]
            return {min(enough)[1]: units} if enough else None
        count, rest = divmod(units, UNITS_PER_WHOLE)
        whole = [device for device, left in free.items() if left == UNITS_PER_WHOLE]
        if rest or len(whole) < count:
            return None
        return dict.fromkeys(whole[:count], UNITS_PER_WHOLE)

"""Resource vectors in fixed point, so that a tenth taken ten times is exactly one.

Quantities are kept as integers of 1/10000: floats would leave 2.7e-17 of a CPU behind after
enough additions, and a task that asks for exactly what is free would then wait for ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

#: Units in one whole resource. Four decimals are finer than anybody asks for.
UNITS_PER_WHOLE = 10_000

CPU = "CPU"
#: Size of a node's object store, in bytes.
STORE = "object_store_memory"
#: Resources that are counted in bytes.
BYTES = ("memory", STORE)


class ResourceSet:
    """An immutable vector of resource quantities; absent names count as zero."""

    __slots__ = ("_units",)

    def __init__(self, units: Mapping[str, int] | None = None) -> None:
        #: Name to units; zero quantities are never stored, so equality is equality of dicts.
        self._units: dict[str, int] = {name: n for name, n in (units or {}).items() if n}

    @classmethod
    def from_floats(cls, quantities: Mapping[str, float]) -> ResourceSet:
        """Build a set from plain numbers.

        Raises:
            ValueError: a quantity is negative, not finite, too large to count, or finer than 1/10000.
        """
        units: dict[str, int] = {}
        for name, quantity in quantities.items():
            scaled = quantity * UNITS_PER_WHOLE
            if not 0 <= scaled < 2**62:
                if 0 <= scaled < math.inf:
                    wanted = f"too much: it must be below {2**62 // UNITS_PER_WHOLE}"
                else:
                    wanted = "not a finite number >= 0"
                raise ValueError(f"resource {name!r}: {quantity!r} is {wanted}")
            units[name] = round(scaled)
            if quantity and not units[name]:
                raise ValueError(f"resource {name!r}: {quantity!r} is finer than 1/{UNITS_PER_WHOLE}")
        return cls(units)

    def to_floats(self) -> dict[str, float]:
        """Return the quantities as plain numbers."""
        return {name: n / UNITS_PER_WHOLE for name, n in self._units.items()}

    def __getitem__(self, name: str) -> int:
        return self._units.get(name, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._units)

    def __bool__(self) -> bool:
        return bool(self._units)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResourceSet) and self._units == other._units

    def __hash__(self) -> int:
        return hash(frozenset(self._units.items()))

    def __repr__(self) -> str:
        return f"ResourceSet({self})"

    def __str__(self) -> str:
        return "{" + ", ".join(f"{n}: {q:g}" for n, q in sorted(self.to_floats().items())) + "}"

    def fits(self, available: ResourceSet) -> bool:
        """Tell whether `available` covers every quantity of this set."""
        have = available._units
        return all(have.get(name, 0) >= n for name, n in self._units.items())

    def add(self, other: ResourceSet) -> ResourceSet:
        """Return the sum."""
        units = dict(self._units)
        for name, n in other._units.items():
            units[name] = units.get(name, 0) + n
        return ResourceSet(units)

    def subtract(self, other: ResourceSet) -> ResourceSet:
        """Return the difference; a quantity may become negative when a CPU was lent out twice."""
        units = dict(self._units)
        for name, n in other._units.items():
            units[name] = units.get(name, 0) - n
        return ResourceSet(units)

    def only(self, name: str) -> ResourceSet:
        """Return the part of this set that concerns one resource."""
        return ResourceSet({name: self._units.get(name, 0)})

    def within(self, names: Iterable[str]) -> ResourceSet:
        """Return the part of this set that concerns these resources."""
        return ResourceSet({name: self._units.get(name, 0) for name in names})

    def key(self) -> str:
        """Return a canonical text: equal sets have equal keys. Names a scheduling class."""
        return ",".join(f"{name}:{n}" for name, n in sorted(self._units.items()))

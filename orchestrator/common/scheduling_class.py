"""What makes two tasks alike for the scheduler: whoever runs the one could run the other.

A `SchedulingClass` is what a submitter queues by, what it asks the node's workers for, and what the node
decides by. It travels as a few fields of a JSON message; what is plain is left out there.

A *placement* says where besides "anywhere there is room":

=============== ============================================================================
`InBundle`      in a placement group: in one of its bundles, or in any (-1)
`OnNode`        on one node; if `soft`, elsewhere when that node is gone or can never do it
`WithLabels`    on a node that one of the selectors matches, the first that matches any node
`Spread`        on one node after the other
=============== ============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.common.resources import ResourceSet


class InBundle(NamedTuple):
    """In a placement group."""

    group: str
    #: Index of the bundle; -1 for whichever has room.
    bundle: int = -1


class OnNode(NamedTuple):
    """On a node."""

    node: str
    soft: bool = False


class WithLabels(NamedTuple):
    """On a node with labels. Each selector is a sequence of (label, condition), sorted by label."""

    selectors: tuple[tuple[tuple[str, str], ...], ...]


class Spread:
    """On one node after the other, as far as there is room."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spread)

    def __hash__(self) -> int:
        return hash(Spread)

    def __repr__(self) -> str:
        return "Spread()"


Placement = InBundle | OnNode | WithLabels | Spread


class SchedulingClass(NamedTuple):
    """Tasks alike in all of this share queues, demands and leases."""

    resources: ResourceSet
    #: Key of the runtime environment that the worker must have been made for; "" is the plain one.
    env: str = ""
    placement: Placement | None = None
    #: Higher is served first.
    priority: int = 0
    #: Whether a run that is stopped is repeated. Short of memory, the node stops such runs first.
    retriable: bool = True

    def key(self) -> str:
        """Return a canonical text: equal classes have equal keys."""
        parts = [self.resources.key() or "none"]
        parts += [
            f"{name}={value!r}"
            for name, value, default in zip(self._fields[1:], self[1:], _DEFAULTS, strict=True)
            if value != default
        ]
        return "|".join(parts)

    def to_message(self) -> dict[str, Any]:
        """Return the fields of a message that say this."""
        message: dict[str, Any] = {"resources": self.resources.to_floats()}
        if self.env:
            message["env"] = self.env
        if self.placement is not None:
            message["placement"] = placement_to_message(self.placement)
        if self.priority:
            message["priority"] = self.priority
        if not self.retriable:
            message["retriable"] = False
        return message

    def described(self) -> dict[str, Any]:
        """Return what is asked for, for those who want to know: `resources`, `group`, `labels`."""
        place = self.placement
        return {
            "resources": self.resources.to_floats(),
            "group": place.group if isinstance(place, InBundle) else None,
            "labels": [dict(one) for one in place.selectors] if isinstance(place, WithLabels) else [],
        }


_DEFAULTS = tuple(SchedulingClass._field_defaults.values())


def placement_to_message(placement: Placement) -> dict[str, Any]:
    """Return a placement as JSON can carry it."""
    match placement:
        case InBundle(group, bundle):
            return {"group": group, "bundle": bundle}
        case OnNode(node, soft):
            return {"node": node, "soft": soft}
        case WithLabels(selectors):
            return {"labels": [dict(selector) for selector in selectors]}
        case Spread():
            return {"spread": True}


def placement_from_message(message: Any) -> Placement | None:
    """Return the placement that a message describes.

    Raises:
        ValueError: it describes none; the text says why. Messages come from processes that run user code.
    """
    if message is None:
        return None
    match message:
        case {"group": str(group), "bundle": int(bundle)} if bundle >= -1:
            return InBundle(group, bundle)
        case {"node": str(node), "soft": bool(soft)}:
            return OnNode(node, soft)
        case {"labels": [*selectors]} if all(map(_is_selector, selectors)):
            return WithLabels(tuple(selector_of(selector) for selector in selectors))
        case {"spread": True}:
            return Spread()
    raise ValueError("is not a placement")


def _is_selector(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


def selector_of(conditions: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return conditions on labels in the form that can be compared and hashed."""
    return tuple(sorted(conditions.items()))

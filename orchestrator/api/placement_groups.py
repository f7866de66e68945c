"""Placement groups: resources that are reserved together, and what can be done with them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator import exceptions
from orchestrator.api.session import ensure_runtime
from orchestrator.common.ids import PlacementGroupID, random_hex
from orchestrator.common.resources import ResourceSet
from orchestrator.core.entry import BLOB, ERROR, Entry
from orchestrator.core.messages import PROTOCOL
from orchestrator.core.object_ref import ObjectRef

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class PlacementGroup:
    """A placement group. It may be passed to tasks and actors like any value."""

    def __init__(self, group_id: str, bundles: Sequence[Mapping[str, float]]) -> None:
        self.id = PlacementGroupID.from_hex(group_id)
        #: What each bundle reserves.
        self.bundle_specs: list[dict[str, float]] = [dict(bundle) for bundle in bundles]
        self.bundles = tuple(map(ResourceSet.from_floats, bundles))

    @staticmethod
    def empty() -> PlacementGroup:
        """Return the group that is none."""
        return PlacementGroup("", [])

    @property
    def is_empty(self) -> bool:
        """Whether this is the group that is none."""
        return not self.id

    @property
    def bundle_count(self) -> int:
        """How many bundles it has."""
        return len(self.bundle_specs)

    def ready(self) -> ObjectRef[PlacementGroup]:
        """Return a reference to this group that is ready when all its bundles are reserved.

        If that can never be, `get` of it raises `InfeasibleError` with the reason; after a removal,
        `TaskPlacementGroupRemoved`.
        """
        runtime = ensure_runtime()
        entry = Entry(runtime.next_seq() << 24)
        name, payload = str(self), pickle.dumps(self, PROTOCOL)

        def answered(answer: dict[str, Any]) -> None:
            error = _error_of(name, answer)
            state, value = (BLOB, payload) if error is None else (ERROR, error)
            runtime.completion.fill(entry, state, value)

        runtime.node.ask_later({"op": "await_group", "group": self.id.hex()}, answered)
        return ObjectRef(entry, runtime)

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Wait until all bundles are reserved; False if that takes longer than `timeout_seconds`.

        Raises:
            InfeasibleError: it can never be; the text says why.
            TaskPlacementGroupRemoved: it was removed.
        """
        runtime = ensure_runtime()
        try:
            runtime.get_one(self.ready(), timeout_seconds)
        except exceptions.GetTimeoutError:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (PlacementGroup, (self.id.hex(), self.bundle_specs))


def _error_of(name: str, answer: Mapping[str, Any]) -> exceptions.OrchestratorError | None:
    state, cause = answer.get("state"), answer.get("cause")
    if state == "CREATED":
        return None
    if state == "REMOVED":
        return exceptions.TaskPlacementGroupRemoved(f"{name} was removed{': ' + cause if cause else ''}")
    return exceptions.InfeasibleError(f"{name} can never be created: {cause or answer.get('error')}")


def placement_group(
    bundles: Sequence[Mapping[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: Sequence[Mapping[str, str]] | None = None,
) -> PlacementGroup:
    """Reserve bundles of resources, all at once, and return the group at once; see `PlacementGroup.ready`.

    Args:
        bundles: what to reserve: `[{"CPU": 2, "GPU": 1}, ...]`.
        strategy: "PACK" (the default) or "SPREAD" if possible, "STRICT_PACK" on one node, "STRICT_SPREAD"
            each bundle on a node of its own, which a session of one node can do for one bundle only.
        name: by which `get_placement_group` finds it; unique in the namespace while it lives.
        lifetime: None, or "detached" for one that outlives the driver, in a session that stands. It lasts
            until then, or until it is removed, or the session ends.
        bundle_label_selector: conditions on the labels of each bundle's node.

    Raises:
        ArgumentTypeError: the bundles are no list of dicts; a TypeError and a ValueError.
        ValueError: no bundles, an empty one, a quantity that is none, an unknown strategy, a name that is
            taken.
    """
    specs = _check_bundles(bundles)
    strategy = "PACK" if strategy is None else strategy
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {name!r:.100}")
    if lifetime not in (None, "detached"):
        raise ValueError(f"lifetime must be None or 'detached', not {lifetime!r}")
    runtime = ensure_runtime()
    selectors = _check_selectors(bundle_label_selector, len(specs))
    is_cluster = bool(runtime.here)
    if not is_cluster:
        _check_labels(selectors, runtime.info.get("labels") or {})
    group = PlacementGroup(random_hex(), specs)
    message: dict[str, Any] = {"op": "create_group", "group": group.id.hex(), "strategy": strategy}
    message |= {"bundles": specs, "detached": lifetime == "detached", "selectors": selectors}
    if name or is_cluster:
        # Whoever is passed the group may use it on any node at once: the head has to know it by then.
        namespace = runtime.info.get("namespace") or ""
        error = runtime.node.ask({**message, "name": name, "namespace": namespace}).get("error")
        if error == "exists":
            raise ValueError(f"a placement group named {name!r} exists in namespace {namespace!r}")
        if error:
            raise ValueError(f"the placement group was refused: {error}")
    else:
        runtime.node.send(message)
    return group


def _check_bundles(bundles: Any) -> list[dict[str, float]]:
    if not isinstance(bundles, (list, tuple)) or not all(isinstance(one, Mapping) for one in bundles):
        raise exceptions.ArgumentTypeError(f"bundles must be a list of dicts, not {bundles!r:.100}")
    if not bundles:
        raise ValueError("bundles must not be empty: a placement group reserves something")
    specs: list[dict[str, float]] = []
    for index, bundle in enumerate(bundles):
        for key, quantity in bundle.items():
            if (
                not isinstance(key, str)
                or isinstance(quantity, bool)
                or not isinstance(quantity, (int, float))
            ):
                raise exceptions.ArgumentTypeError(
                    f"bundle {index} must be a dict of name to number: {bundle!r:.100}"
                )
        checked = ResourceSet.from_floats(bundle)
        if not checked:
            raise ValueError(f"bundle {index} reserves nothing: {bundle!r:.100}")
        specs.append(checked.to_floats())
    return specs


def _check_selectors(selectors: Any, count: int) -> list[dict[str, str]]:
    from orchestrator.common.labels import check_selector

    if selectors is None:
        return []
    if len(selectors) != count:
        raise ValueError(f"bundle_label_selector has {len(selectors)} entries for {count} bundles")
    return [dict(check_selector(selector, "bundle_label_selector")) for selector in selectors]


def _check_labels(selectors: Sequence[Mapping[str, str]], labels: Mapping[str, str]) -> None:
    from orchestrator.common.labels import matches

    for index, selector in enumerate(selectors):
        if not matches(selector.items(), labels):
            raise exceptions.InfeasibleError(
                f"no node has labels that match {dict(selector)}, which bundle {index} wants: the only one "
                f"has {dict(labels)}"
            )


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Remove a group: what runs in it is ended, what waits for it fails, what it reserved is free."""
    _check_group(placement_group)
    ensure_runtime().node.send({"op": "remove_group", "group": placement_group.id.hex()})


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """Return the group with this name in the session's namespace.

    Raises:
        ValueError: there is none.
    """
    if not placement_group_name or not isinstance(placement_group_name, str):
        raise ValueError(f"the name of a placement group is wanted, not {placement_group_name!r:.100}")
    runtime = ensure_runtime()
    namespace = runtime.info.get("namespace") or ""
    answer = runtime.node.ask({"op": "get_group", "name": placement_group_name, "namespace": namespace})
    if not answer["found"]:
        raise ValueError(f"there is no placement group {placement_group_name!r} in namespace {namespace!r}")
    return PlacementGroup(answer["group"], answer["bundles"])


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """Return the facts about one group, or about all, by id.

    Raises:
        ValueError: the session does not know the group.
    """
    group = None
    if placement_group is not None:
        _check_group(placement_group)
        group = placement_group.id.hex()
    answer = ensure_runtime().node.ask({"op": "list_groups", "group": group})
    rows = {row["group"]: _facts(row, answer["node"]) for row in answer["groups"]}
    if group is None:
        return rows
    if group not in rows:
        raise ValueError(f"this session does not know {placement_group}")
    # Of one that was removed a cluster knows only that.
    bundles = dict(enumerate(placement_group.bundle_specs)) if placement_group is not None else {}
    return {**rows[group], "bundles": rows[group]["bundles"] or bundles}


#: What Ray calls the states as those of the scheduling; the others have the same name there.
_SCHEDULING_STATES = {"PENDING": "QUEUED", "CREATED": "FINISHED"}


def _facts(row: Mapping[str, Any], node: str) -> dict[str, Any]:
    nodes = row.get("nodes")
    if nodes is None:
        nodes = [node if row["state"] == "CREATED" else ""] * len(row["bundles"])
    return {
        "placement_group_id": row["group"],
        "name": row["name"],
        "namespace": row["namespace"],
        "bundles": dict(enumerate(row["bundles"])),
        "bundles_to_node_id": dict(enumerate(nodes)),
        "strategy": row["strategy"],
        "state": row["state"],
        "cause": row["cause"],
        "stats": {"scheduling_state": _SCHEDULING_STATES.get(row["state"], row["state"])},
    }


def _check_group(value: Any) -> None:
    if not isinstance(value, PlacementGroup):
        raise TypeError(f"a PlacementGroup is wanted, not {value!r:.100}")


def get_current_placement_group() -> PlacementGroup | None:
    """Return the group in which the task or actor that asks runs; None if it runs in none."""
    group = ensure_runtime().contexts.current.group
    if group is None:
        return None
    identity, bundles = group
    return PlacementGroup(identity, [bundle.to_floats() for bundle in bundles])

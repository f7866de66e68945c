"""What can be done with objects beside reading them: write to a copy, free, ask where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.core.entry import BLOB, ERROR, PENDING, STORED, Entry
from orchestrator.core.values import StoredError
from orchestrator.objects import plasma_adapter as objects

if TYPE_CHECKING:
    from orchestrator.core.object_ref import ObjectRef
    from orchestrator.core.runtime import Runtime


#: Objects in one question to the node: it has to fit into a message, and its answer too.
LOCATED_AT_ONCE = 500


def writable_values(runtime: Runtime, refs: list[ObjectRef[Any]], timeout: float | None) -> list[Any]:
    """Return values that may be written to, without effect on anybody else.

    Raises:
        Exception: what `get` raises.
    """
    return [_writable_value(runtime, entry, timeout) for entry in runtime.wait_for_all(refs, timeout)]


def _writable_value(runtime: Runtime, entry: Entry, timeout: float | None) -> Any:
    if entry.state == BLOB:
        return objects.deserialize(bytearray(entry.value))
    if entry.state != STORED:
        return runtime.value_of(entry, timeout)
    identity = runtime.id_of(entry)
    try:
        buffer = runtime.store.try_get(identity)
    except objects.ObjectLostError:
        buffer = None
    if buffer is None:
        buffer = runtime.lineage.fetch(identity)
    value = objects.deserialize(objects.writable(buffer))
    if type(value) is StoredError:
        raise value.rebuild()
    return value


def free(runtime: Runtime, entry: Entry) -> None:
    """Give up an object's value, whoever holds references to it; one that is being made, when it is there."""
    if entry.state == PENDING:
        runtime.references.watch(entry)
        entry.when_done(lambda done: free(runtime, done))
        return
    if entry.state == ERROR or not runtime.open:
        return
    identity = runtime.id_of(entry)
    if entry.hold is not None:
        runtime.store.free(identity)
    entry.value = exceptions.ObjectFreedError(f"object {identity.hex()} was freed: free() was called with it")
    entry.state = ERROR


def locations(
    runtime: Runtime, refs: list[ObjectRef[Any]], *, everywhere: bool = True
) -> dict[ObjectRef[Any], dict[str, Any]]:
    """Return where each object is and how large it is; on all nodes, or as far as this one knows."""
    infos = {info.object_id: info for info in runtime.store.list()}
    node_id = runtime.node_id
    found = {ref: _location(infos.get(runtime.id_of(ref._entry)), ref._entry, node_id) for ref in refs}
    if everywhere and runtime.here:
        stored = {runtime.id_of(ref._entry).hex(): found[ref] for ref in refs if ref._entry.state != BLOB}
        _add_other_nodes(runtime, stored)
    return found


def _add_other_nodes(runtime: Runtime, found: dict[str, dict[str, Any]]) -> None:
    """Add where else objects are, as their homes know it."""
    asked = list(found)
    for start in range(0, len(asked), LOCATED_AT_ONCE):
        question = {"op": "locate", "objects": asked[start : start + LOCATED_AT_ONCE]}
        for identity, (nodes, size_bytes, spilled) in runtime.node.ask(question)["found"].items():
            row = found[identity]
            row["node_ids"] += [node for node in nodes if node not in row["node_ids"]]
            row["object_size"] = row["object_size"] or size_bytes or None
            row["did_spill"] = row["did_spill"] or spilled


def _location(info: Any, entry: Entry, node_id: str) -> dict[str, Any]:
    size = len(entry.value) if entry.state == BLOB else None
    if info is None or info.state not in ("sealed", "spilled"):
        return {"node_ids": [], "object_size": size, "did_spill": False}
    return {"node_ids": [node_id], "object_size": info.size_bytes, "did_spill": info.state == "spilled"}

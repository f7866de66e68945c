"""Objects beside `put` and `get`: names, freeing, where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from orchestrator import exceptions
from orchestrator.api.session import ensure_runtime
from orchestrator.core import object_access
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.runtime import Runtime


def name_object(runtime: Runtime, ref: ObjectRef[Any], name: str, namespace: str | None) -> None:
    """Have the node hold the object under a name.

    Raises:
        ValueError: an object has this name.
    """
    identity = runtime.references.promote(ref._entry)
    question = {"op": "name_object", "object": identity.hex(), **_place(runtime, name, namespace)}
    if not runtime.node.ask(question).get("named"):
        raise ValueError(f"an object named {name!r} exists already: forget_object() it first")


def get_object(name: str, namespace: str | None = None) -> ObjectRef[Any]:
    """Return a reference to the object that was `put` with this name, in whichever process of the session.

    Raises:
        ValueError: there is none.
    """
    runtime = ensure_runtime()
    found = runtime.node.ask({"op": "find_object", **_place(runtime, name, namespace)}).get("object")
    if not found:
        raise ValueError(f"no object named {name!r} in namespace {namespace or runtime.info['namespace']!r}")
    return ObjectRef(runtime.references.borrow(bytes.fromhex(found)), runtime)


def forget_object(name: str, namespace: str | None = None) -> None:
    """Take an object's name away: from now on it lives only as long as references to it.

    Raises:
        ValueError: no object has this name.
    """
    runtime = ensure_runtime()
    if not runtime.node.ask({"op": "forget_object", **_place(runtime, name, namespace)}).get("forgotten"):
        raise ValueError(f"no object named {name!r} in namespace {namespace or runtime.info['namespace']!r}")


@overload
def list_named_objects(all_namespaces: Literal[False] = False) -> list[str]: ...
@overload
def list_named_objects(all_namespaces: Literal[True]) -> list[dict[str, str]]: ...
def list_named_objects(all_namespaces: bool = False) -> list[str] | list[dict[str, str]]:
    """Return the names of the objects of this namespace.

    With `all_namespaces`, dicts with `namespace` and `name` of all.
    """
    runtime = ensure_runtime()
    namespace = None if all_namespaces else runtime.info.get("namespace") or ""
    found: list[dict[str, str]] = []
    while True:
        question = {"op": "list_named_objects", "namespace": namespace, "skip": len(found)}
        answer = runtime.node.ask(question)
        found += answer["names"]
        if not answer["names"] or len(found) >= answer["count"]:
            break
    return found if all_namespaces else [entry["name"] for entry in found]


def _place(runtime: Runtime, name: str, namespace: str | None) -> dict[str, str]:
    if not isinstance(name, str) or not name:
        raise ValueError(f"an object's name is a non-empty str, not {name!r}")
    return {"name": name, "namespace": namespace or runtime.info.get("namespace") or ""}


def free(refs: ObjectRef[Any] | Sequence[ObjectRef[Any]], local_only: bool = False) -> None:
    """Give up objects now, whoever still holds references to them: reading one raises ObjectFreedError.

    Views and arrays that exist stay readable, and keep their memory until they go. One that is still being
    made is given up when it is there. Nothing is made again.

    Args:
        refs: a reference or a list of references.
        local_only: for programs that say so; on one machine all copies are local.

    Raises:
        TypeError: something else than a reference was given.
    """
    for ref in _references("free", refs):
        ref._runtime.check_alive()
        object_access.free(ref._runtime, ref._entry)


def get_object_locations(
    refs: Sequence[ObjectRef[Any]], timeout_ms: int = -1
) -> dict[ObjectRef[Any], dict[str, Any]]:
    """Return for each object a dict of `node_ids` (where a copy is), `object_size` in bytes, and `did_spill`.

    A small object is in nobody's shared memory and has no node; one that does not exist yet has no size.

    Args:
        refs: references.
        timeout_ms: for programs that say so; the answer is at hand.
    """
    listed = _references("get_object_locations", refs)
    return object_access.locations(ensure_runtime(), listed)


def get_local_object_locations(refs: Sequence[ObjectRef[Any]]) -> dict[ObjectRef[Any], dict[str, Any]]:
    """Like `get_object_locations`, as far as this node knows: no other is asked."""
    listed = _references("get_local_object_locations", refs)
    return object_access.locations(ensure_runtime(), listed, everywhere=False)


def _references(caller: str, refs: Any) -> list[ObjectRef[Any]]:
    listed = [refs] if type(refs) is ObjectRef else refs
    if not isinstance(listed, (list, tuple)):
        raise exceptions.ReferenceTypeError(
            f"{caller}() takes a list of references, not {type(refs).__name__}"
        )
    for ref in listed:
        if type(ref) is not ObjectRef:
            raise exceptions.ReferenceTypeError(
                f"{caller}() takes references; the list has an item of type {type(ref).__name__}"
            )
    return list(listed)

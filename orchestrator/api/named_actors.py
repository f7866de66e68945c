"""What named actors there are."""

from __future__ import annotations

from typing import Literal, overload

from orchestrator.api.session import ensure_runtime


@overload
def list_named_actors(all_namespaces: Literal[False] = False) -> list[str]: ...
@overload
def list_named_actors(all_namespaces: Literal[True]) -> list[dict[str, str]]: ...
def list_named_actors(all_namespaces: bool = False) -> list[str] | list[dict[str, str]]:
    """Return the names of the living actors of this namespace, in order.

    With `all_namespaces`, dicts with `namespace` and `name` of all.
    """
    runtime = ensure_runtime()
    namespace = None if all_namespaces else runtime.info.get("namespace") or ""
    found: list[dict[str, str]] = []
    while True:
        answer = runtime.node.ask({"op": "list_names", "namespace": namespace, "skip": len(found)})
        found += answer["names"]
        if not answer["names"] or len(found) >= answer["count"]:
            break
    return found if all_namespaces else [entry["name"] for entry in found]

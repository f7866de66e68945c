"""A cluster on one machine, for tests. So far a cluster of one node: this process's session."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from orchestrator.api.session import init, shutdown


class Cluster:
    """The session as a cluster: `Cluster(initialize_head=True, connect=True, head_node_args={...})`.

    Args:
        initialize_head: start the first node now, rather than with the first `add_node`.
        connect: must be True when there is a node: a session belongs to the process that starts it.
        head_node_args: what `init` takes.

    Raises:
        NotImplementedError: a node without `connect`; a second node.
        RuntimeError: a session is running in this process.
    """

    def __init__(
        self,
        initialize_head: bool = False,
        connect: bool = False,
        head_node_args: dict[str, Any] | None = None,
    ) -> None:
        self.head_node: Any = None
        self._connect = connect
        if initialize_head:
            self.add_node(**(head_node_args or {}))

    @property
    def address(self) -> str:
        """What `init` would be given; this process takes part already."""
        return "local"

    def add_node(self, wait: bool = True, **node_args: Any) -> Any:
        """Start the first node, with what `init` takes, and return the session.

        Raises:
            NotImplementedError: there is one, or `connect` was not asked for.
        """
        if self.head_node is not None:
            raise NotImplementedError("a cluster has one node so far: several machines are not supported yet")
        if not self._connect:
            raise NotImplementedError(
                "a session belongs to the process that starts it: pass connect=True to Cluster()"
            )
        self.head_node = init(**node_args)
        return self.head_node

    def wait_for_nodes(self, timeout: float = 30) -> None:
        """Return at once: a node that was added is there."""

    def list_all_nodes(self) -> list[Any]:
        """Return the nodes: one or none."""
        return [] if self.head_node is None else [self.head_node]

    def remove_node(self, node: Any, allow_graceful: bool = True) -> None:
        """End the node, and with it the session.

        Raises:
            ValueError: it is not this cluster's.
        """
        if node is None or node is not self.head_node:
            raise ValueError(f"{node!r} is not a node of this cluster")
        self.shutdown()

    def shutdown(self) -> None:
        """End the session."""
        if self.head_node is not None:
            self.head_node = None
            shutdown()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

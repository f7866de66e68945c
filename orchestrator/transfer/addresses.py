"""Where a node's object service is."""

from __future__ import annotations

from typing import NamedTuple


class NodeAddress(NamedTuple):
    """A node, and where its object service listens."""

    node: int
    host: str
    port: int

    @property
    def target(self) -> str:
        """As gRPC wants it; IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

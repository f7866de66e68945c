"""The link of a node's loop to the head: what the node uses, whatever is behind it.

`Link` is the interface; `GcsLink` is the one with a network. The simulation has its own. None of the types
here knows of gRPC, threads or sockets, except that a link may have a descriptor to wait on.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from orchestrator.gcs.messages import Heartbeat, LinkEvent, MustLeave, NodeSpec
from orchestrator.gcs.requests import Answer, Refused, Request
from orchestrator.rpc.network_thread import NetworkThread
from orchestrator.rpc.versions import own_versions

if TYPE_CHECKING:
    from orchestrator.gcs.client import GcsClient
    from orchestrator.rpc.credentials import Identity
    from orchestrator.rpc.versions import Versions

#: How long a node that ends waits until the head has heard of it.
LEAVE_TIMEOUT_S = 1.0

Callback = Callable[[Answer], None]


class Link(Protocol):
    """What the node's loop calls; from one thread."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while `poll` has something."""

    def poll(self) -> list[LinkEvent]:
        """Call back for requests that are answered, and return what came down meanwhile, in order."""

    def submit(self, request: Request, callback: Callback | None = None) -> None:
        """Ask the head; `callback` is called in `poll` with the answer, sooner or later and exactly once.

        It is `Refused("dead", ...)` if the node turns out to be no part of the cluster. Requests may overtake
        each other: whoever wants an order submits the second in the callback of the first.
        """

    def report(self, heartbeat: Heartbeat) -> None:
        """Say this with the next heartbeats; the newest counts."""

    def close(self, reason: str = "") -> None:
        """End the link; with a reason, the head is told that the node leaves. No callback comes after it."""


class GcsLink:
    """A link over gRPC, in the node's network thread.

    Args:
        thread: the network thread; it stays the caller's.
        address: `host:port` of the head.
        identity: this node's, from joining.
        spec: what the node says of itself.
        versions: those of this process by default.
        rng: for back-off.
    """

    def __init__(
        self,
        thread: NetworkThread,
        address: str,
        identity: Identity,
        spec: NodeSpec,
        *,
        versions: Versions | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._thread = thread
        self._events: deque[LinkEvent] = deque()
        self._is_closed = False
        rng = random.Random() if rng is None else rng
        versions = own_versions() if versions is None else versions
        self._client: GcsClient | None = None
        thread.spawn(self._run(address, identity, versions, spec, rng))

    async def _run(
        self, address: str, identity: Identity, versions: Versions, spec: NodeSpec, rng: random.Random
    ) -> None:
        try:
            from orchestrator.gcs.client import GcsClient, Peer

            # Made in its loop and thread; what is submitted before waits in the loop's queue behind this.
            self._client = GcsClient(Peer(address, identity, versions, spec), self._on_event, rng)
            await self._client.run()
        except Exception as exc:
            # A package that is missing, or a mistake of ours: a node without a link must not live on unaware.
            self._on_event(MustLeave(f"the link to the head failed: {type(exc).__name__}: {exc}"))
            raise

    def _on_event(self, event: LinkEvent) -> None:
        self._thread.post(lambda: self._events.append(event))

    def fileno(self) -> int:
        """Return the network thread's descriptor, which others of the node may share."""
        return self._thread.fileno()

    def poll(self) -> list[LinkEvent]:
        """See `Link`."""
        self._thread.poll()
        out = list(self._events)
        self._events.clear()
        return out

    def submit(self, request: Request, callback: Callback | None = None) -> None:
        """See `Link`."""
        self._thread.spawn(self._call(request, callback))

    async def _call(self, request: Request, callback: Callback | None) -> None:
        answer: Answer = Refused("dead", "the link was closed, or never stood")
        try:
            if self._client is not None:
                answer = await self._client.call(request)
        except asyncio.CancelledError:
            pass
        if callback is not None and not self._is_closed:
            self._thread.post(lambda: None if self._is_closed else callback(answer))

    def report(self, heartbeat: Heartbeat) -> None:
        """See `Link`."""
        self._thread.call(self._report, heartbeat)

    def _report(self, heartbeat: Heartbeat) -> None:
        if self._client is not None:
            self._client.report(heartbeat)

    def close(self, reason: str = "") -> None:
        """See `Link`."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._thread.wait_for(self._close(reason), LEAVE_TIMEOUT_S)
        except TimeoutError:
            pass  # the head will notice by itself

    async def _close(self, reason: str) -> None:
        if self._client is not None and reason:
            await self._client.leave(reason)

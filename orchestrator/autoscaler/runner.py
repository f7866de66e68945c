"""The shell of the autoscaler: looks, asks the reconciler, and does what it says. An asyncio task.

It runs beside the tables of the head, or in a process of its own; what it needs of the cluster is a
`ClusterPort`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orchestrator.autoscaler.config import AutoscalerConfig
from orchestrator.autoscaler.demand import Demand
from orchestrator.autoscaler.providers.provider import Provider, ProviderError
from orchestrator.autoscaler.reconciler import (
    ClusterNode,
    Drain,
    Instruction,
    Launch,
    Observation,
    Persist,
    ProviderInstance,
    Reconciler,
    Say,
    Terminate,
)

log = logging.getLogger(__name__)

#: How often it looks.
INTERVAL_S = 0.5
#: A provider that does not answer in this time has failed.
CALL_TIMEOUT_S = 120.0
#: Launches at the same time.
LAUNCHES_MAX = 16


class ClusterPort(Protocol):
    """What the autoscaler needs of the cluster. Where a call raises `ConnectionError` it is tried again."""

    async def nodes(self) -> Sequence[ClusterNode]:
        """Return the nodes that live."""
        ...

    async def demand(self) -> Demand:
        """Return what waits, and what was requested."""
        ...

    async def limits(self) -> tuple[int, int] | None:
        """Return the (minimum, maximum) of nodes that a program has asked for; None if none has."""
        ...

    async def drain(self, node: str, cause: str) -> None:
        """Have a node take nothing new, move its objects away, and leave when nothing is left on it."""
        ...

    async def load(self) -> Sequence[Mapping[str, Any]]:
        """Return what was last saved."""
        ...

    async def save(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write down the records of the instances, such that the next `load` returns them whatever dies."""
        ...

    async def say(self, text: str) -> None:
        """Tell the operator."""
        ...


class Runner:
    """See the module's text.

    Args:
        config: what is allowed, before a program asks for other limits.
        provider: where machines come from.
        cluster: the cluster.
        new_request: returns a name that no request had before, of letters, digits and dashes.
        interval_s: how often it looks.
    """

    def __init__(
        self,
        config: AutoscalerConfig,
        provider: Provider,
        cluster: ClusterPort,
        new_request: Any,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._config = config
        self._provider = provider
        self._cluster = cluster
        self._new_request = new_request
        self._interval_s = interval_s
        self._reconciler: Reconciler | None = None

    async def run(self) -> None:
        """Look and act until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self.step(loop.time())
            except (ConnectionError, asyncio.TimeoutError) as exc:
                log.warning("the autoscaler could not reach the cluster, and tries again: %s", exc)
            await asyncio.sleep(self._interval_s)

    async def step(self, now_s: float) -> None:
        """Look once, and do what follows.

        Raises:
            ConnectionError: the cluster could not be reached; what was not done will be.
        """
        if self._reconciler is None:
            records = await self._cluster.load()
            self._reconciler = Reconciler(self._config, self._new_request, records, now_s)
        limits = await self._cluster.limits()
        self._reconciler.config = self._config if limits is None else self._config.within(*limits)
        seen = Observation(await self._machines(), await self._cluster.nodes(), await self._cluster.demand())
        instructions = self._reconciler.step(seen, now_s)
        launches = [one for one in instructions if isinstance(one, Launch)]
        for one in instructions:
            if not isinstance(one, Launch):
                try:
                    await self._perform(one)
                except ConnectionError:
                    # What was to be written down is not: the records would no longer be what they say.
                    self._reconciler = None
                    raise
        for start in range(0, len(launches), LAUNCHES_MAX):
            await asyncio.gather(
                *(self._launch(one, now_s) for one in launches[start : start + LAUNCHES_MAX])
            )

    async def _machines(self) -> Sequence[ProviderInstance] | None:
        try:
            return await asyncio.wait_for(self._provider.machines(), CALL_TIMEOUT_S)
        except (ProviderError, asyncio.TimeoutError) as exc:
            await self._cluster.say(f"the provider does not say which machines there are: {exc}")
            return None

    async def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Persist(records):
                await self._cluster.save(records)
            case Terminate(provider_id, _):
                try:
                    await asyncio.wait_for(self._provider.terminate(provider_id), CALL_TIMEOUT_S)
                except (ProviderError, asyncio.TimeoutError) as exc:
                    await self._cluster.say(f"machine {provider_id} could not be taken back: {exc}")
            case Drain(node, cause):
                await self._cluster.drain(node, cause)
            case Say(text):
                await self._cluster.say(text)

    async def _launch(self, launch: Launch, now_s: float) -> None:
        assert self._reconciler is not None
        node_type = self._reconciler.config.node_types[launch.node_type]
        try:
            await asyncio.wait_for(self._provider.launch(launch.request, node_type), CALL_TIMEOUT_S)
        except ProviderError as exc:
            self._reconciler.launch_failed(launch.request, str(exc), now_s)
            await self._cluster.say(f"a node of type {launch.node_type!r} could not be started: {exc}")
        except asyncio.TimeoutError:
            pass  # it may be made yet: the reconciler sees it, or gives it up after a while

"""The autoscaler in the head's process: begun with it, ended with it, and never in its way.

It has no state of its own. What it must not forget lies in the head's storage (`wishes.INSTANCES`), so a head
that is started again goes on where the one before had stopped.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable

from orchestrator.autoscaler.config import AutoscalerConfig
from orchestrator.autoscaler.head_port import HeadPort
from orchestrator.autoscaler.providers import ClusterFacts, make_provider
from orchestrator.autoscaler.providers.provider import Provider
from orchestrator.autoscaler.runner import Runner
from orchestrator.common.ids import random_hex
from orchestrator.gcs.requests import DeleteValue, PutValue
from orchestrator.gcs.server import GcsServer
from orchestrator.scheduling.cluster import potential
from orchestrator.scheduling.cluster.view import NodeType

#: After a mistake of ours it begins anew, as often as this.
PAUSE_S = 5.0


class Autoscaler:
    """See the module's text.

    Args:
        server: the head.
        config: what is allowed.
        facts: what the provider has to know of the cluster.
        complain: tells the operator a line.

    Raises:
        ConfigError: the provider can't be made of this.
    """

    def __init__(
        self,
        server: GcsServer,
        config: AutoscalerConfig,
        facts: ClusterFacts,
        complain: Callable[[str], None],
    ) -> None:
        self._server = server
        self._config = config
        self._complain = complain
        self._provider: Provider = make_provider(config, facts)

    async def announce(self) -> None:
        """Have all nodes know what could be started."""
        types = [NodeType(one.name, one.resources, one.labels) for one in self._config.node_types.values()]
        await self._server.ask(PutValue(potential.NAMESPACE, potential.TYPES, potential.to_value(types)))

    async def run(self) -> None:
        """Look and act until cancelled."""
        try:
            while True:
                port = HeadPort(self._server, self._complain, time.monotonic)
                try:
                    await Runner(self._config, self._provider, port, _new_request).run()
                except Exception:
                    # The head must not end of it: whatever runs has nothing to do with who starts more.
                    self._complain(f"the autoscaler failed, and begins anew: {traceback.format_exc()}")
                    await asyncio.sleep(PAUSE_S)
        finally:
            await self._provider.close()


async def forget(server: GcsServer) -> None:
    """Have no node wait for nodes to be started: this head has no autoscaler, though one before had."""
    await server.ask(DeleteValue(potential.NAMESPACE, potential.TYPES))


def _new_request() -> str:
    return random_hex()[:16]

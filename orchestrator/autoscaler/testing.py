"""What every provider of machines must do, as a suite: `await check_provider(provider, node_type)`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from orchestrator.autoscaler.config import NodeType
from orchestrator.autoscaler.providers.provider import Provider
from orchestrator.autoscaler.reconciler import ProviderInstance

#: How often is looked, and when it is given up.
LOOK_S, PATIENCE_S = 0.02, 60.0


async def check_provider(provider: Provider, node_type: NodeType, cluster: str) -> None:
    """Take a provider of which no machine exists yet through its duties, and leave none.

    Raises:
        AssertionError: it does not do what it should; the text says what.
    """

    async def mine() -> dict[str, ProviderInstance]:
        found = await provider.machines()
        return {one.request: one for one in found if one.cluster == cluster and one.request}

    async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
        for _ in range(int(PATIENCE_S / LOOK_S)):
            if await condition():
                return
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"it never came to this: {what}")

    async def are(*requests: str) -> bool:
        return set(await mine()) == set(requests)

    assert await are(), "it begins without machines"
    await provider.launch("conformance-1", node_type)
    await until(lambda: are("conformance-1"), "a machine is shown after its launch")
    shown = (await mine())["conformance-1"]
    assert shown.node_type == node_type.name, "a machine is shown with its type"
    assert shown.provider_id, "a machine has a name"

    await provider.launch("conformance-1", node_type)
    await provider.launch("conformance-2", node_type)
    await until(lambda: are("conformance-1", "conformance-2"), "a second request is another machine")
    ids = [one.provider_id for one in await provider.machines() if one.cluster == cluster]
    assert len(ids) == len(set(ids)) == 2, "a request that is repeated makes no second machine"

    async def runs() -> bool:
        return (await mine())["conformance-1"].is_running

    await until(runs, "a machine runs")
    await provider.terminate(shown.provider_id)
    await provider.terminate(shown.provider_id)
    await until(lambda: are("conformance-2"), "a machine that is taken back is not shown any more")
    await provider.terminate(shown.provider_id)
    await provider.terminate("no-such-machine")
    for one in list((await mine()).values()):
        await provider.terminate(one.provider_id)
    await until(are, "nothing is left")

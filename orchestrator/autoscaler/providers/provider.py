"""What a provider of machines has to do. `orchestrator.autoscaler.testing` shows whether it does.

A provider remembers, with each machine, the *request* it was made for and the *cluster*: in tags, labels,
names, whatever it has. That is all the state that the autoscaler wants it to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.autoscaler.config import NodeType
from orchestrator.autoscaler.reconciler import ProviderInstance


class ProviderError(Exception):
    """The provider has not done what it was asked for; the text says why, for the operator."""


class Provider(Protocol):
    """Makes machines, shows them, and takes them back."""

    async def launch(self, request: str, node_type: NodeType) -> None:
        """Have a machine made that joins the cluster by itself.

        As a node it has the label `INSTANCE_LABEL` with the request. It may return long before the machine
        runs. A request that was made already is not made again.

        Raises:
            ProviderError: it will not be made.
        """
        ...

    async def terminate(self, provider_id: str) -> None:
        """Have a machine taken back, at once and whatever it does. One that is gone is no error.

        Raises:
            ProviderError: it could not be done; it will be asked for again.
        """
        ...

    async def machines(self) -> Sequence[ProviderInstance]:
        """Return every machine that exists, those of others included where they can be seen.

        Raises:
            ProviderError: it is not known at the moment.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. Machines go on running, unless they can't live without the provider."""
        ...

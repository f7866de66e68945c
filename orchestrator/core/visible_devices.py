"""Which GPUs and other devices the code in this worker may use.

Worker processes begin with none visible. One that runs a task or an actor with devices asks the node which,
and sets the variables by which libraries find theirs, before any user code runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from orchestrator.common.accelerators import KEEP_VARIABLE, VISIBLE_VARIABLES

if TYPE_CHECKING:
    from orchestrator.core.node_link import NodeLink


class VisibleDevices:
    """Sets the variables of this process."""

    def __init__(self, node: NodeLink) -> None:
        self._node = node
        #: Resource name to the ids of the devices that are held.
        self.ids: dict[str, list[str]] = {}
        self._before: dict[str, str | None] = {}

    def hold(self, resources: Iterable[str]) -> None:
        """Make visible what belongs to these resources; nothing else is visible afterwards."""
        if not self.ids and VISIBLE_VARIABLES.keys().isdisjoint(resources):
            return
        wanted = [name for name in resources if name in VISIBLE_VARIABLES]
        self._restore()
        devices: Mapping[str, list[str]] = self._node.ask({"op": "assignment"})["devices"] if wanted else {}
        self.ids = dict(devices)
        if KEEP_VARIABLE not in os.environ:
            for name, ids in devices.items():
                for variable in VISIBLE_VARIABLES[name]:
                    self._before[variable] = os.environ.get(variable)
                    os.environ[variable] = ",".join(ids)

    def _restore(self) -> None:
        for variable, value in self._before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value
        self._before = {}

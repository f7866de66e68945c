"""Which node has most of what a task will read, so that it is asked for first.

A task whose large arguments lie on one node is queued apart from others of its class, and the demand for
that queue names the node: the router asks there first, as long as there is room
(`scheduling/cluster/policies.py`). Known are the bytes on this node, which the store knows, and those of
results that were made elsewhere for this process, as the reply says where. Of references that came from
other processes only their homes know.

What an argument weighs is its size. References further inside values weigh nothing: nobody knows whether
they will be read.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from typing import TYPE_CHECKING

from orchestrator.common import config
from orchestrator.core.entry import Entry
from orchestrator.core.part import Part
from orchestrator.core.task import Dependencies, Task
from orchestrator.objects.plasma_adapter import Hold

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime


class Locality(Part):
    """See the module's text. In a session of one node nobody asks it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        #: large results that other nodes have made: the node, and bytes
        self._made_at: weakref.WeakKeyDictionary[Entry, tuple[int, int]] = weakref.WeakKeyDictionary()
        runtime.completion.made_at = self._made

    def _made(self, entry: Entry, place: tuple[int, int] | None) -> None:
        """A result of ours is there, on another node if that is given."""
        if place is not None and place[1] >= config.LOCALITY_BYTES_MIN:
            self._made_at[entry] = place
        else:
            self._made_at.pop(entry, None)

    def place(self, task: Task) -> None:
        """Have a task whose arguments are known be queued for the node that has most of them."""
        queue = task.template.queue
        if queue is not None and queue.scheduling.placement is None:
            task.near = self._heaviest(task)

    def _heaviest(self, task: Task) -> int:
        """Return the node that has most bytes of the arguments; 0 if no node has many."""
        runtime, held = self._runtime, task.held
        inside, direct = (held.inside, held.direct) if type(held) is Dependencies else (held, ())
        # What is stored as one object are the arguments themselves, which are large.
        read = [*direct, inside] if type(inside) is Hold else direct
        bytes_at: defaultdict[int, int] = defaultdict(int)
        for item in read:
            identity = item.object_id if type(item) is Hold else runtime.id_of(item)
            bytes_at[runtime.here] += runtime.store.size_of(identity) or 0
            if type(item) is Entry and item in self._made_at:
                node, size_bytes = self._made_at[item]
                bytes_at[node] += size_bytes
        heaviest = max(bytes_at, key=lambda node: (bytes_at[node], node == runtime.here), default=0)
        return heaviest if bytes_at[heaviest] >= config.LOCALITY_BYTES_MIN else 0

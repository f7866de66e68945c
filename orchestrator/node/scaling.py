"""What this node and its programs have to do with the autoscaler: they hear what it may start, and say what
they wish.

Both lie in the head's key-value store, so a head that is away, or started anew, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.gcs.requests import Answer, GetValue, PutValue, Refused, Value
from orchestrator.scheduling.cluster import potential

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember

#: What a program may wish: keys of the store.
WISHES = ("limits", "requested")
#: Where the autoscaler's records are, and what of them is shown to people; of a text, so much.
INSTANCES, SHOWN, TEXT_MAX = b"instances", ("type", "state", "node", "cause"), 200
#: The answer where nobody starts nodes; programs may know it.
NO_AUTOSCALER = "nobody starts nodes here: the cluster was begun without --autoscaling-config"


class Scaling:
    """See the module's text."""

    def __init__(self, member: ClusterMember) -> None:
        self._member = member

    def learn(self) -> None:
        """Ask what may be started: a head that was started anew may have another autoscaler, or none."""

        def on_answer(answer: Answer) -> None:
            if not isinstance(answer, Value):
                return
            try:
                self._member.leases.may_be_started(potential.from_value(answer.value))
            except ValueError as error:
                self._member.complain(f"what could be started is not known: {error}")

        self._member.head.submit(GetValue(potential.NAMESPACE, potential.TYPES), on_answer)

    def wish(self, key: str, value: bytes, answer: Callable[[str], None]) -> None:
        """Write a wish down for the autoscaler; `answer` is called with why that can't be, or ""."""
        if key not in WISHES:
            answer(f"nobody can wish {key!r:.100}; there are {', '.join(WISHES)}")
            return

        def on_types(found: Answer) -> None:
            if isinstance(found, Value) and found.value is None:
                answer(NO_AUTOSCALER)
            else:
                put = PutValue(potential.NAMESPACE, key.encode(), value)
                self._member.head.submit(
                    put, lambda said: answer(said.text if isinstance(said, Refused) else "")
                )

        self._member.head.submit(GetValue(potential.NAMESPACE, potential.TYPES), on_types)

    def instances(self, answer: Callable[[list[dict[str, str]] | None], None]) -> None:
        """Call `answer` with what the autoscaler has written down of its nodes; None if there is none."""

        def on_answer(found: Answer) -> None:
            if not isinstance(found, Value) or found.value is None:
                answer(None)
                return
            records = json.loads(found.value)
            answer([{name: str(one[name])[:TEXT_MAX] for name in SHOWN} for one in records])

        self._member.head.submit(GetValue(potential.NAMESPACE, INSTANCES), on_answer)

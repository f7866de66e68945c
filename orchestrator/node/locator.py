"""Where objects are: each home knows it of its own, and a node asks the homes on behalf of its processes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.common.ids import home_of
from orchestrator.gateway import directory_records as states
from orchestrator.node.questions import Fields, Reply

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon

LOCATE = "locate"

#: Of an object: ids of the nodes, size in bytes (0: not known), whether it is on a disk.
Row = list[Any]


class Locator:
    """See the module's text."""

    def __init__(self, member: ClusterMember, node: Daemon) -> None:
        self._member = member
        self._node = node
        member.questions.handlers[LOCATE] = self._on_locate

    def locate(self, sender: int, objects: list[bytes], request: int) -> None:
        """Tell a process where these objects are. Of homes that are dead nothing is known."""
        by_home: dict[int, list[str]] = {}
        for identity in objects:
            by_home.setdefault(home_of(identity), []).append(identity.hex())
        alive = self._member.peers | {self._member.here}
        waiting = {home for home in by_home if home in alive}
        found: dict[str, Row] = {}

        def answered(home: int, answer: Fields | None) -> None:
            waiting.discard(home)
            found.update(answer["found"] if answer is not None else {})
            if not waiting:
                self._node.outbox.send(sender, {"op": "reply", "req": request, "found": found})

        if not waiting:
            answered(0, None)
        for home in sorted(waiting):
            self._member.questions.ask(home, LOCATE, {"objects": by_home[home]}, partial(answered, home))

    def _on_locate(self, node: int, fields: Fields, reply: Reply) -> None:
        ids = {one.node: one.node_id for one in self._member.head.nodes()}
        found: dict[str, Row] = {}
        for text in fields["objects"]:
            identity = bytes.fromhex(text)
            state = self._node.store.state(identity)
            copies, size_bytes = self._member.objects.directory.copies(identity)
            nodes = ([self._member.here] if state in states.HERE else []) + copies
            if nodes:
                names = [ids[one] for one in nodes if one in ids]
                found[text] = [names, size_bytes, state == states.SPILLED]
        reply({"found": found})

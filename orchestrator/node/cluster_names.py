"""Names of actors and objects where they are the cluster's: what processes of this node ask about them.

The head's table says who has a name, and gives it to one of those who want it at the same time. Whether what
has the name still lives, its *home* knows, the node that claimed the name: so who finds a name asks there.
That question goes behind all that the asking process has said, and what it has killed is dead.

================= ======================== ==================================================================
asked             the head                 then
================= ======================== ==================================================================
create an actor   gives the name           it is created
..                has given it to another  its home is asked: the answer is that actor, or the name is free
                                           by now and is claimed again
find an actor     knows the home           the home is asked
name an object    gives the name           this node holds the object (`keepsakes`)
find an object    knows the id             the answer
forget an object  knows the home           it lets go, and gives the name back
list              lists                    the answer
================= ======================== ==================================================================

The head takes names back of jobs that are over and of nodes that are dead; all others their homes give back.
While the head is out of reach, questions wait; whoever asked gives up by its own deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.gcs.requests import (
    Answer,
    ClaimName,
    Done,
    FindName,
    FreeName,
    ListNames,
    Name,
    Names,
    Refused,
)
from orchestrator.node.questions import Fields, Reply

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon

#: Names in an answer that lists them: it has to fit into a message.
LISTED_MAX = 200
#: Claims of one name for one asker. Each but the first means that somebody else's actor has just died.
CLAIMS_MAX = 20

ACTOR, OBJECT = "actor", "object"
#: Topics of questions between nodes.
HOLDER, FORGET = "name_holder", "name_forget"

#: (kind, namespace, name)
Key = tuple[str, str, str]


class ClusterNames:
    """See the module's text."""

    def __init__(self, member: ClusterMember, node: Daemon) -> None:
        self._member = member
        self._node = node
        #: What this node has claimed, and is the home of: key and id.
        self._ours: set[tuple[Key, str]] = set()
        #: Names of actors, by the actor.
        self._of_actor: dict[str, Key] = {}
        #: Objects with a name that this node holds.
        self._objects: dict[Key, bytes] = {}
        member.questions.handlers[HOLDER] = self._on_holder
        member.questions.handlers[FORGET] = self._on_forget

    def handle(self, sender: int, op: str, fields: Fields) -> bool:
        """Answer what a process asks about names; False if it asks something else."""
        match op:
            case "create_actor" if fields["name"] is not None:
                self._create_actor(sender, fields, CLAIMS_MAX)
            case "get_actor":
                self._find_actor(sender, fields)
            case "list_names":
                self._list(sender, ACTOR, fields)
            case "name_object":
                self._name_object(sender, fields, CLAIMS_MAX)
            case "find_object":
                self._find_object(sender, fields)
            case "forget_object":
                self._forget_object(sender, fields)
            case "list_named_objects":
                self._list(sender, OBJECT, fields)
            case _:
                return False
        return True

    def _reply(self, client: int, request: int, **answer: Any) -> None:
        self._node.outbox.send(client, {"op": "reply", "req": request, **answer})

    # ------------------------------------------------------------ claiming

    def _claim(
        self,
        sender: int,
        name: Name,
        tries: int,
        claimed: Callable[[], None],
        refused: Callable[[str, str], None],
    ) -> None:
        """Claim a name for what a process has; `refused` gets the holder's id or "", and why."""
        key = (name.kind, name.namespace, name.name)
        self._ours.add((key, name.id))

        def answered(answer: Answer) -> None:
            if isinstance(answer, Done):
                claimed()
                return
            self._ours.discard((key, name.id))
            code = answer.code if isinstance(answer, Refused) else "invalid"
            text = answer.text if isinstance(answer, Refused) else repr(answer)
            if code != "taken" or not tries:
                refused("", text)
                return
            self._who_has(
                sender,
                key,
                lambda found: (
                    refused(found, "exists")
                    if found
                    else self._claim(sender, name, tries - 1, claimed, refused)
                ),
            )

        self._member.head.submit(ClaimName(name), answered)

    def _who_has(self, sender: int, key: Key, on_found: Callable[[str], None]) -> None:
        """Find out what has a name and lives; "" if nothing has."""

        def found(answer: Answer) -> None:
            if not isinstance(answer, Name):
                on_found("")
                return
            question = {"kind": answer.kind, "namespace": answer.namespace, "name": answer.name}
            question["id"] = answer.id

            def said(reply: Fields | None) -> None:
                # A home that has died leaves the name to the head, which takes it back.
                on_found(answer.id if reply is not None and reply["holds"] else "")

            self._member.questions.ask(answer.home, HOLDER, question, said, behind=sender)

        self._member.head.submit(FindName(*key), found)

    def _on_holder(self, node: int, fields: Fields, reply: Reply) -> None:
        """Is it still so that this node answers for a name?"""
        key, identity = _key_of(fields), str(fields["id"])
        if (key, identity) in self._ours:
            reply({"holds": True})
        else:  # the name is being given back
            free = FreeName(*key, identity)
            self._member.head.submit(free, lambda _: reply({"holds": False}))

    def _give_back(self, key: Key, identity: str) -> None:
        if (key, identity) in self._ours:
            self._ours.remove((key, identity))
            self._member.head.submit(FreeName(*key, identity))

    # ------------------------------------------------------------ actors

    def _create_actor(self, sender: int, fields: Fields, tries: int) -> None:
        actor, request = fields["actor"], fields["req"]
        name = Name(
            ACTOR,
            fields["namespace"],
            fields["name"],
            actor,
            self._member.here,
            job=self._node.jobs.of(sender),
            detached=fields["detached"],
        )
        key = (ACTOR, name.namespace, name.name)

        def claimed() -> None:
            if not self._is_there(sender):
                self._give_back(key, actor)  # it has died meanwhile
                self._member.keepsakes.actor_gone(actor)
                return
            self._of_actor[actor] = key
            self._node.handlers.create_actor(sender, fields)
            if not self._node.actors.lives(actor):
                self._member.actor_gone(actor)

        def refused(holder: str, text: str) -> None:
            self._member.keepsakes.actor_gone(actor)
            if not holder:
                self._reply(sender, request, error=text, cause=text)
            elif fields["get_if_exists"]:
                self._reply(sender, request, found=True, actor=holder, handle="")
            else:
                self._reply(sender, request, found=True, actor=holder, handle="", error=text)

        self._claim(sender, name, tries, claimed, refused)

    def _is_there(self, process: int) -> bool:
        return process in self._node.clients or self._member.stand_ins.at(process) is not None

    def actor_gone(self, actor: str) -> None:
        """An actor of this node is dead: its name is free."""
        key = self._of_actor.pop(actor, None)
        if key is not None:
            self._give_back(key, actor)

    def _find_actor(self, sender: int, fields: Fields) -> None:
        def found(actor: str) -> None:
            if actor:
                self._reply(sender, fields["req"], found=True, actor=actor, handle="")
            else:
                self._reply(sender, fields["req"], found=False)

        self._who_has(sender, (ACTOR, fields["namespace"], fields["name"]), found)

    # ------------------------------------------------------------ objects

    def _name_object(self, sender: int, fields: Fields, tries: int) -> None:
        identity: bytes = fields["object"]
        job = self._node.jobs.get(self._node.jobs.of(sender))
        anonymous = job is not None and job.spec.is_anonymous and job.spec.namespace == fields["namespace"]
        key = (OBJECT, fields["namespace"], fields["name"])
        name = Name(*key, identity.hex(), self._member.here, job=job.job if job and anonymous else "")

        def claimed() -> None:
            if self._member.keepsakes.add_ref(identity):
                self._objects[key] = identity
                self._reply(sender, fields["req"], named=True)
            else:
                self._give_back(key, identity.hex())
                self._reply(sender, fields["req"], named=False)

        def refused(holder: str, text: str) -> None:
            self._reply(sender, fields["req"], named=False, error=text)

        self._claim(sender, name, tries, claimed, refused)

    def _find_object(self, sender: int, fields: Fields) -> None:
        def found(answer: Answer) -> None:
            identity = answer.id if isinstance(answer, Name) else None
            self._reply(sender, fields["req"], object=identity)

        self._member.head.submit(FindName(OBJECT, fields["namespace"], fields["name"]), found)

    def _forget_object(self, sender: int, fields: Fields) -> None:
        key = (OBJECT, fields["namespace"], fields["name"])

        def forgotten(answer: Fields | None) -> None:
            self._reply(sender, fields["req"], forgotten=answer is not None and answer["forgotten"])

        def found(answer: Answer) -> None:
            if isinstance(answer, Name):
                question = {"kind": OBJECT, "namespace": answer.namespace, "name": answer.name}
                self._member.questions.ask(answer.home, FORGET, question, forgotten, behind=sender)
            else:
                self._reply(sender, fields["req"], forgotten=False)

        self._member.head.submit(FindName(*key), found)

    def _on_forget(self, node: int, fields: Fields, reply: Reply) -> None:
        key = _key_of(fields)
        identity = self._objects.pop(key, None)
        if identity is None:
            reply({"forgotten": False})
            return
        self._ours.discard((key, identity.hex()))
        self._member.keepsakes.drop_ref(identity)
        self._member.head.submit(FreeName(*key, identity.hex()), lambda _: reply({"forgotten": True}))

    def forget_all(self, namespace: str) -> None:
        """Let all objects of a namespace go that are held here: nobody can ask for them any more."""
        for key, identity in [item for item in self._objects.items() if item[0][1] == namespace]:
            del self._objects[key]
            self._give_back(key, identity.hex())
            self._member.keepsakes.drop_ref(identity)

    # ------------------------------------------------------------ lists

    def _list(self, sender: int, kind: str, fields: Fields) -> None:
        skip = fields["skip"]

        def listed(answer: Answer) -> None:
            names = answer.names if isinstance(answer, Names) else ()
            page = [{"namespace": one.namespace, "name": one.name} for one in names[skip : skip + LISTED_MAX]]
            self._reply(sender, fields["req"], names=page, count=len(names))

        self._member.head.submit(ListNames(kind, fields["namespace"]), listed)


def _key_of(fields: Fields) -> Key:
    return (str(fields["kind"]), str(fields["namespace"]), str(fields["name"]))

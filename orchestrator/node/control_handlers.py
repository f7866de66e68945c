"""What clients of the node ask for, one method for each op of a control message.

`control` has checked the fields before anything here is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.node import control
from orchestrator.scheduling import events
from orchestrator.scheduling.actor_table import ActorSpec
from orchestrator.scheduling.jobs import PRIVATE, job_of, key_of
from orchestrator.scheduling.placement_groups import GroupSpec
from orchestrator.scheduling.wait_graph import Ask, Break, Waiting

if TYPE_CHECKING:
    from orchestrator.node.cluster_member import ClusterMember
    from orchestrator.node.daemon import Daemon

#: Entries in an answer that lists things: it has to fit into a message of 128 KiB.
LISTED_MAX = 200
#: Characters of a text in such a list.
LISTED_TEXT_MAX = 200

#: Of what a process says it does, in an error's text.
NAME_CHARS_MAX = 200
#: Of an actor's `repr`, in the prefix of its lines.
LABEL_CHARS_MAX = 100

#: What those say who are no clients yet.
_FROM_STRANGERS = frozenset({"ready", "attach"})
#: What processes of other nodes may ask for.
_FROM_ABROAD = frozenset(
    {
        "resolve_actor",
        "kill_actor",
        "actor_state",
        "return",
        "kill_worker",
        "list_actors",
        "resources",
        "create_actor",
    }
)
#: Fields whose names are Python's own.
_PARAMETERS = {"class": "class_key"}


class ControlHandlers:
    """Answers control messages for one node."""

    def __init__(self, node: Daemon) -> None:
        self._node = node
        #: answers that wait until all that was sent before their questions has been read
        self._postponed: list[Callable[[], None]] = []

    def handle(self, sender: int, payload: bytes) -> None:
        """Do what a message asks for; one that makes no sense is written down and survived."""
        try:
            op, fields = control.decode(payload)
        except control.BadMessage as exc:
            self._node.complain(f"from {sender}: {exc}")
            if exc.request is not None:
                answer = {"op": "reply", "req": exc.request, "error": f"bad message: {exc}"}
                self._node.outbox.send(sender, answer)
            return
        if op not in _FROM_STRANGERS and sender not in self._node.clients:
            self._node.complain(f"{op} from {sender}, which is no client")
            return
        member = self._node.member
        if member is not None and member.route(sender, op, fields, payload):
            return
        getattr(self, f"on_{op}")(sender, **{_PARAMETERS.get(name, name): v for name, v in fields.items()})

    def handle_from_abroad(self, sender: int, payload: bytes) -> None:
        """Do what a process of another node asks for; `sender` is its stand-in.

        Raises:
            BadMessage: it makes no sense.
        """
        op, fields = control.decode(payload)
        if op not in _FROM_ABROAD:
            raise control.BadMessage(f"{op}: not for processes of other nodes")
        if op == "create_actor" and self._node.member is not None:
            self._create_detached(self._node.member, sender, fields)
            return
        getattr(self, f"on_{op}")(sender, **{_PARAMETERS.get(name, name): v for name, v in fields.items()})

    def on_ready(self, sender: int, token: int, pid: int) -> None:
        """A process has attached to the store and is a client from now on."""
        process = self._node.pool.get(token)
        if process is None or process.address or process.pid not in (0, pid):
            self._node.complain(f"ready from {sender}, pid {pid}: there is no such worker {token}")
            return
        self._node.pool.ready(process, sender, pid)
        self._node.clients[sender] = None
        self._node.jobs.works_for(sender, job_of(process.env))
        self._node.tell_scheduler(events.WorkerReady(token, sender))

    def on_attach(self, sender: int, **fields: Any) -> None:
        """A process that came in at the door wants to be a driver."""
        if self._node.drivers is None:
            self._node.complain(f"attach from {sender}: this session is its driver's own")
            return
        self._node.drivers.attach(sender, **fields)

    def on_detach(self, sender: int, req: int) -> None:
        """A driver is about to leave a session that stands."""
        if self._node.drivers is None or sender != self._node.jobs.driver_of(self._node.jobs.of(sender)):
            self._node.outbox.send(sender, {"op": "reply", "req": req, "error": "it has not attached"})
            return
        self._node.drivers.detach(sender, req)

    def on_list_jobs(self, sender: int, skip: int, req: int) -> None:
        """A client asks for jobs, some at a time."""
        jobs = self._node.jobs.listing()
        page = [
            {**job, "argv": " ".join(job["argv"])[:LISTED_TEXT_MAX]} for job in jobs[skip : skip + LISTED_MAX]
        ]
        self._node.outbox.send(sender, {"op": "reply", "req": req, "jobs": page, "count": len(jobs)})

    def _scheduling(self, sender: int, fields: dict[str, Any]) -> SchedulingClass:
        """Return the scheduling class in a message, with a worker of the sender's job."""
        asked = SchedulingClass(**{name: fields[name] for name in SchedulingClass._fields})
        return asked._replace(env=key_of(self._node.jobs.of(sender), asked.env))

    def on_lease(self, sender: int, class_key: int | str, want: int, near: int, **scheduling: Any) -> None:
        """A client says how many more workers it wants for one of its classes, and near which node."""
        wanted = self._scheduling(sender, scheduling)
        if self._node.member is not None:
            self._node.member.leases.wanted(sender, class_key, wanted, want, near)
        else:
            job = self._node.jobs.of(sender)
            self._node.tell_scheduler(events.LeaseWanted(sender, class_key, wanted, want, job))

    def on_pool(self, sender: int, env: str) -> None:
        """The driver says what its workers are to be made for."""
        self._node.tell_scheduler(events.PoolWanted(key_of(self._node.jobs.of(sender), env)))

    def on_borrow(self, sender: int, object: bytes) -> None:
        """A client has a reference to an object of another node: of no interest in a private session."""

    def on_want(self, sender: int, object: bytes, priority: int) -> None:
        """A client waits for the bytes of an object, which can only come from a process of this node."""

    def on_locate(self, sender: int, objects: list[bytes], req: int) -> None:
        """A client asks on which nodes objects are: it knows itself what is on this one."""
        self._node.outbox.send(sender, {"op": "reply", "req": req, "found": {}})

    def on_entrust(self, sender: int, actor: str, object: bytes) -> None:
        """A client wants another node to keep what an actor needs, and there are no others."""
        self._node.complain(f"from {sender}: an object is entrusted, and there are no other nodes")

    def on_gave(self, sender: int, object: bytes, owner: int, size: int) -> None:
        """A worker has stored an object for a process of another node."""
        self._node.complain(f"from {sender}: an object for {owner}, and there are no other nodes")

    def on_return(self, sender: int, worker: int) -> None:
        """A client gives a worker back."""
        process = self._node.pool.at(worker)
        if process is not None:  # else it has just died
            self._node.tell_scheduler(events.LeaseReturned(sender, process.token))

    def on_blocked(self, sender: int) -> None:
        """A worker's task waits."""
        process = self._node.pool.at(sender)
        if process is not None:
            self._node.tell_scheduler(events.WorkerBlocked(process.token))

    def on_unblocked(self, sender: int) -> None:
        """The wait is over."""
        process = self._node.pool.at(sender)
        if process is not None:
            self._node.tell_scheduler(events.WorkerUnblocked(process.token))

    def on_retired(self, sender: int) -> None:
        """A worker runs nothing more."""
        process = self._node.pool.at(sender)
        if process is not None:
            self._node.tell_scheduler(events.WorkerBlocked(process.token, for_good=True))

    def on_waiting(
        self,
        sender: int,
        wait: int,
        name: str,
        run: tuple[int, int] | None,
        calls: tuple[tuple[int, int], ...],
        confirms: bool,
    ) -> None:
        """A process has waited long for these calls; none: it goes on."""
        graph = self._node.wait_graph
        if not calls:
            graph.over(sender)
            return
        is_actor = self._node.actors.of_worker(sender) is not None
        for instruction in graph.waiting(
            sender, Waiting(wait, name[:NAME_CHARS_MAX], run, is_actor, calls), confirms=confirms
        ):
            match instruction:
                case Ask(process, number):
                    self._node.outbox.send(process, {"op": "still_waiting", "wait": number})
                case Break(process, number, numbers, text):
                    message = {"op": "deadlock", "wait": number, "calls": numbers, "text": text}
                    self._node.outbox.send(process, message)

    def on_create_actor(self, sender: int, **fields: Any) -> None:
        """A client wants a process for an actor."""
        self.create_actor(sender, fields)

    def create_actor(self, sender: int, fields: dict[str, Any]) -> None:
        """Enter an actor. In a cluster it has its name by now."""
        spec = ActorSpec(
            actor=fields["actor"],
            name=fields["name"],
            namespace=fields["namespace"],
            class_name=fields["class_name"],
            scheduling=self._scheduling(sender, fields),
            hold=fields["hold"],
            handle=fields["handle"],
            detached=fields["detached"],
            max_restarts=fields["max_restarts"],
            constructor=fields["constructor"] or "",
            has_hook=fields["has_hook"],
        )
        self._node.perform_all(
            self._node.actors.create(sender, spec, fields["req"], get_if_exists=fields["get_if_exists"])
        )

    def _create_detached(self, member: ClusterMember, sender: int, fields: dict[str, Any]) -> None:
        """A process of another node wants an actor whose home is to be this one."""
        if self._node.jobs.get(fields["job"]) is not None:
            self._node.jobs.works_for(sender, fields["job"])
        member.keepsakes.expect(fields["actor"], fields["constructor"], sender)
        if not member.names.handle(sender, "create_actor", fields):
            self.create_actor(sender, fields)
            if not self._node.actors.lives(fields["actor"]):
                member.actor_gone(fields["actor"])

    def on_actor_state(
        self, sender: int, actor: str, state: str, cause: str | None, init_failed: bool, label: str
    ) -> None:
        """An actor is alive, or about to end."""
        self.label(sender, label)
        if state == "alive":
            self._node.perform_all(self._node.actors.alive(actor, sender))
        elif state == "dead":
            ended = self._node.actors.said_dead(actor, cause or "ended", init_failed=init_failed)
            self._node.perform_all(ended)
        else:
            self._node.complain(f"from {sender}: an actor can't be {state!r:.100}")

    def label(self, worker: int, label: str) -> None:
        """Mark what a worker of this node prints."""
        process = self._node.pool.at(worker)
        if label and process is not None:
            process.label = label[:LABEL_CHARS_MAX]  # also of what it has printed since it sent this

    def on_resolve_actor(self, sender: int, actor: str) -> None:
        """A client asks where an actor is.

        Of one that nobody knows the news may be in another client's channel: that client created it, and
        passed its handle on. So the answer is postponed until all channels have been empty.
        """
        if self._node.actors.knows(actor):
            self._node.perform_all(self._node.actors.resolve(sender, actor))
        else:
            self._postponed.append(lambda: self._node.perform_all(self._node.actors.resolve(sender, actor)))

    def answer_postponed(self) -> None:
        """Answer what could not be answered at once: all channels have been empty since."""
        postponed, self._postponed = self._postponed, []
        for answer in postponed:
            answer()

    def on_get_actor(self, sender: int, name: str, namespace: str, req: int) -> None:
        """A client asks for an actor by name."""
        self._node.perform_all(self._node.actors.find(sender, name, namespace, req))

    def on_kill_actor(self, sender: int, actor: str, no_restart: bool, reason: str) -> None:
        """A client wants an actor, or only its process, to be dead."""
        self._node.perform_all(self._node.actors.end(actor, reason, no_restart=no_restart))

    def on_kill_worker(self, sender: int, worker: int, reason: str) -> None:
        """A client ends a worker: a task is cancelled by force."""
        process = self._node.pool.at(worker)
        if process is not None:
            self._node.kill(process, reason)

    def on_name_object(self, sender: int, name: str, namespace: str, object: bytes, req: int) -> None:
        """A client wants an object to be held under a name."""
        named = self._node.named_objects.name(namespace, name, object)
        self._node.outbox.send(sender, {"op": "reply", "req": req, "named": named})

    def on_find_object(self, sender: int, name: str, namespace: str, req: int) -> None:
        """A client asks for an object by name."""
        found = self._node.named_objects.find(namespace, name)
        answer = {"op": "reply", "req": req, "object": found.hex() if found is not None else None}
        self._node.outbox.send(sender, answer)

    def on_forget_object(self, sender: int, name: str, namespace: str, req: int) -> None:
        """A client wants an object to be held no longer for its name."""
        forgotten = self._node.named_objects.forget(namespace, name)
        self._node.outbox.send(sender, {"op": "reply", "req": req, "forgotten": forgotten})

    def on_list_named_objects(self, sender: int, namespace: str | None, skip: int, req: int) -> None:
        """A client asks for the names of objects, of one namespace or of all."""
        names = self._node.named_objects.listing(namespace)
        answer = {"op": "reply", "req": req, "names": names[skip : skip + LISTED_MAX], "count": len(names)}
        self._node.outbox.send(sender, answer)

    def on_processes(self, sender: int, timeout_s: float, req: int) -> None:
        """A client asks for the processes of other nodes, of which there are none."""
        self._node.outbox.send(sender, {"op": "reply", "req": req, "processes": [], "silent": []})

    def on_list_actors(self, sender: int, node: str, skip: int, req: int) -> None:
        """A client asks for the actors whose home this node is, some at a time."""
        actors = self._node.actors.listing()
        page = [
            {**actor, "cause": actor["cause"][:LISTED_TEXT_MAX], "process": self._process(actor["worker"])}
            for actor in actors[skip : skip + LISTED_MAX]
        ]
        answer = {"op": "reply", "req": req, "actors": page, "count": len(actors)}
        self._node.outbox.send(sender, answer)

    def _process(self, address: int | None) -> list[int] | None:
        """Return the node and the address there of the process that an address of this node leads to."""
        if not address:
            return None
        member = self._node.member
        return [self._node.index, address] if member is None else list(member.process_at(address))

    def on_end_actors(self, sender: int, req: int) -> None:
        """A driver is about to leave: the actors that end with it and have hooks run them now.

        Says how many still do. A session that is private ends with its driver, detached actors too. The
        driver may have had a result of an actor of which the node has yet to read that it is alive: so what
        had been sent before the question is read first.
        """
        self._postponed.append(lambda: self._end_actors(sender, req))

    def _end_actors(self, sender: int, req: int) -> None:
        jobs = self._node.jobs
        job = jobs.of(sender)
        count = 0
        if sender == jobs.driver_of(job):
            workers = self._node.actors.with_hooks(detached=self._node.drivers is None)
            count = self._node.end_actors([worker for worker in workers if jobs.of(worker) == job])
        self._node.outbox.send(sender, {"op": "reply", "req": req, "count": count})

    def on_list_names(self, sender: int, namespace: str | None, skip: int, req: int) -> None:
        """A client asks for the names of actors, of one namespace or of all."""
        names = self._node.actors.names(namespace)
        answer = {"op": "reply", "req": req, "names": names[skip : skip + LISTED_MAX], "count": len(names)}
        self._node.outbox.send(sender, answer)

    def on_create_group(
        self, sender: int, req: int, selectors: tuple[dict[str, str], ...], **fields: Any
    ) -> None:
        """A client wants a placement group. (Where there is one node only, it has looked at its labels.)"""
        spec = GroupSpec(**fields, job=self._node.jobs.of(sender))
        if self._node.member is not None:
            self._node.member.groups.create(sender, spec, selectors, req)
            return
        self._node.perform_all(self._node.groups.create(sender, spec, req))

    def on_remove_group(self, sender: int, group: str) -> None:
        """A client removes a placement group, and ends what runs in it."""
        if self._node.member is not None:
            self._node.member.groups.remove(group)
            return
        self._node.perform_all(self._node.groups.remove(group))

    def on_await_group(self, sender: int, group: str, req: int) -> None:
        """A client asks to hear when a placement group is there, or will never be."""
        if self._node.member is not None:
            self._node.member.groups.wait(sender, group, req)
            return
        self._node.perform_all(self._node.groups.wait(sender, group, req))

    def on_get_group(self, sender: int, name: str, namespace: str, req: int) -> None:
        """A client asks for a placement group by name."""
        if self._node.member is not None:
            self._node.member.groups.find(sender, name, namespace, req)
            return
        self._node.perform_all(self._node.groups.find(sender, name, namespace, req))

    def on_list_groups(self, sender: int, group: str | None, req: int) -> None:
        """A client asks for one placement group, or for all."""
        if self._node.member is not None:
            self._node.member.groups.list(sender, group, req)
            return
        groups = self._node.groups.listing(group)
        answer = {"op": "reply", "req": req, "groups": groups[:LISTED_MAX], "count": len(groups)}
        self._node.outbox.send(sender, {**answer, "node": self._node.node_id})

    def on_assignment(self, sender: int, req: int) -> None:
        """A worker asks which devices it holds."""
        slot = self._node.scheduler.slots.at(sender)
        devices = {} if slot is None else {name: sorted(ids) for name, ids in slot.devices.items()}
        self._node.outbox.send(sender, {"op": "reply", "req": req, "devices": devices})

    def on_resources(self, sender: int, node: str, req: int) -> None:
        """A client asks what there is, who holds it and who waits."""
        scheduler = self._node.scheduler
        waiting = [
            {"client": d.client, "resources": d.resources.to_floats(), "want": d.want, "actor": d.actor}
            for d in scheduler.waiting()[:LISTED_MAX]
        ]
        workers = [
            {
                "pid": process.pid,
                "worker": slot.address,
                "state": slot.state.value,
                "holds": slot.held.to_floats(),
                "job": job_of(slot.env),
            }
            for slot in list(scheduler.slots)[:LISTED_MAX]
            if (process := self._node.pool.get(slot.token)) is not None
        ]
        answer = {
            "op": "reply",
            "req": req,
            "total": scheduler.total.to_floats(),
            "available": scheduler.available.to_floats(),
            "labels": self._node.labels,
            "nodes": self._node.member.describe_nodes() if self._node.member is not None else [],
            "waiting": waiting,
            "workers": workers,
        }
        self._node.outbox.send(sender, answer)

    def on_drain(self, sender: int, node: str, grace_s: float, req: int) -> None:
        """A client wants a node to end when nothing runs on it any more."""
        answer: dict[str, Any] = {"op": "reply", "req": req}
        if self._node.drivers is None:
            answer["error"] = "this session is its driver's own, and ends with it"
        elif self._node.member is not None:
            self._node.member.leaving.ask_for(
                node, grace_s, lambda error: self._node.outbox.send(sender, {**answer, "error": error})
            )
            return
        elif node != self._node.node_id:
            answer["error"] = f"there is no node {node!r:.100}; there is {self._node.node_id}"
        else:
            self._node.drivers.drain(grace_s)
        self._node.outbox.send(sender, answer)

    def on_wish(self, sender: int, key: str, value: str, req: int) -> None:
        """A program says how large the cluster is to be."""

        def answer(error: str) -> None:
            self._node.outbox.send(sender, {"op": "reply", "req": req, "error": error})

        if self._node.member is None:
            answer("nobody starts nodes here: this session has one machine")
        else:
            self._node.member.scaling.wish(key, value.encode(), answer)

    def on_instances(self, sender: int, req: int) -> None:
        """A client asks for the nodes that the autoscaler has started, or is starting."""

        def answer(records: list[dict[str, str]] | None) -> None:
            said = {"op": "reply", "req": req, "count": None if records is None else len(records)}
            self._node.outbox.send(sender, {**said, "instances": (records or [])[:LISTED_MAX]})

        if self._node.member is None:
            answer(None)
        else:
            self._node.member.scaling.instances(answer)

    def on_shutdown(self, sender: int) -> None:
        """The driver ends the session."""
        if self._node.drivers is None and sender == self._node.jobs.driver_of(PRIVATE):
            self._node.stop("the driver has ended the session")
        else:
            self._node.complain(f"shutdown from {sender}, whose session this is not")

"""Several nodes with real schedulers, routers and lenders; network, processes and time are simulated.

Links keep their order and lose nothing while both nodes live, as the real ones do; with `lossy` they lose
asks and answers as well, which the protocol has to survive. Reports of nodes come late, and some never.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable
from random import Random

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling import events as local
from orchestrator.scheduling.cluster import lease_events as remote
from orchestrator.scheduling.cluster.lease_router import LeaseRouter
from orchestrator.scheduling.cluster.lender import Answer, Lender, Want
from orchestrator.scheduling.cluster.policies import NodeChooser
from orchestrator.scheduling.cluster.view import ClusterView, NodeReport
from orchestrator.scheduling.local_scheduler import LocalScheduler

REPORT_S = 0.2
#: Things that happen in one simulation before somebody is taken to go round in circles; 30 000 are usual.
STEPS_MAX = 10_000_000


class Clock:
    """Virtual time: what was planned happens in order."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._steps = 0

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self.now_s + delay_s, action)

    def at(self, when_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._planned, (when_s, next(self._count), action))

    def step(self) -> None:
        self.now_s, _, action = heapq.heappop(self._planned)
        self.count()
        action()

    def count(self) -> None:
        self._steps += 1
        assert self._steps < STEPS_MAX, f"it goes round in circles at {self.now_s:.3f} s"


class SimNode:
    """A node process. Its own clients have addresses below 1000, stand-ins those above 10**6."""

    def __init__(self, sim: Sim, number: int, total: ResourceSet, labels: dict[str, str]) -> None:
        self.sim, self.number, self.total, self.labels = sim, number, total, labels
        self.node_id = f"{number:016x}"
        self.scheduler = LocalScheduler(total, pool_size=2, node_id=self.node_id, labels=labels)
        self.view = ClusterView()
        chooser = NodeChooser(self.view, number, Random(number))
        self.router = LeaseRouter(number, self.view, chooser, refuse_after_s=sim.refuse_after_s)
        #: What is to happen on this node, one after the other: as in the loop of a node process.
        self._queue: deque[Callable[[], None]] = deque()
        self._is_busy = False
        self.lender = Lender(self.scheduler.places.room)
        self.version = 0
        self.alive = True
        #: Leases of clients of this node: (client, class) to (node, token).
        self.leases: dict[tuple[int, remote.ClassKey], list[tuple[int, int]]] = {}
        self.infeasible: list[remote.Infeasible] = []
        self.explained: list[remote.Explain] = []
        self.complaints: list[str] = []
        self._local_report()
        self._tick()
        self._publish()

    # ------------------------------------------------------------ what happens on a node

    def _post(self, action: Callable[[], None]) -> None:
        self._queue.append(action)
        if self._is_busy:
            return
        self._is_busy = True
        while self._queue and self.alive:
            self.sim.clock.count()
            self._queue.popleft()()
        self._is_busy = False

    def route(self, event: remote.Event) -> None:
        self._post(lambda: self._route(event))

    def schedule(self, event: local.Event) -> None:
        self._post(lambda: self._schedule(event))

    def asked(self, peer: int, ask: remote.AskNode) -> None:
        self._post(lambda: self._asked(peer, ask))

    def _route(self, event: remote.Event) -> None:
        for out in self.router.handle(event, self.sim.clock.now_s):
            match out:
                case remote.AskNode():
                    self.sim.asked += out.node != self.number
                    peer = self.sim.nodes[out.node]
                    self.sim.send(self, peer, lambda peer=peer, ask=out: peer.asked(self.number, ask), "ask")
                case remote.Infeasible():
                    self.infeasible.append(out)
                case remote.Explain():
                    self.explained.append(out)
                case remote.Complain():
                    self.complaints.append(out.text)
        self.router.validate()
        if self.sim.rng.random() < 0.1:  # it looks at everything, and takes as long
            self.view.validate()

    def _schedule(self, event: local.Event) -> None:
        for out in self.scheduler.handle(event, self.sim.clock.now_s):
            match out:
                case local.StartWorker(token):
                    delay_s = self.sim.rng.choice([0.0, 0.01, 0.1])
                    self.sim.clock.after(delay_s, lambda t=token: self._worker_ready(t))
                case local.EndWorker(token):
                    self.sim.clock.after(0.01, lambda t=token: self._worker_gone(t))
                case local.Grant(client, class_key, token):
                    self._granted(client, class_key, token)
                case local.Infeasible(client=client, class_key=class_key, verdict=verdict, cause=cause):
                    asker = self.lender.failed(client, class_key)
                    assert asker is not None
                    failure = remote.Failed(client % 10**6, class_key, self.number, verdict, cause)
                    peer = self.sim.nodes[asker]
                    self.sim.send(self, peer, lambda p=peer, f=failure: p.route(f), "failure")
        self.scheduler.validate()
        self._local_report()
        self._settle()

    def _asked(self, peer: int, ask: remote.AskNode) -> None:
        client = ask.client if peer == self.number else 10**6 * peer + ask.client
        for want in self.lender.asked(
            peer,
            client,
            ask.class_key,
            ask.scheduling,
            ask.want,
            seen=ask.seen,
            serial=ask.serial,
            since=ask.since,
            patient=ask.patient,
            job=ask.job,
        ):
            self._want(want)
        self._settle()

    def _granted(self, client: int, class_key: remote.ClassKey, token: int) -> None:
        asker = self.lender.granted(client, class_key)
        assert asker is not None, client
        peer, real = self.sim.nodes[asker], client % 10**6
        self.sim.send(self, peer, lambda: peer.lease_came(real, class_key, self.number, token), "grant")

    def lease_came(self, client: int, class_key: remote.ClassKey, node: int, token: int) -> None:
        self.sim.grants[self.number, client, class_key] += 1
        self.leases.setdefault((client, class_key), []).append((node, token))
        self.route(remote.Granted(client, class_key, node))
        self.sim.on_lease(self, client, class_key, node, token)

    def give_back(self, client: int, class_key: remote.ClassKey, node: int, token: int) -> None:
        held = self.leases.get((client, class_key), [])
        if (node, token) not in held or not self.alive:
            return
        held.remove((node, token))
        peer = self.sim.nodes[node]
        address = client if node == self.number else 10**6 * self.number + client
        event = local.LeaseReturned(address, token)
        self.sim.send(self, peer, lambda: peer.schedule(event), "return")

    def _want(self, want: Want) -> None:
        self._schedule(local.LeaseWanted(want.client, want.class_key, want.scheduling, want.want, want.job))

    def _settle(self) -> None:
        for out in self.lender.settle(self.sim.clock.now_s):
            if isinstance(out, Answer):
                peer, real = self.sim.nodes[out.peer], out.client % 10**6
                event = remote.Refused(real, out.class_key, self.number, out.serial, out.left)
                report = self._report()
                self.sim.send(self, peer, lambda p=peer, e=event, r=report: p.answered(r, e), "answer")
            else:
                self._want(out)

    def answered(self, report: NodeReport, event: remote.Refused) -> None:
        self.route(event)
        self.view.report(report)
        self.route(remote.ViewChanged())

    # ------------------------------------------------------------ time and reports

    def _report(self) -> NodeReport:
        self.version += 1
        return NodeReport(
            self.number, self.node_id, self.version, self.total, self.scheduler.available, self.labels
        )

    def _local_report(self) -> None:
        self.view.report(self._report())
        self.sim.clock.after(0, lambda: self.route(remote.ViewChanged()))

    def _publish(self) -> None:
        if not self.alive:
            return
        report = self._report()
        for other in self.sim.nodes.values():
            if other is not self and other.alive and self.sim.rng.random() > 0.2:
                self.sim.clock.after(self.sim.rng.random() * 0.3, lambda o=other: o.heard_of(report))
        self.sim.clock.after(REPORT_S, self._publish)

    def heard_of(self, report: NodeReport) -> None:
        if self.sim.nodes[report.node].alive and self.alive:
            self.view.report(report)
            self.route(remote.ViewChanged())

    def _tick(self) -> None:
        if not self.alive:
            return
        self.schedule(local.Tick())
        self.route(remote.Tick())
        self.sim.clock.after(0.1, self._tick)

    def _worker_ready(self, token: int) -> None:
        if self.scheduler.slots.get(token) is not None:
            self.schedule(local.WorkerReady(token, 1000 + token))

    def _worker_gone(self, token: int) -> None:
        if self.scheduler.slots.get(token) is not None:
            self.schedule(local.WorkerDied(token))


class Sim:
    """The cluster; everything follows from the seed."""

    def __init__(self, seed: int, *, lossy: bool = False, refuse_after_s: float | None = None) -> None:
        self.rng = Random(seed)
        self.lossy = lossy
        self.refuse_after_s = refuse_after_s
        self.clock = Clock()
        self.nodes: dict[int, SimNode] = {}
        #: When the last message on a link arrives: the next one comes later.
        self._links: dict[tuple[int, int], float] = {}
        self.grants: Counter[tuple[int, int, remote.ClassKey]] = Counter()
        self.asked = 0
        self.on_lease: Callable[[SimNode, int, remote.ClassKey, int, int], None] = lambda *_: None

    def add(self, labels: dict[str, str] | None = None, **total: float) -> SimNode:
        number = len(self.nodes) + 1
        node = SimNode(self, number, ResourceSet.from_floats(total), labels or {})
        self.nodes[number] = node
        for one in self.nodes.values():
            for other in self.nodes.values():
                if one.alive and one is not other:
                    other.heard_of(one._report())
        return node

    def send(self, source: SimNode, target: SimNode, action: Callable[[], None], kind: str) -> None:
        if not source.alive:
            return
        if source is target:
            action()
            return
        if self.lossy and kind in ("ask", "answer") and self.rng.random() < 0.1:
            return
        link = (source.number, target.number)
        delay_s = self.rng.choice([0.0001, 0.001, 0.01, 0.3])
        at_s = self._links[link] = max(self._links.get(link, 0.0), self.clock.now_s + delay_s)

        def arrive() -> None:
            if target.alive and source.alive:
                action()

        # Not after what is left until then: a sum that is rounded down would overtake.
        self.clock.at(at_s, arrive)

    def kill(self, node: SimNode) -> None:
        """The node is gone, and after a while everybody hears it."""
        node.alive = False
        for other in self.nodes.values():
            if other.alive:
                self.clock.after(self.rng.random(), lambda o=other: self._died(o, node.number))

    def _died(self, node: SimNode, dead: int) -> None:
        if not node.alive:
            return
        for held in node.leases.values():
            held[:] = [lease for lease in held if lease[0] != dead]
        for client in {c for c, _ in node.lender._records if c // 10**6 == dead}:
            node.lender.client_gone(client)
        for client in {s.holder for s in node.scheduler.slots if s.holder // 10**6 == dead} | {
            d.client for d in node.scheduler.waiting() if d.client // 10**6 == dead
        }:
            node.schedule(local.ClientDied(client))
        node.route(remote.NodeDied(dead))

    def run(self, seconds: float) -> None:
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self.clock.step()

    def run_until(self, done: Callable[[], bool], limit_s: float = 300.0) -> None:
        end_s = self.clock.now_s + limit_s
        while not done():
            assert self.clock.now_s < end_s, "it does not come to an end"
            self.clock.step()


def plain(scheduling_cpus: float, **more: float) -> SchedulingClass:
    return SchedulingClass(ResourceSet.from_floats({"CPU": scheduling_cpus, **more}))


ONE = plain(1)


class Jobs:
    """Clients with tasks: each lease runs one task and is given back."""

    def __init__(self, sim: Sim, *, length_s: float = 0.5) -> None:
        self.sim = sim
        self.left: Counter[tuple[int, int, remote.ClassKey]] = Counter()
        self.ran_on: Counter[int] = Counter()
        self.running: Counter[tuple[int, int, remote.ClassKey]] = Counter()
        self.most_running: Counter[tuple[int, int, remote.ClassKey]] = Counter()
        #: Leases that nobody wanted any more.
        self.excess = 0
        self._classes: dict[tuple[int, int, remote.ClassKey], SchedulingClass] = {}
        self._near: dict[tuple[int, int, remote.ClassKey], int] = {}
        self._length_s = length_s
        sim.on_lease = self._lease

    def submit(
        self,
        node: SimNode,
        client: int,
        key: remote.ClassKey,
        scheduling: SchedulingClass,
        n: int,
        near: int = 0,
    ) -> None:
        job = (node.number, client, key)
        self._classes[job], self._near[job] = scheduling, near
        self.left[job] += n
        self._want(node, job)

    def cancel(self, node: SimNode) -> None:
        """Clients of a node want nothing more."""
        for job in self._classes:
            if job[0] == node.number and node.alive:
                self.left[job] = 0
                self._want(node, job)

    def _want(self, node: SimNode, job: tuple[int, int, remote.ClassKey]) -> None:
        near = self._near[job]
        node.route(remote.Demand(job[1], job[2], self._classes[job], self.left[job], near))

    def _lease(self, node: SimNode, client: int, key: remote.ClassKey, at: int, token: int) -> None:
        job = (node.number, client, key)
        back = lambda: node.give_back(client, key, at, token)  # noqa: E731
        if not self.left[job]:
            self.excess += 1
            self.sim.clock.after(0.001, back)
            return
        self.left[job] -= 1
        self.running[job] += 1
        self.most_running[job] = max(self.most_running[job], self.running[job])

        def done() -> None:
            self.running[job] -= 1
            if not self.sim.nodes[at].alive:
                self.left[job] += 1  # the task is run again
                if node.alive:
                    self._want(node, job)
            else:
                self.ran_on[at] += 1
                back()

        self.sim.clock.after(self.sim.rng.random() * 2 * self._length_s, done)

    def is_done(self) -> bool:
        return not any(
            (self.left[job] or self.running[job]) for job in self._classes if self.sim.nodes[job[0]].alive
        )


def everything_is_back(sim: Sim) -> None:
    """When nobody wants anything, nobody holds anything, and nothing is on its way."""
    sim.run(40)
    for node in sim.nodes.values():
        if node.alive:
            assert not node.router._book.wanted, node.router._book.wanted
            if not sim.lossy:
                assert not node.lender._records, node.lender._records
            assert node.scheduler.available == node.total, node.number
            assert not node.scheduler.waiting()
            for other in node.view:
                assert not node.view.promised(other.node)


def run(seed: int) -> None:
    """Run one cluster through a random load and random faults.

    Raises:
        AssertionError: somebody was not served, or something was left.
    """
    rng = Random(seed)
    sim = Sim(seed, lossy=seed % 2 == 1)
    nodes = [
        sim.add(CPU=rng.choice([1, 2, 4]), **({"GPU": 1} if rng.random() < 0.3 else {})) for _ in range(4)
    ]
    nodes.append(sim.add(CPU=4, GPU=1))
    jobs = Jobs(sim, length_s=rng.choice([0.01, 0.2, 1.0]))
    victim = rng.choice(nodes[:4])
    for _ in range(12):
        node, scheduling = rng.choice(nodes), rng.choice([ONE, plain(0.5), plain(2), plain(1, GPU=0.5)])
        key = scheduling.key()
        client, n = rng.randrange(1, 4), rng.choice([1, 2, 5, 20])
        near = rng.choice([0, *(one.number for one in nodes)])
        sim.clock.after(
            rng.random() * 3,
            lambda a=(node, client, key, scheduling, n, near): jobs.submit(*a) if a[0].alive else None,
        )
    if seed % 5 == 0:
        for _ in range(3):
            sim.clock.after(rng.random() * 4, lambda: jobs.cancel(rng.choice(nodes)))
    if seed % 3 == 0:
        sim.clock.after(rng.random() * 4, lambda: sim.kill(victim))
    sim.run(5)
    sim.run_until(jobs.is_done, limit_s=400)
    everything_is_back(sim)
    if seed % 2 == 0 and seed % 3 and seed % 5:
        # Nothing was lost, everybody lives, and wants what he wanted: nothing was asked for twice.
        assert not jobs.excess, jobs.excess

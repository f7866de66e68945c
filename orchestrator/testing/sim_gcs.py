"""The Global Control Store and its nodes in a simulation: real tables, call books, queues; modelled edges.

`SimHead` is a head process: it may be killed at any moment, with a commit under way or not, and started anew
on what its storage has. `SimNode` is a node: it keeps a session, repeats its requests until they are
answered, reserves bundles and ends jobs, as the real one does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import messages, requests
from orchestrator.gcs.call_book import CallBook
from orchestrator.gcs.cluster_view import ViewFollower
from orchestrator.gcs.commit_queue import CommitQueue
from orchestrator.gcs.doors import LOOK_S
from orchestrator.gcs.effects import Close, Effect, Reply, Send
from orchestrator.gcs.head import Head
from orchestrator.gcs.nodes import HealthPolicy
from orchestrator.gcs.placement_groups import Choose
from orchestrator.gcs.requests import Answer, Call, Request
from orchestrator.gcs.storage.memory import MemoryStorage
from orchestrator.rpc.deadlines import BackOff
from orchestrator.testing.sim_clock import SimClock
from orchestrator.testing.sim_network import ConnectionEnd, SimNetwork

HEAD = "head"
TICK_S = 0.1
HEARTBEAT_S = 0.5
COMMIT_MOST_S = 0.02
CALL_TIMEOUT_S = 1.0


class _Answered(NamedTuple):
    number: int
    answer: Answer


class SimHead:
    """One life of a head process. `storage` outlives it."""

    def __init__(
        self,
        clock: SimClock,
        network: SimNetwork,
        rng: random.Random,
        storage: MemoryStorage,
        choose: Choose,
        *,
        epoch: int,
        policy: HealthPolicy,
        refuse_after_s: float | None,
    ) -> None:
        self._clock = clock
        self._network = network
        self._rng = rng
        self._storage = storage
        self._queue = CommitQueue()
        self._is_writing = False
        self.is_dead = False
        #: Raised whenever the tables have changed, or somebody was told of it.
        self.changes_count = 0
        self._ends: dict[int, ConnectionEnd] = {}
        self._sessions_count = 0
        self._askers: dict[tuple[int, int], str] = {}
        self.head = Head(
            storage.load(),
            cluster_id="c",
            epoch=epoch,
            now_s=clock(),
            choose=choose,
            policy=policy,
            refuse_after_s=refuse_after_s,
        )
        network.start(HEAD, self)
        self.perform(self.head.begin())
        self._tick()
        self._look()

    def kill(self) -> None:
        """End at once. A commit that is under way happens, or does not."""
        self.is_dead = True
        self._network.kill(HEAD)

    def _tick(self) -> None:
        if not self.is_dead:
            self.perform(self.head.tick(self._clock(), self._clock()))
            self._clock.after(TICK_S, self._tick)

    def _look(self) -> None:
        """As `Doors` does. A node goes by its id in the network."""
        if not self.is_dead:
            for record in self.head.nodes.absent():
                if self._network.refuses(HEAD, record.spec.node_id):
                    self.perform(self.head.nobody_listens(record.index, self._clock(), self._clock()))
            self._clock.after(LOOK_S, self._look)

    def perform(self, effects: list[Effect]) -> None:
        """As the real shell does."""
        self.changes_count += bool(effects)
        self._show(self._queue.add(effects))
        self._write()

    def _write(self) -> None:
        if self._is_writing or not self._queue.has_writes:
            return
        writes = self._queue.take()
        self._is_writing = True
        # Stored at one moment, known to be at a later one: a kill may come before, between, and after.
        stores_in_s = self._rng.uniform(0.0, COMMIT_MOST_S)

        def store() -> None:
            if not self.is_dead:
                self._storage.commit(writes)

        def know() -> None:
            if not self.is_dead:
                self._is_writing = False
                self._show(self._queue.committed())
                self._write()

        self._clock.after(stores_in_s, store)
        self._clock.after(stores_in_s + self._rng.uniform(0.0, COMMIT_MOST_S), know)

    def _show(self, visible: list[Effect]) -> None:
        for effect in visible:
            match effect:
                case Send(session, event):
                    if session in self._ends:
                        self._ends[session].send(event)
                case Close(session):
                    end = self._ends.pop(session, None)
                    if end is not None:
                        end.close()
                        self.perform(self.head.disconnected(session, self._clock()))
                case Reply(node, number, answer):
                    asker = self._askers.pop((node, number), None)
                    if asker is not None:
                        self._network.send(HEAD, asker, _Answered(number, answer))

    def on_message(self, source: str, message: Call) -> None:
        """A request has come."""
        self._askers[message.node, message.number] = source
        self.perform(self.head.call(message, self._clock()))

    def on_connection(self, end: ConnectionEnd) -> None:
        """A node begins a session."""
        self._sessions_count += 1
        session = self._sessions_count
        self._ends[session] = end

        def heard(message: messages.FromNode) -> None:
            now_s = self._clock()
            match message:
                case messages.Register():
                    self.perform(self.head.register(session, message, now_s, now_s))
                case messages.Heartbeat():
                    self.perform(self.head.heartbeat(session, message, now_s))
                case messages.Leaving():
                    self.perform(self.head.leaving(session, message, now_s))

        def closed() -> None:
            if self._ends.pop(session, None) is not None:
                self.perform(self.head.disconnected(session, self._clock()))

        end.on_message, end.on_closed = heard, closed


class Reservation(NamedTuple):
    """Bundles that a node has reserved for one attempt."""

    bundles: tuple[messages.Bundle, ...]
    is_committed: bool


class SimNode:
    """One life of a node process."""

    def __init__(
        self, clock: SimClock, network: SimNetwork, rng: random.Random, name: str, spec: messages.NodeSpec
    ) -> None:
        self._clock = clock
        self._network = network
        self._rng = rng
        self.name = name
        self.spec = spec
        self.index = 0
        self._cluster_id = ""
        #: Why it has ended; "" while it lives.
        self.ended = ""
        self.view = ViewFollower()
        self._end: ConnectionEnd | None = None
        self._back_off = BackOff(rng, first_s=0.1, most_s=2.0)
        self._book = CallBook()
        self._callbacks: dict[int, Callable[[Answer], None]] = {}
        self.reservations: dict[tuple[str, int], Reservation] = {}
        #: The newest attempt of each group that was released: what comes later of it is refused.
        self._released: dict[str, int] = {}
        self.groups: dict[str, messages.GroupChanged] = {}
        #: Raised whenever something of the above may have changed.
        self.changes_count = 0
        #: What happened, the last of it: for whoever looks for the reason of a failure.
        self.story: list[str] = []
        network.start(name, self)
        self._connect()
        self._beat()

    # ------------------------------------------------------------ life

    def die(self, reason: str) -> None:
        """End at once."""
        if not self.ended:
            self.ended = reason
            self.changes_count += 1
            self._network.kill(self.name)

    def _note(self, text: str) -> None:
        self.story.append(f"{self._clock():.3f} {text}")
        del self.story[:-200]

    def _connect(self) -> None:
        if self.ended:
            return
        end = self._network.connect(self.name, HEAD)
        if end is None:
            self._clock.after(self._back_off.next_s(), self._connect)
            return
        self._end = end
        end.on_message, end.on_closed = self._heard, self._disconnected
        seen = (self.view.epoch, self.view.version)
        end.send(messages.Register(self.spec, self.index, self._cluster_id, *seen))

    def _disconnected(self) -> None:
        self._note("disconnected")
        self._end = None
        self._clock.after(self._back_off.next_s(), self._connect)

    def _beat(self) -> None:
        if self.ended:
            return
        if self._end is not None and self.index:
            heartbeat = messages.Heartbeat(self.available())
            self._end.send(heartbeat)
        self._clock.after(HEARTBEAT_S, self._beat)

    def available(self) -> ResourceSet:
        """Return what is not reserved."""
        free = self.spec.total
        for reservation in self.reservations.values():
            for bundle in reservation.bundles:
                free = free.subtract(bundle.resources)
        return free

    # ------------------------------------------------------------ what the head says

    def _heard(self, event: messages.ToNode) -> None:
        if not isinstance(event, messages.View):
            self._note(f"{event}")
            self.changes_count += 1
        match event:
            case messages.Registered(index, cluster_id, _):
                assert self.index in (0, index), f"{self.name} was {self.index} and is {index} now"
                self.index, self._cluster_id = index, cluster_id
                self._back_off.reset()
            case messages.MustLeave(reason):
                self.die(reason)
            case messages.View():
                self.view.apply(event)
            case messages.DrainNode():
                assert self._end is not None
                self._end.send(messages.Leaving("it was drained"))
            case messages.PrepareBundles(group, attempt, bundles):
                self._prepare(group, attempt, bundles)
            case messages.CommitBundles(group, attempt):
                reservation = self.reservations[group, attempt]
                self.reservations[group, attempt] = reservation._replace(is_committed=True)
                self.submit(requests.BundlesCommitted(group, attempt))
            case messages.ReleaseBundles(group, attempt):
                self.reservations.pop((group, attempt), None)
                self._released[group] = max(attempt, self._released.get(group, 0))
                self.submit(requests.BundlesReleased(group, attempt))
            case messages.GroupChanged(group):
                self.groups[group] = event
            case messages.EndJob(job):
                self.submit(requests.JobEnded(job))

    def _prepare(self, group: str, attempt: int, bundles: tuple[messages.Bundle, ...]) -> None:
        if (group, attempt) not in self.reservations:
            needed = ResourceSet()
            for bundle in bundles:
                needed = needed.add(bundle.resources)
            if attempt <= self._released.get(group, 0) or not needed.fits(self.available()):
                self.submit(requests.BundlesRefused(group, attempt, "no room"))
                return
            self.reservations[group, attempt] = Reservation(bundles, False)
        self.submit(requests.BundlesPrepared(group, attempt))

    # ------------------------------------------------------------ requests

    def submit(self, request: Request, callback: Callable[[Answer], None] = lambda answer: None) -> None:
        """Ask the head, as often as it takes."""
        number = self._book.enter(request)
        self._callbacks[number] = callback
        self._attempt(number)

    def _attempt(self, number: int) -> None:
        if self.ended or number not in self._callbacks:
            return
        if self.index:
            self._network.send(self.name, HEAD, self._book.call(self.index, number))
        self._clock.after(self._rng.uniform(0.5, 1.0) * CALL_TIMEOUT_S, lambda: self._attempt(number))

    def on_message(self, source: str, message: Any) -> None:
        """An answer has come; perhaps not for the first time."""
        assert isinstance(message, _Answered)
        if self._book.settle(message.number):
            self.changes_count += 1
            self._callbacks.pop(message.number)(message.answer)

    def on_connection(self, end: ConnectionEnd) -> None:
        """Nobody connects to a node here."""
        end.close()

    @property
    def unanswered_count(self) -> int:
        """Return how many requests wait."""
        return len(self._book)

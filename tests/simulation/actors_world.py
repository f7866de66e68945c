"""The actors of one home node: a real table; clients, workers, the scheduler and other nodes are models.

Clients create actors, look for them, kill them, and die; workers are found for them, here or on other nodes,
run their constructors or die in them, and die later or are killed. What one process says arrives in order;
otherwise anything may overtake anything. At every moment the table's own invariants hold. In the end each
actor is alive or dead for a reason, whoever asked where it is was told, no process works for nobody, and what
was held for actors was given back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from random import Random

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling.actor_table import (
    ActorSpec,
    ActorState,
    ActorTable,
    Buried,
    DropActor,
    HoldActor,
    Instruction,
    KillActorWorker,
    MoveActorWorker,
    RequestPlacement,
    Tell,
    WithdrawPlacement,
)

#: Addresses of workers begin here; those of clients are below.
FIRST_WORKER = 100
CLIENTS = 4
NAMES = ("a", "b", None, None)


class Worker:
    """A process that was made for an actor."""

    def __init__(self, address: int, actor: str) -> None:
        self.address, self.actor = address, actor
        self.alive = True
        #: it was told to end, and will
        self.ending = False
        #: what it has said that has not arrived yet
        self.said: deque[Callable[[], None]] = deque()


class Sim:
    """See the module's text."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.table = ActorTable()
        self.clients = set(range(1, CLIENTS + 1))
        #: of clients: what they have said that has not arrived yet
        self.said: dict[int, deque[Callable[[], None]]] = {client: deque() for client in self.clients}
        self.workers: dict[int, Worker] = {}
        self.specs: dict[str, ActorSpec] = {}
        #: who owns an actor, and how many of its processes have died
        self.creators: dict[str, int] = {}
        self.deaths: Counter[str] = Counter()
        #: why an actor may be dead
        self.reasons: dict[str, set[str]] = {}
        #: requests for processes, with how many steps they still wait
        self.wanted: dict[str, ActorSpec] = {}
        self.paused: list[RequestPlacement] = []
        self.held: set[str] = set()
        #: clients that wait to hear where an actor is, and how often
        self.asked: Counter[tuple[int, str]] = Counter()
        #: who waits for an answer to a request
        self.requests: set[tuple[int, int]] = set()
        self.buried: set[str] = set()
        self.number = 0

    # ---- performing

    def perform(self, instructions: Iterable[Instruction]) -> None:
        for one in instructions:
            match one:
                case RequestPlacement(_, spec, pause_s):
                    assert spec.actor not in self.wanted, f"{spec.actor} is asked for twice"
                    if pause_s:
                        self.paused.append(one)
                    else:
                        self.wanted[spec.actor] = spec
                case WithdrawPlacement(actor):
                    self.wanted.pop(actor, None)
                case KillActorWorker(worker):
                    self.workers[worker].ending = True
                case MoveActorWorker(worker):
                    self.say_end(self.workers[worker], "it moves")
                case Tell(client, message):
                    self.hear(client, message)
                case HoldActor(actor):
                    assert actor not in self.held, f"{actor} is held twice"
                    self.held.add(actor)
                case DropActor(actor):
                    self.held.discard(actor)  # said again it means nothing
                case Buried(actor):
                    assert actor not in self.buried, f"{actor} is buried twice"
                    self.buried.add(actor)
        self.table.validate()

    def hear(self, client: int, message: dict) -> None:
        """A process is told something."""
        match message["op"]:
            case "restart_actor":
                self.construct(self.workers[client])
            case "actor_worker":
                self.requests.discard((client, message["req"]))
                worker = self.workers[message["worker"]]
                assert worker.actor == message["actor"]
                if client in self.clients:
                    self.later(client, lambda: self.construct(worker))
            case "actor_address":
                del self.asked[client, message["actor"]]
                state, worker = message["state"], message["worker"]
                assert state in ("alive", "dead"), message
                assert (state == "alive") == (worker is not None), message
            case "reply":
                self.requests.discard((client, message["req"]))

    def later(self, client: int, action: Callable[[], None]) -> None:
        self.said[client].append(action)

    # ---- workers

    def construct(self, worker: Worker) -> None:
        """The constructor runs; what comes of it is heard later, unless the process dies in it."""
        if not worker.alive:
            return
        roll = self.rng.random()
        if roll < 0.1:
            worker.ending = True
        elif roll < 0.15:
            self.reasons[worker.actor].add("its constructor raised")
            self.say_end(worker, "its constructor raised", init_failed=True)
        else:
            worker.said.append(lambda: self.perform(self.table.alive(worker.actor, worker.address)))

    def say_end(self, worker: Worker, cause: str, *, init_failed: bool = False) -> None:
        """An actor says that it ends, and does."""
        if not worker.alive or worker.ending:
            return
        worker.ending = True
        worker.said.append(
            lambda: self.perform(self.table.said_dead(worker.actor, cause, init_failed=init_failed))
        )

    def die(self, worker: Worker) -> None:
        """A process is gone; its node says so after all that it has said itself."""
        worker.alive = False
        worker.said.append(lambda: self.gone(worker))

    def gone(self, worker: Worker) -> None:
        record = self.table._records[worker.actor]
        known = self.table.of_worker(worker.address, worker.actor)
        was = record.state
        if known is not None:
            assert record.worker == worker.address or was is ActorState.DEAD, (
                f"the end of {worker.address} is taken for that of {known}, which has {record.worker}"
            )
        if record.worker == worker.address and not record.is_moving:
            self.deaths[worker.actor] += 1
        out = self.table.client_died(worker.address, {"reason": "killed"})
        if known is not None:
            fate = self.table.fate(known)
            assert fate["restarting"] == (record.state is ActorState.RESTARTING)
        self.perform(out)
        del self.workers[worker.address]

    # ---- what clients do

    def create(self, client: int) -> None:
        self.number += 1
        actor = f"actor {self.number}"
        detached = self.rng.random() < 0.3
        restarts = self.rng.choice([0, 0, 1, 3, -1])
        spec = ActorSpec(
            actor,
            self.rng.choice(NAMES),
            "namespace",
            "Class",
            SchedulingClass(ResourceSet()),
            ResourceSet(),
            "handle",
            detached,
            restarts,
            f"constructor of {actor}" if restarts or detached else "",
            self.rng.random() < 0.2,
        )
        self.specs[actor], self.creators[actor], self.reasons[actor] = spec, client, set()
        request, if_exists = self.number, self.rng.random() < 0.5
        if spec.name is not None or detached:
            self.requests.add((client, request))
        self.later(
            client,
            lambda: self.perform(self.table.create(client, spec, request, get_if_exists=if_exists)),
        )

    def look_for(self, client: int) -> None:
        known = [actor for actor in self.specs if self.table.knows(actor)]
        if not known:
            return
        actor = self.rng.choice(known)

        def ask() -> None:
            if client in self.clients and not self.asked[client, actor]:
                self.asked[client, actor] += 1
                self.perform(self.table.resolve(client, actor))

        self.later(client, ask)

    def find(self, client: int) -> None:
        self.number += 1
        request = self.number
        self.requests.add((client, request))
        self.later(client, lambda: self.perform(self.table.find(client, "a", "namespace", request)))

    def kill(self, client: int) -> None:
        if not self.specs:
            return
        actor = self.rng.choice(list(self.specs))
        no_restart = self.rng.random() < 0.5

        def end() -> None:
            if no_restart and self.table.lives(actor):
                self.reasons[actor].add("killed")
            self.perform(self.table.end(actor, "killed", no_restart=no_restart))

        self.later(client, end)

    def die_of(self, client: int) -> None:
        self.clients.discard(client)

        def gone() -> None:
            for actor, creator in self.creators.items():
                if creator == client:
                    self.reasons[actor].add("its owner is gone")
            self.perform(self.table.client_died(client, None))
            for pair in [pair for pair in self.asked if pair[0] == client]:
                del self.asked[pair]
            self.requests = {one for one in self.requests if one[0] != client}

        self.later(client, gone)

    def act(self) -> None:
        if not self.clients:
            return
        client = self.rng.choice(sorted(self.clients))
        roll = self.rng.random()
        if roll < 0.3:
            self.create(client)
        elif roll < 0.5:
            self.look_for(client)
        elif roll < 0.55:
            self.find(client)
        elif roll < 0.63:
            self.kill(client)
        elif roll < 0.73 and self.workers:
            self.rng.choice(list(self.workers.values())).ending = True
        elif roll < 0.78 and self.workers:
            worker = self.rng.choice(list(self.workers.values()))
            if not worker.ending and self.table.worker_of(worker.actor) == worker.address:
                self.reasons[worker.actor].add("its handles are gone")
                self.table.is_not_needed(worker.actor)
                self.say_end(worker, "its handles are gone")
        elif roll < 0.82:
            some = {worker for worker in self.workers if self.rng.random() < 0.5}
            self.perform(self.table.move_away(some.__contains__, "its node leaves"))
        elif roll < 0.83:
            self.die_of(client)

    # ---- running

    def steps(self) -> list[Callable[[], None]]:
        """Return all that may happen next."""
        found: list[Callable[[], None]] = []
        for queue in (*self.said.values(), *(worker.said for worker in self.workers.values())):
            if queue:
                found.append(lambda queue=queue: queue.popleft()())
        for worker in self.workers.values():
            if worker.ending and worker.alive:
                found.append(lambda worker=worker: self.die(worker))
        for actor, spec in self.wanted.items():
            found.append(lambda actor=actor, spec=spec: self.place(actor, spec))
        for request in self.paused:
            found.append(lambda request=request: self.unpause(request))
        return found

    def unpause(self, request: RequestPlacement) -> None:
        self.paused.remove(request)
        if self.table.wants_process(request.spec.actor):
            assert request.spec.actor not in self.wanted
            self.wanted[request.spec.actor] = request.spec

    def place(self, actor: str, spec: ActorSpec) -> None:
        """A process is found; the word of one on another node takes its time, or never comes."""
        assert self.table.wants_process(actor), f"a process is asked for, and {actor} wants none"
        if self.rng.random() < 0.1:
            self.number += 1
            vain = self.workers[FIRST_WORKER + self.number] = Worker(FIRST_WORKER + self.number, actor)
            vain.ending = True  # its node was taken for dead, and another one is asked
            return
        del self.wanted[actor]
        if self.rng.random() < 0.05:
            self.reasons[actor].add("infeasible")
            self.perform(self.table.infeasible(actor, "infeasible", "there is no such node"))
            return
        self.number += 1
        worker = self.workers[FIRST_WORKER + self.number] = Worker(FIRST_WORKER + self.number, actor)

        def placed() -> None:
            self.perform(self.table.placed(actor, worker.address))

        if self.rng.random() < 0.5:
            placed()
        else:
            worker.said.append(placed)

    def step(self) -> bool:
        choices = self.steps()
        if not choices:
            return False
        self.rng.choice(choices)()
        return True

    def run(self, acts: int = 120) -> None:
        for _ in range(acts):
            self.act()
            for _ in range(self.rng.randrange(5)):
                self.step()
        self.settle()
        self.check()
        for client in sorted(self.clients):
            self.die_of(client)
        self.settle()
        for actor, spec in self.specs.items():
            if self.table.lives(actor):
                assert spec.detached, f"{actor} has outlived its owner"
                self.reasons[actor].add("killed")
                self.perform(self.table.end(actor, "killed"))
        self.settle()
        assert not self.workers, self.workers
        assert not self.held, self.held

    def settle(self) -> None:
        while self.step():
            pass

    def check(self) -> None:
        """Nothing is under way."""
        for actor, record in self.table._records.items():
            state, spec = record.state, record.spec
            assert state in (ActorState.ALIVE, ActorState.DEAD), f"{actor} is {state} for ever"
            if state is ActorState.DEAD:
                spent = spec.max_restarts >= 0 and self.deaths[actor] > spec.max_restarts
                assert self.reasons[actor] or spent, f"{actor} is dead for no reason: {record.cause}"
            else:
                assert self.workers[record.worker].alive
                assert spec.max_restarts < 0 or self.deaths[actor] <= spec.max_restarts, actor
        for worker in self.workers.values():
            assert self.table.worker_of(worker.actor) == worker.address, f"{worker.address} works for nobody"
        assert not +self.asked, f"never told: {+self.asked}"
        assert not self.requests, f"never answered: {self.requests}"
        for actor in self.held:
            assert self.table.lives(actor.removeprefix("constructor of ")), f"{actor} is held"


def run(seed: int) -> None:
    """Run one history.

    Raises:
        AssertionError: an actor died for no reason, lives for nobody, or somebody waits for ever.
    """
    Sim(seed).run()

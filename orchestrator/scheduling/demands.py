"""Who waits for workers, and whose turn it is.

Turns go round the jobs, for each job round its clients, and for each client round its scheduling classes, one
worker at a time: a job whose tasks submit tasks in a hundred processes gets no more than one with a single
process, a client with ten classes no more than one with a single class, and a thousand tasks of one class
do not starve another's.

Before turns comes *rank*: a demand of higher priority is served first. One that has waited for `PATIENCE_S`
is overdue and ranks above all priorities, so that none waits for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass
from orchestrator.scheduling.events import PartWanted

ClassKey = int | str | tuple[str, str]

#: A demand that has not been served for this long comes before those of any priority.
PATIENCE_S = 5.0
#: Above every priority, which are numbers of 32 bits.
OVERDUE_RANK = 2**32


class Demand:
    """Workers wanted by one client for one scheduling class, or for one actor; or the bundles of a group."""

    __slots__ = (
        "actor",
        "bundles",
        "class_key",
        "client",
        "explained",
        "hold",
        "is_new",
        "job",
        "part",
        "scheduling",
        "since_s",
        "want",
    )

    def __init__(
        self,
        client: int,
        class_key: ClassKey,
        scheduling: SchedulingClass,
        hold: ResourceSet,
        actor: str | None,
        now_s: float,
        bundles: tuple[ResourceSet, ...] = (),
        job: str = "",
    ) -> None:
        self.client = client
        #: Whom it is for, in the end.
        self.job = job
        self.class_key = class_key
        #: What must be free, and for whom.
        self.scheduling = scheduling
        #: What is then taken: the same for a lease, possibly nothing for an actor.
        self.hold = hold
        self.actor = actor
        #: What is reserved, in a demand that asks for that and for no worker.
        self.bundles = bundles
        #: What the head of a cluster has asked for, in a demand that is that.
        self.part: PartWanted | None = None
        #: When it began to wait: when it came, or last had a worker.
        self.since_s = now_s
        #: Its client has been told why it waits.
        self.explained = False
        #: Nobody has been asked to give way to it.
        self.is_new = True
        #: Workers still wanted; at least 1 while the demand is in the queue.
        self.want = 0

    @property
    def resources(self) -> ResourceSet:
        """What must be free."""
        return self.scheduling.resources

    @property
    def env(self) -> str:
        """The runtime environment of the workers."""
        return self.scheduling.env

    def rank(self, now_s: float) -> int:
        """Return its place before others: the priority, unless it is overdue."""
        return OVERDUE_RANK if now_s - self.since_s >= PATIENCE_S else self.scheduling.priority

    def __repr__(self) -> str:
        return f"<demand {self.client}/{self.class_key} {self.want} x {self.resources}>"


class DemandQueue:
    """All demands, in the order of turns."""

    def __init__(self) -> None:
        #: Client to class to demand; the first of each level is the next. No client is without a demand.
        self._clients: dict[int, dict[ClassKey, Demand]] = {}
        #: Demands of each job, and when it had its last turn, counted in turns. One that comes anew
        #: queues up.
        self._jobs: Counter[str] = Counter()
        self._turn_of: dict[str, int] = {}
        self._turn = 0

    def __iter__(self) -> Iterator[Demand]:
        for classes in list(self._clients.values()):
            yield from list(classes.values())

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))

    def __bool__(self) -> bool:
        return bool(self._clients)

    def has_client(self, client: int) -> bool:
        """Tell whether this client waits for anything."""
        return client in self._clients

    def put(self, demand: Demand, want: int) -> None:
        """Enter a demand, or change the number of one that is there (it keeps its place); 0 removes it."""
        if want <= 0:
            self.remove(demand.client, demand.class_key)
            return
        classes = self._clients.setdefault(demand.client, {})
        present = classes.get(demand.class_key)
        if present is None:
            classes[demand.class_key] = present = demand
            self._enter(demand.job)
        else:
            present.scheduling, present.hold = demand.scheduling, demand.hold
            if present.job != demand.job:
                self._leave(present.job)
                self._enter(demand.job)
                present.job = demand.job
        present.want = want

    def is_served(self, client: int, class_key: ClassKey, now_s: float) -> None:
        """Note that a class has a worker, so that, whatever more is wanted, it does not starve."""
        demand = self._clients.get(client, {}).get(class_key)
        if demand is not None:
            demand.since_s = now_s

    def remove(self, client: int, class_key: ClassKey) -> Demand | None:
        """Take a demand out; None if it is not there."""
        classes = self._clients.get(client, {})
        demand = classes.pop(class_key, None)
        if demand is not None:
            self._leave(demand.job)
            if not classes:
                del self._clients[client]
        return demand

    def remove_actor(self, actor: str) -> None:
        """Take out what an actor waits for."""
        for demand in self:
            if demand.actor == actor:
                self.remove(demand.client, demand.class_key)

    def remove_client(self, client: int) -> None:
        """Forget everything a client waits for."""
        for demand in self._clients.pop(client, {}).values():
            self._leave(demand.job)

    def next(self, accept: Callable[[Demand], bool], now_s: float) -> Demand | None:
        """Return the demand that `accept` agrees to, first by rank, then in turn, without taking it."""
        first: Demand | None = None
        first_place = (0, 0)
        for classes in self._clients.values():
            for demand in classes.values():
                place = (-demand.rank(now_s), self._turn_of[demand.job])
                if (first is None or place < first_place) and accept(demand):
                    first, first_place = demand, place
        return first

    def served(self, demand: Demand, now_s: float) -> None:
        """Count one worker off a demand, and send class, client and job to the end of their lines."""
        self._turn += 1
        self._turn_of[demand.job] = self._turn
        classes = self._clients.pop(demand.client)
        del classes[demand.class_key]
        demand.want -= 1
        demand.since_s = now_s
        if demand.want:
            classes[demand.class_key] = demand
        else:
            self._leave(demand.job)
        if classes:
            self._clients[demand.client] = classes

    def _enter(self, job: str) -> None:
        self._jobs[job] += 1
        self._turn_of.setdefault(job, self._turn)

    def _leave(self, job: str) -> None:
        self._jobs[job] -= 1
        if not self._jobs[job]:
            del self._jobs[job], self._turn_of[job]

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        assert self._jobs == Counter(demand.job for demand in self), self._jobs
        assert set(self._turn_of) == set(self._jobs)
        for client, classes in self._clients.items():
            assert classes, client
            for key, demand in classes.items():
                assert (demand.client, demand.class_key) == (client, key) and demand.want >= 1, demand

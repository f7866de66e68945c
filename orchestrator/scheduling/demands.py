"""Who waits for workers, and whose turn it is.

Turns go round the clients, and for each client round its scheduling classes, one worker at a time: a client
with ten classes gets no more than one with a single class, and a thousand tasks of one class do not starve
another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass

ClassKey = int | str | tuple[str, str]


class Demand:
    """Workers wanted by one client for one scheduling class, or for one actor."""

    __slots__ = ("actor", "class_key", "client", "hold", "scheduling", "want")

    def __init__(
        self,
        client: int,
        class_key: ClassKey,
        scheduling: SchedulingClass,
        hold: ResourceSet,
        actor: str | None,
    ) -> None:
        self.client = client
        self.class_key = class_key
        #: What must be free, and for whom.
        self.scheduling = scheduling
        #: What is then taken: the same for a lease, possibly nothing for an actor.
        self.hold = hold
        self.actor = actor
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

    def __repr__(self) -> str:
        return f"<demand {self.client}/{self.class_key} {self.want} x {self.resources}>"


class DemandQueue:
    """All demands, in the order of turns."""

    def __init__(self) -> None:
        #: Client to class to demand; the first of each level is the next. No client is without a demand.
        self._clients: dict[int, dict[ClassKey, Demand]] = {}

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
        else:
            present.scheduling, present.hold = demand.scheduling, demand.hold
        present.want = want

    def remove(self, client: int, class_key: ClassKey) -> Demand | None:
        """Take a demand out; None if it is not there."""
        classes = self._clients.get(client, {})
        demand = classes.pop(class_key, None)
        if demand is not None and not classes:
            del self._clients[client]
        return demand

    def remove_client(self, client: int) -> None:
        """Forget everything a client waits for."""
        self._clients.pop(client, None)

    def next(self, accept: Callable[[Demand], bool]) -> Demand | None:
        """Return the first demand in turn that `accept` agrees to, without taking it."""
        for classes in self._clients.values():
            for demand in classes.values():
                if accept(demand):
                    return demand
        return None

    def served(self, demand: Demand) -> None:
        """Count one worker off a demand, and send its class and its client to the end of the line."""
        classes = self._clients.pop(demand.client)
        del classes[demand.class_key]
        demand.want -= 1
        if demand.want:
            classes[demand.class_key] = demand
        if classes:
            self._clients[demand.client] = classes

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for client, classes in self._clients.items():
            assert classes, client
            for key, demand in classes.items():
                assert (demand.client, demand.class_key) == (client, key) and demand.want >= 1, demand

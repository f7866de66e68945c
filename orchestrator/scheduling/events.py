"""What the local scheduler is told, and what it asks for.

Workers are named by token (they have no address until they are ready), clients by their address in the store.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.common.resources import ResourceSet

# ---------------------------------------------------------------- events


class Tick(NamedTuple):
    """Time has passed. Wanted at least at `LocalScheduler.deadline_s`."""


class WorkerReady(NamedTuple):
    """A process has attached to the store and can take work."""

    token: int
    address: int


class WorkerDied(NamedTuple):
    """A process is gone, or could not be started. It stops being a client as well."""

    token: int


class WorkerDoomed(NamedTuple):
    """Somebody has killed this worker; its death will be reported. It gets no more work."""

    token: int


class WorkerBlocked(NamedTuple):
    """The task or method that runs in this worker waits in `get` or `wait`."""

    token: int


class WorkerUnblocked(NamedTuple):
    """The wait is over."""

    token: int


class LeaseWanted(NamedTuple):
    """A client wants `want` more workers of one of its classes: an absolute number, 0 cancels."""

    client: int
    class_key: int | str
    resources: ResourceSet
    want: int


class LeaseReturned(NamedTuple):
    """A client gives a worker back."""

    client: int
    token: int


class ActorWanted(NamedTuple):
    """A process for an actor: `placement` must be free to start it, `hold` is kept while it lives.

    `client` is the owner, or 0 for a detached actor.
    """

    client: int
    actor: str
    placement: ResourceSet
    hold: ResourceSet


class ActorWithdrawn(NamedTuple):
    """An actor that may still be waiting for its process is no longer wanted."""

    actor: str


class ClientDied(NamedTuple):
    """A client that is not a worker is gone."""

    client: int


Event = (
    Tick
    | WorkerReady
    | WorkerDied
    | WorkerDoomed
    | WorkerBlocked
    | WorkerUnblocked
    | LeaseWanted
    | LeaseReturned
    | ActorWanted
    | ActorWithdrawn
    | ClientDied
)

# ---------------------------------------------------------------- instructions


class StartWorker(NamedTuple):
    """Fork a process; answer with `WorkerReady` or `WorkerDied` of this token."""

    token: int


class EndWorker(NamedTuple):
    """End a process. `gently` lets it run its exit handlers: it is idle."""

    token: int
    reason: str
    gently: bool


class Grant(NamedTuple):
    """Tell a client that a worker is its own until it returns it."""

    client: int
    class_key: int | str
    token: int


class PlaceActor(NamedTuple):
    """This worker hosts this actor from now on."""

    actor: str
    token: int


class Reclaim(NamedTuple):
    """Ask a client for the idle leases of one class: somebody else waits for what they hold."""

    client: int
    class_key: int | str


class Infeasible(NamedTuple):
    """This demand can never be met here; it has been dropped. `actor` is set if it was one."""

    client: int
    class_key: int | str
    actor: str | None
    resources: ResourceSet
    total: ResourceSet


class Complain(NamedTuple):
    """An event made no sense and was dropped; write it down."""

    text: str


Instruction = StartWorker | EndWorker | Grant | PlaceActor | Reclaim | Infeasible | Complain

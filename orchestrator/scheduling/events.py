"""What the local scheduler is told, and what it asks for.

Workers are named by token (they have no address until they are ready), clients by their address in the store.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import SchedulingClass

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
    #: It has run its last task, and the process waits for what that has submitted.
    for_good: bool = False


class WorkerUnblocked(NamedTuple):
    """The wait is over."""

    token: int


class LeaseWanted(NamedTuple):
    """A client wants `want` more workers of one of its classes: an absolute number, 0 cancels."""

    client: int
    class_key: int | str
    scheduling: SchedulingClass
    want: int
    #: The job that it is for: a driver's, and that of all that its tasks submit.
    job: str = ""


class LeaseReturned(NamedTuple):
    """A client gives a worker back."""

    client: int
    token: int


class ActorWanted(NamedTuple):
    """A process for an actor: the resources of `scheduling` must be free to start it, `hold` is kept while it
    lives.

    `client` is the owner, or 0 for a detached actor.
    """

    client: int
    actor: str
    scheduling: SchedulingClass
    hold: ResourceSet
    job: str = ""


class ActorWithdrawn(NamedTuple):
    """An actor that may still be waiting for its process is no longer wanted."""

    actor: str


class BundlesWanted(NamedTuple):
    """A placement group: all bundles are to be reserved, at once."""

    group: str
    bundles: tuple[ResourceSet, ...]


class BundlesReleased(NamedTuple):
    """A placement group is removed, whether its bundles have been reserved or not."""

    group: str


class PartWanted(NamedTuple):
    """The head wants these bundles of a placement group reserved here, soon or not at all."""

    group: str
    attempt: int
    #: By index in the group.
    bundles: dict[int, ResourceSet]


class PartCommitted(NamedTuple):
    """The group is reserved everywhere: what this attempt has here may be used."""

    group: str
    attempt: int


class PartReleased(NamedTuple):
    """The group wants what this attempt has here no more; what runs there is to end."""

    group: str
    attempt: int


class EnvironmentReady(NamedTuple):
    """Workers can be started for a runtime environment."""

    env: str


class EnvironmentFailed(NamedTuple):
    """No worker can be made for a runtime environment: whoever waits for one has waited in vain.

    Whoever wants one later has it prepared anew.
    """

    env: str
    cause: str


class PoolWanted(NamedTuple):
    """What workers that are started in advance are made for: a runtime environment. None: there are none."""

    env: str | None


class JobBegan(NamedTuple):
    """A driver has attached: workers can be made for its job (`jobs.key_of`)."""

    job: str


class JobEnded(NamedTuple):
    """The driver of a job is gone. Workers that nobody has on lease are made for nothing now."""

    job: str
    #: Why those end, for their reports.
    reason: str


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
    | BundlesWanted
    | BundlesReleased
    | PartWanted
    | PartCommitted
    | PartReleased
    | EnvironmentReady
    | EnvironmentFailed
    | PoolWanted
    | JobBegan
    | JobEnded
    | ClientDied
)

# ---------------------------------------------------------------- instructions


class PrepareEnvironment(NamedTuple):
    """Make a runtime environment; answer with `EnvironmentReady` or `EnvironmentFailed`."""

    env: str


class StartWorker(NamedTuple):
    """Start a process for a runtime environment; answer with `WorkerReady` or `WorkerDied` of this token."""

    token: int
    env: str = ""


class EndWorker(NamedTuple):
    """End a process. `gently` lets it run its exit handlers: it is idle."""

    token: int
    reason: str
    gently: bool
    #: What that means for the task or actor in it, if it is one of the words below.
    verdict: str = ""


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
    """Ask a client for leases of one class, as somebody else waits for what they hold: for those that are
    idle, or for this one, as soon as the task that it runs is done.
    """

    client: int
    class_key: int | str
    token: int | None = None


class Explain(NamedTuple):
    """Tell a client why an actor, or if that is None a placement group, still waits."""

    client: int
    actor: str | None
    #: It begins with "has waited".
    text: str
    #: Which placement group it is about, if it is about one.
    group: str | None = None


class BundlesReserved(NamedTuple):
    """The bundles of a placement group are reserved."""

    group: str


class BundlesInfeasible(NamedTuple):
    """The bundles of a placement group can never be reserved."""

    group: str
    cause: str


class PartReserved(NamedTuple):
    """What the head wanted for a placement group is reserved; or it is not, if there is a cause."""

    group: str
    attempt: int
    cause: str


class Infeasible(NamedTuple):
    """This demand can never be met here; it has been dropped. `actor` is set if it was one."""

    client: int
    class_key: int | str
    actor: str | None
    #: Which kind of never: one of the words below.
    verdict: str
    #: The whole explanation, for people; it begins with "it".
    cause: str


#: More resources than there are; a place that doesn't exist; a placement group that is gone; a runtime
#: environment that can't be made.
INFEASIBLE, UNSCHEDULABLE, GROUP_REMOVED, ENVIRONMENT = (
    "infeasible",
    "unschedulable",
    "group_removed",
    "environment",
)


#: What else a worker is ended for: memory ran out; the same, and nothing else ran that had taken it.
OUT_OF_MEMORY, OUT_OF_MEMORY_ALONE = "out_of_memory", "out_of_memory_alone"


class Complain(NamedTuple):
    """An event made no sense and was dropped; write it down."""

    text: str


Instruction = (
    PrepareEnvironment
    | StartWorker
    | EndWorker
    | Grant
    | PlaceActor
    | Reclaim
    | Explain
    | BundlesReserved
    | BundlesInfeasible
    | PartReserved
    | Infeasible
    | Complain
)

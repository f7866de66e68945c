"""A task as its submitter knows it, and what all calls of one remote function share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from orchestrator.common.config import UNKNOWN_COST_US
from orchestrator.common.options import DYNAMIC

if TYPE_CHECKING:
    from orchestrator.common.retry_policy import RetryPolicy
    from orchestrator.core.actor_record import ActorRecord
    from orchestrator.core.entry import Entry
    from orchestrator.core.generators import Stream
    from orchestrator.core.leases import Lease, SchedulingQueue

# Where a task is. WAITING: for its arguments, or for the time of its next attempt. QUEUED: for a worker.
# SENT: in a worker's channel or running. DONE: its results are known.
WAITING, QUEUED, SENT, DONE = range(4)


class Template:
    """What all calls of one function with one set of options share. Made once per session."""

    __slots__ = (
        "backpressure",
        "concurrency_group",
        "cost_us",
        "key",
        "max_retries",
        "name",
        "num_returns",
        "options",
        "queue",
        "retry_exceptions",
        "retry_policy",
    )

    def __init__(
        self,
        key: bytes | str,
        name: str,
        *,
        queue: SchedulingQueue | None = None,
        num_returns: int = 1,
        max_retries: int = 0,
        retry_exceptions: bool | tuple[type[BaseException], ...] = False,
        retry_policy: RetryPolicy | None = None,
        backpressure: int | None = None,
        concurrency_group: str | None = None,
        creation: dict[str, Any] | None = None,
        circumstances: dict[str, Any] | None = None,
        timeout_s: float | None = None,
        writable_args: bool = False,
    ) -> None:
        #: the function's key in the store, or the name of an actor's method
        self.key = key
        self.name = name
        self.queue = queue
        #: a generator whose items come all in one reference is a function with one result
        self.num_returns = 1 if num_returns == DYNAMIC else num_returns
        self.max_retries = max_retries
        self.retry_exceptions = retry_exceptions
        self.retry_policy = retry_policy
        self.backpressure = backpressure
        self.concurrency_group = concurrency_group
        #: what a run is believed to take: an average that follows the replies
        self.cost_us = UNKNOWN_COST_US
        #: what the worker must know beyond the function and its arguments; None for the plain case
        options: dict[str, Any] = {}
        if num_returns != 1:
            options["num_returns"] = num_returns
        if backpressure:
            options["backpressure"] = backpressure
        if concurrency_group:
            options["group"] = concurrency_group
        if creation:
            options["actor"] = creation
        if circumstances:
            options["circumstances"] = circumstances
        if timeout_s is not None:
            options["timeout_s"] = timeout_s
        if writable_args:
            options["writable_args"] = True
        self.options = options or None

    def chooses(self, raised: BaseException) -> bool:
        """Tell whether `retry_exceptions` names this exception, or what it wraps."""
        chosen = self.retry_exceptions
        return isinstance(getattr(raised, "cause", raised), chosen) if isinstance(chosen, tuple) else chosen


class Dependencies:
    """What the arguments of a task that had references at the top level refer to."""

    __slots__ = ("direct", "inside")

    def __init__(self, inside: Any, direct: list[Any]) -> None:
        #: what the other arguments hold
        self.inside = inside
        #: entries of the references themselves
        self.direct = direct


class Task:
    """One call. Held by its queue or its worker's record until the reply, and by nobody after it."""

    __slots__ = (
        "__weakref__",
        "actor",
        "attempts",
        "cancelled",
        "charged_us",
        "held",
        "lease",
        "message",
        "near",
        "oom_kills",
        "packed",
        "parent",
        "place",
        "returns",
        "seq",
        "stream",
        "template",
        "ticket",
        "unready",
    )

    def __init__(self, seq: int, template: Template, parent: Any) -> None:
        self.seq = seq
        self.template = template
        #: the task this process was running when it submitted this one
        self.parent = parent
        self.place = QUEUED
        #: the node that has most of its arguments; 0 if that doesn't matter (locality.py)
        self.near = 0
        #: the encoded message, once its arguments are known
        self.message: bytes | None = None
        #: arguments that still have references to be replaced by values
        self.packed: Any = None
        #: how many of those are not there yet
        self.unready = 0
        #: what the arguments refer to, kept until the reply
        self.held: Any = None
        self.returns: list[Entry] = []
        self.stream: Stream | None = None
        self.lease: Lease | None = None
        self.actor: ActorRecord | None = None
        self.ticket = 0
        self.charged_us = 0
        #: retries used of `max_retries`; and how often memory ran out, which has a budget of its own
        self.attempts = 0
        self.oom_kills = 0
        self.cancelled = False


def walk_held(held: Any, direct: bool = False) -> Iterable[tuple[Any, bool]]:
    """Yield what a task's `held` has, and whether it is an argument itself."""
    if type(held) is Dependencies:
        yield from walk_held(held.inside, False)
        for item in held.direct:
            yield item, True
    elif type(held) in (list, tuple):
        for item in held:
            yield from walk_held(item, direct)
    elif held is not None:
        yield held, direct

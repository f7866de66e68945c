"""One actor, as a process that has handles of it knows it.

========== ======================= ========== ========================================================
state      event                   next       what becomes of calls
========== ======================= ========== ========================================================
PENDING    address known           ALIVE      the queue is sent
ALIVE      process died, it will   RESTARTING what it had not taken, and what may be repeated, is
           be restarted                       queued again; the rest fails: ActorUnavailableError
RESTARTING address known           ALIVE      the queue is sent
any        died, killed, its       DEAD       all fail: ActorDiedError
           constructor failed
========== ======================= ========== ========================================================
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.objects.plasma_adapter import Hold, StoreLink

if TYPE_CHECKING:
    from orchestrator.core.task import Task
    from orchestrator.objects.plasma_adapter import Sender

PENDING, ALIVE, RESTARTING, DEAD = range(4)

#: Methods by which an actor learns that it ends; the first one it has is called.
SHUTDOWN_HOOKS = ("__ray_shutdown__", "__shutdown__")

#: Calls that wait for one actor before the user is told; doubled each time.
PENDING_WARNING = 5000


class ActorHold(Hold):
    """This process's reference to an actor; the actor is told when it goes, so that it can end at once."""

    __slots__ = ("dropped",)

    def __init__(self, link: StoreLink, object_id: bytes, dropped: deque[bytes]) -> None:
        super().__init__(link, object_id)
        self.dropped = dropped

    def __del__(self) -> None:
        super().__del__()
        self.dropped.append(self.object_id)


class ActorTraits:
    """What every caller of an actor must know of it, beside its methods. Part of its description."""

    __slots__ = ("class_name", "max_pending_calls", "max_restarts", "out_of_order", "threaded")

    def __init__(
        self,
        class_name: str = "",
        max_pending_calls: int = -1,
        max_restarts: int = 0,
        out_of_order: bool = False,
        threaded: bool = False,
    ) -> None:
        self.class_name = class_name
        self.max_pending_calls = max_pending_calls
        self.max_restarts = max_restarts
        #: whether a call that waits for its arguments lets those behind it pass
        self.out_of_order = out_of_order
        #: whether its calls run in threads, which cannot be interrupted
        self.threaded = threaded

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            ActorTraits,
            (self.class_name, self.max_pending_calls, self.max_restarts, self.out_of_order, self.threaded),
        )


class ActorRecord:
    """See the module's text."""

    __slots__ = (
        "actor_id",
        "address",
        "aside",
        "cause",
        "doubtful",
        "handles",
        "inflight",
        "init_failed",
        "max_pending",
        "out_of_order",
        "queue",
        "sender",
        "state",
        "traits",
        "verdict",
        "warn_at",
    )

    def __init__(self, actor_id: bytes, traits: ActorTraits) -> None:
        self.actor_id = actor_id
        self.traits = traits
        self.state = PENDING
        self.address = 0
        self.sender: Sender | None = None
        #: calls that cannot be sent yet; in order
        self.queue: deque[Task] = deque()
        #: calls that wait for their arguments and let others pass, by number; only if `out_of_order`
        self.aside: dict[int, Task] = {}
        #: calls sent and not answered
        self.inflight: dict[int, Task] = {}
        #: calls that were with a process that died, and a text about that: its home is being asked
        self.doubtful: list[tuple[Task, str]] = []
        #: holds of this process; with the last, and nothing under way, the record goes
        self.handles = 0
        #: why it is DEAD
        self.cause = ""
        #: what the node says that this means, in a word
        self.verdict = ""
        self.init_failed = False
        self.max_pending = traits.max_pending_calls
        self.out_of_order = traits.out_of_order
        self.warn_at = PENDING_WARNING

    @classmethod
    def gone(cls, actor_id: bytes) -> ActorRecord:
        """Return a record of an actor that had ended before its handle arrived here."""
        record = cls(actor_id, ActorTraits("?"))
        record.state, record.cause = DEAD, "it ended before this handle arrived"
        return record

    def describe(self, traits: ActorTraits) -> None:
        """Learn what was not known when the record was made."""
        self.traits = traits
        self.max_pending = traits.max_pending_calls
        self.out_of_order = traits.out_of_order

    @property
    def name(self) -> str:
        """Its class and id, for messages."""
        return f"actor {self.traits.class_name} ({self.actor_id.hex()})"

    @property
    def pending_count(self) -> int:
        """Calls that are not answered."""
        return len(self.inflight) + len(self.queue) + len(self.aside)

    def unfinished(self) -> list[Task]:
        """Return the calls that are not answered: sent ones first, then in order."""
        doubtful = [task for task, _ in self.doubtful]
        return [*self.inflight.values(), *self.queue, *self.aside.values(), *doubtful]

    def check_limit(self) -> None:
        """Raise PendingCallsLimitExceeded if no further call may be made; a constructor does not count."""
        count = sum(not is_constructor(task) for task in self.unfinished())
        if count >= self.max_pending:
            raise exceptions.PendingCallsLimitExceeded(
                f"{self.name} has {count} calls pending, and max_pending_calls is {self.max_pending}"
            )

    def died_error(self) -> exceptions.ActorDiedError:
        """Return the error of every call from now on."""
        text = f"{self.name} is dead: {self.cause or 'unknown cause'}"
        removed = self.verdict == "group_removed"
        kind = exceptions.ActorPlacementGroupRemoved if removed else exceptions.ActorDiedError
        return kind(text, self.actor_id.hex(), self.init_failed)

    def unavailable_error(self, method: str, report: str) -> exceptions.ActorUnavailableError:
        """Return the error of a call that was with the actor when its process died."""
        text = (
            f"{self.name} died while {method} was with it, and is being restarted. The call may or may not "
            f"have run; with max_task_retries it would be repeated. {report}"
        )
        return exceptions.ActorUnavailableError(text, self.actor_id.hex())


def is_constructor(task: Task) -> bool:
    """Tell whether a call is the one that makes its actor."""
    options = task.template.options
    return options is not None and "actor" in options

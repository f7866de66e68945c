"""The runtime of a session that is one process. See the package's text."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from threading import get_ident
from typing import Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.common.priority import GET, Priority
from orchestrator.core.arguments import Arguments
from orchestrator.core.current_call import current_call
from orchestrator.core.entry import PENDING, Entry, Waiter
from orchestrator.core.messages import CANCEL
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.references import References
from orchestrator.core.runtime import Runtime
from orchestrator.core.task import QUEUED, Task
from orchestrator.inline.actors import InlineActors
from orchestrator.inline.dispatcher import InlineDispatcher
from orchestrator.inline.executor import InlineExecutor, Suspended
from orchestrator.inline.node import InlineNode
from orchestrator.inline.pump import InlinePump
from orchestrator.inline.store import InlineStore


class _Where(threading.local):
    """What runs on this thread's stack, innermost."""

    executor: InlineExecutor | None = None
    task: Any = None


class _AtOnce:
    """What the runtime of processes collects in a deque until its next tick is dealt with right away."""

    def __init__(self, deal_with: Callable[[Any], None]) -> None:
        self.append = deal_with


class _ShownAtOnce(deque[Any]):
    """Failures nobody has asked about, shown where the last reference to them goes."""

    def __init__(self, show: Callable[[], None]) -> None:
        super().__init__()
        self._show = show

    def append(self, failure: Any) -> None:
        """Take and show one; called by destructors."""
        super().append(failure)
        self._show()


class InlineReferences(References):
    """References whose objects this very process produces: watching for one is producing it."""

    def __init__(self, advance: Callable[[Entry], None], *args: Any) -> None:
        super().__init__(*args)
        self._advance = advance

    def watch(self, entry: Entry, priority: Priority = GET) -> None:
        """See to it that the entry is completed."""
        if entry.state == PENDING:
            self._advance(entry)


class InlineArguments(Arguments):
    """Arguments of calls that run at once, so that the references among them are waited for here."""

    def __init__(self, wait: Callable[[Entry, float | None, str], None], *args: Any) -> None:
        super().__init__(*args)
        self._wait_entry = wait

    def pack(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], on_ready: Callable[[Task], None]
    ) -> None:
        """Make the task's message; see `Arguments.pack`."""
        for value in (*args, *kwargs.values()):
            if type(value) is ObjectRef and value._entry.state == PENDING:
                self._wait_entry(value._entry, None, f"an argument of {task.template.name}")
        super().pack(task, args, kwargs, on_ready)


class InlineRuntime(Runtime):
    """Everything a program needs to run its tasks and actors in its own process."""

    has_processes = False

    store: InlineStore  # type: ignore[assignment]
    dispatcher: InlineDispatcher  # type: ignore[assignment]
    actors: InlineActors  # type: ignore[assignment]
    node: InlineNode  # type: ignore[assignment]
    pump: InlinePump  # type: ignore[assignment]

    def __init__(
        self, session: str, info: dict[str, Any], quantities: Mapping[str, float], store_bytes: int | None
    ) -> None:
        self._where = _Where()
        self._quantities = quantities
        #: generators that wait for somebody to ask for their next item, by their task's number
        self.generators: dict[int, Suspended] = {}
        super().__init__(InlineStore(store_bytes or sys.maxsize), session, 0, info)  # type: ignore[arg-type]

        self.unseen.waiting = _ShownAtOnce(lambda: self.unseen.report(monotonic()))
        self.abandoned: deque[Task] = _AtOnce(self._abandon)  # type: ignore[assignment]

    def _part_classes(self) -> dict[str, Callable[..., Any]]:
        return {
            "Pump": lambda endpoint, handle: InlinePump(self.advance, self._explain_wait),
            "NodeLink": lambda endpoint, address, pump: InlineNode(self, self._quantities),
            "References": partial(InlineReferences, self.advance),
            "Arguments": partial(InlineArguments, self.wait_entry),
            "Dispatcher": InlineDispatcher,
            "ActorSubmitter": InlineActors,
            "ActorCreation": lambda runtime, actors: actors,
        }

    # -- whose code runs on this thread

    @property  # type: ignore[override]
    def executor(self) -> InlineExecutor | None:
        """What runs the task this thread is in; None outside of tasks."""
        return self._where.executor

    @executor.setter
    def executor(self, executor: InlineExecutor | None) -> None:
        self._where.executor = executor

    @property
    def current_task(self) -> Any:
        """The (submitter, number) of the task this thread is in; None outside of tasks."""
        return self._where.task or current_call()[0]

    @current_task.setter
    def current_task(self, run: Any) -> None:
        self._where.task = run

    def enter(self, executor: InlineExecutor) -> tuple[InlineExecutor | None, Any]:
        """Begin to run a task on this thread; return what `leave` is to bring back."""
        where = self._where
        outer = where.executor, where.task
        where.executor = executor
        return outer

    def leave(self, outer: tuple[InlineExecutor | None, Any]) -> None:
        """The code that ran before goes on."""
        self._where.executor, self._where.task = outer

    # -- what arrives without a channel

    def on_reply(self, reply: tuple[Any, ...]) -> None:
        """A task has answered."""
        if not self.open:
            return
        if not self.actors.on_reply(reply):
            self.tasks.on_reply(self.dispatcher.lease, reply)

    def send_control(self, address: int, message: tuple[Any, ...]) -> None:
        """Deliver what would go to a worker; of that only cancellations mean something here."""
        if message[0] != CANCEL:
            return
        _, seq, recursive = message
        generator = self.generators.get(seq)
        if generator is not None:
            generator.close()
        elif recursive:
            self.cancel_children((address, seq))

    def _abandon(self, task: Task) -> None:
        """The reader of a generator has gone."""
        if self.open:
            self.cancel_task(task, force=False, recursive=True)

    def tick(self) -> float:
        """Show failures that nobody has seen; nothing else is ever due."""
        if self.unseen.waiting:
            self.unseen.report(monotonic())
        return config.TICK_S

    # -- waiting

    def advance(self, entry: Entry) -> None:
        """Run what must run on this thread for the entry to be completed.

        Raises:
            DeadlockError: it waits for this very stack, so that it would never be.
        """
        for generator in list(self.generators.values()):
            stream = self._stream_of(generator)
            if stream is None:
                continue
            if stream.next_ready is entry:
                generator.step()
                return
            if stream.completed is entry:
                generator.finish()
                return
        task = entry.task
        if task is not None and task.place == QUEUED and getattr(task.actor, "owner", 0) == get_ident():
            actor: Any = task.actor
            raise exceptions.DeadlockError(
                f"{task.template.name} is called on {actor.name}, whose method is waiting for it: neither "
                "would ever go on"
            )

    def _stream_of(self, generator: Suspended) -> Any:
        seq = generator.run[1]
        task = self.dispatcher.lease.inflight.get(seq) or self.actors.inflight.get(seq)
        return task.stream if task is not None else None

    def _register(self, waiter: Waiter, pending: list[Entry], priority: Priority) -> None:
        for entry in pending:
            self.advance(entry)
            entry.when_done(waiter)

    def _explain_wait(self, awaited: Any) -> None:
        what = self.explain(awaited) if isinstance(awaited, Entry) else "several objects"
        self.warn(f"a wait has taken {config.UNPLACED_WARNING_S:g} s: {what}")

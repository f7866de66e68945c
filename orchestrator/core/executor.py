"""The worker's main loop: take a task, run it, reply.

Tasks run on the main thread, one at a time. Meanwhile the background thread reads CONTROL messages:
replies to what the task itself submitted, and requests to cancel it. A cancellation is a SIGINT this
process sends to its own main thread, so that a sleep or a wait ends as well; it raises only if the
very task it was meant for is running when it arrives.

What becomes of a task that waits in `get` or `wait` is in `blocking.py`.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.options import DYNAMIC
from orchestrator.common.priority import ARGUMENT
from orchestrator.common.task_context import TaskContext
from orchestrator.core.actor_restart import restart_actor
from orchestrator.core.arguments import DependencyError, load_argument, load_writable_argument, unpack
from orchestrator.core.back_pressure import BackPressure
from orchestrator.core.blocking import Blocking
from orchestrator.core.cancellation import TaskInterrupt
from orchestrator.core.circumstances import Circumstances
from orchestrator.core.entry import Entry
from orchestrator.core.generators import GENERATORS, DynamicObjectRefGenerator, items_of, only_item
from orchestrator.core.history import name_of
from orchestrator.core.messages import (
    CANCEL,
    CANCELLED,
    CHECK_HANDLES,
    CONSUMED,
    GIVE_BACK,
    LONG,
    RETIRED,
    RETURNED,
)
from orchestrator.core.replies import PartlyFailed, Replies
from orchestrator.core.title import ProcessTitle
from orchestrator.core.values import StoredError, dump_error
from orchestrator.objects.plasma_adapter import (
    CONTROL_MASK,
    SEALED,
    WORK,
    WORK_MASK,
)

if TYPE_CHECKING:
    from orchestrator.core.actor_runtime import ActorRuntime
    from orchestrator.core.runtime import Runtime

loads = pickle.loads

#: Cancellations that arrived before their task did; the oldest are forgotten.
EARLY_CANCELLATIONS_MAX = 256

#: What a call may return that its result is still to be made of.
_NO_VALUES = GENERATORS | {CoroutineType}

Run = tuple[int, int]


class Executor:
    """Runs the tasks that arrive for this process."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.endpoint = runtime.endpoint
        self.replies = Replies(runtime)
        self.actor: ActorRuntime | None = None
        #: functions by key; the methods of the actor by name
        self.callables: dict[bytes | str, Callable[..., Any]] = {}
        #: the task on the main thread, as (submitter, seq)
        self.running: Run | None = None
        #: the function or method on the main thread, or the last one that was
        self.current_function: Any = None
        #: what the options of the task change about this process
        self.circumstances = Circumstances(self)
        #: tasks that were cancelled while or before they run
        self.cancelled: deque[Run] = deque(maxlen=EARLY_CANCELLATIONS_MAX)
        #: the process is to end when everything that was sent to it is done
        self.stopping = False
        #: the last task of this process, which ends after it when nobody waits for what it has submitted
        self._retired: Run | None = None
        self._lingers = False
        self._title = ProcessTitle()
        #: the task that was on the main thread when the title was brought up to date
        self._seen_running: Run | None = None
        #: the process is to end when what runs is done; the rest fails with the news of its end
        self.quitting = False
        self._interrupt: Run | None = None
        #: notes a run that has ended; see history.py
        self.ran = runtime.history.runs.append
        #: the constructor's call of an actor that is made from the store, and how often it has been before
        self.constructor: Entry | None = None
        self.restarts = 0
        self._main_ident = threading.get_ident()
        self.pid = os.getpid()
        self.back_pressure = BackPressure(runtime)
        runtime.handlers[CANCEL] = self.on_cancel
        runtime.handlers[CONSUMED] = self.back_pressure.on_consumed
        runtime.handlers["restart_actor"] = partial(restart_actor, self)
        runtime.handlers[GIVE_BACK] = lambda sender: self.blocking.give_back(sender)
        runtime.handlers["no_handles"] = self._no_handles
        runtime.handlers[CHECK_HANDLES] = lambda sender: self.check_handles()
        runtime.handlers["died"] = self.replies.forget
        runtime.on_tick = self._on_tick
        runtime.dispatcher.lease_idle_s = config.NESTED_LEASE_IDLE_S
        self.blocking = blocking = Blocking(self)
        runtime.pump.on_blocked = blocking.enter
        runtime.pump.on_unblocked = blocking.leave
        runtime.pump.on_work = blocking.send_back

    # -- the loop

    def run(self) -> None:
        """Take and run tasks until this process is to end, or has become an actor with a loop of its own."""
        endpoint = self.endpoint
        receive = partial(endpoint.receive, WORK)
        poll = self.runtime.pump.poll
        dispatcher = self.runtime.dispatcher
        blocking = self.blocking
        mask = CONTROL_MASK | WORK_MASK
        signal.signal(signal.SIGINT, self._on_sigint)
        while True:
            bell = endpoint.bell()
            item = receive()
            if item is not None:
                self.execute(*item)
                if blocking.waits:
                    blocking.end_task(item[0])
                if self.actor is not None and (self.actor.owns_loop or self.quitting):
                    return
                continue
            if self.stopping:
                return
            if self._retired and self._is_needless():
                return
            if not poll():
                due = self.runtime.tick() if dispatcher.has_leases else config.TICK_S
                endpoint.wait(mask, due, bell)

    def execute(self, sender: int, payload: bytes) -> None:
        """Run one task on this thread and reply."""
        message = loads(payload)
        seq = message[0]
        function = self.callables.get(message[1])
        if len(message) != 3 or function is None:
            self._execute_any(sender, message)
            return
        # The common case: plain arguments, one result, a function that is here.
        run = (sender, seq)
        self.runtime.current_task = run
        started = perf_counter_ns()
        try:
            try:
                self.running = run
                # In this order, as `on_cancel` notes the run before it looks whether that is running.
                if self.cancelled and run in self.cancelled:
                    raise TaskInterrupt("the task was cancelled")
                self.current_function = function
                value = function(*message[2])
                if type(value) in _NO_VALUES:
                    value = self._finish(value, 1)
            finally:
                self.running = None
        except BaseException as error:
            self._failed(run, error, function, started)
            return
        ended = perf_counter_ns()
        self.ran((run, function, started, ended, None))
        try:
            self.replies.send_value(sender, seq, value, (ended - started) // 1000)
        except BaseException as error:
            self._failed(run, error, function, started)

    def _execute_any(self, sender: int, message: tuple[Any, ...]) -> None:
        seq, key = message[0], message[1]
        while key == LONG:
            message = self.fetch_long(message)
            key = message[1]
        run = (sender, seq)
        options = (message[7] if len(message) > 3 else None) or {}
        if "actor" in options:
            self._become_actor(run, message, options["actor"])
            return
        started = perf_counter_ns()
        function: Any = None
        self.runtime.current_task = run
        circumstances, limit_s = options.get("circumstances"), options.get("timeout_s")
        try:
            if circumstances is not None:
                self.circumstances.enter(run, key, circumstances)
            try:
                self.running = run
                # In this order, as `on_cancel` notes the run before it looks whether that is running.
                if self.cancelled and run in self.cancelled:
                    raise TaskInterrupt("the task was cancelled")
                self.current_function = function = self.callable_of(key)
                args, kwargs = (message[2], {}) if len(message) == 3 else self.unpack(message)
                del message
                if limit_s is not None:
                    self.circumstances.start_clock(run, limit_s)
                started = perf_counter_ns()
                value = function(*args, **kwargs)
                del args, kwargs
                num_returns = options.get("num_returns", 1)
                if type(value) in _NO_VALUES:
                    value = self._finish(value, num_returns)
                if num_returns != 1:
                    self.send_several(run, value, num_returns, options, started)
                    self.ran((run, self.circumstances.name or function, started, perf_counter_ns(), None))
                    return
            finally:
                self.running = None
            if limit_s is not None:
                self.circumstances.stop_clock()
            ended = perf_counter_ns()
            self.ran((run, self.circumstances.name or function, started, ended, None))
            self.replies.send_value(sender, seq, value, (ended - started) // 1000)
        except BaseException as error:
            self._failed(run, error, function, started)
        finally:
            if limit_s is not None:
                self.circumstances.stop_clock()
            if circumstances is not None:
                self.circumstances.leave()

    def send_several(
        self, run: Run, value: Any, num_returns: int, options: dict[str, Any], started: int
    ) -> None:
        """Send what a call with `num_returns` other than 1 has returned."""
        sender, seq = run
        spent_us = (perf_counter_ns() - started) // 1000
        if hasattr(value, "__anext__"):
            value = items_of(value)
        if num_returns >= 0:
            self.replies.send_many(sender, seq, value, num_returns, spent_us)
            return
        items = items_of(value)
        if num_returns == DYNAMIC:
            whole = DynamicObjectRefGenerator.of(items, self.runtime)
            self.replies.send_value(sender, seq, whole, (perf_counter_ns() - started) // 1000)
            return
        self.send_items(run, items, options.get("backpressure"), spent_us)

    def send_items(self, run: Run, items: Any, ahead_max: int | None, spent_us: int) -> None:
        """Send what a generator yields; it ends early when its call is cancelled."""
        pause = self.back_pressure.pause_for(run, ahead_max, self.cancelled)
        try:
            self.replies.send_items(*run, iter(items), pause, spent_us)
        finally:
            self.back_pressure.forget(run)
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def fetch_long(self, message: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the message that was too long for the channel and is in the store instead."""
        identity = message[2]
        is_foreign = self.runtime.references.is_foreign(identity)
        store, lineage = self.runtime.store, self.runtime.lineage
        fetched: tuple[Any, ...] = loads(
            lineage.fetch(identity) if is_foreign else store.get(identity, timeout_s=10.0)
        )
        return fetched

    def unpack(self, message: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a message that has more than plain ones."""
        options = message[7]
        writes = options is not None and "writable_args" in options
        return unpack(message, self._fetch, load_writable_argument if writes else load_argument)

    def _fetch(self, identity: bytes) -> Any:
        """Return the buffer of an argument; wait for it if it was lost and is being made again."""
        buffer = self.runtime.store.try_get(identity) if self.runtime.store.contains(identity) else None
        if buffer is None:
            try:
                buffer = self.runtime.lineage.fetch(identity, ARGUMENT)
            except exceptions.OrchestratorError as error:
                raise DependencyError(StoredError(dump_error(error))) from None
        return buffer

    def callable_of(self, key: bytes | str) -> Any:
        """Return the function, or the actor's method, a message names."""
        function = self.callables.get(key)
        if function is None:
            if type(key) is str:
                assert self.actor is not None
                function = self.actor.method(key)
            else:
                function = self.runtime.functions.load(key)  # type: ignore[arg-type]
            self.callables[key] = function
        return function

    def _finish(self, value: Any, num_returns: int) -> Any:
        """Return what a call results in that has returned a coroutine or a generator."""
        if type(value) is CoroutineType:
            value = self._run_coroutine(value)
        if num_returns == 1 and type(value) in GENERATORS:
            value = only_item(value)
        return value

    def _run_coroutine(self, coroutine: Any) -> Any:
        import asyncio

        return asyncio.run(coroutine)

    def _failed(self, run: Run, error: BaseException, function: Any, started: int) -> None:
        """Reply with what a task raised."""
        self.circumstances.stop_clock()
        packed: list[tuple[int, Any]] | None = None
        if type(error) is PartlyFailed:
            error.__traceback__ = None
            packed, error = error.packed, error.error
        sender, seq = run
        spent_us = (perf_counter_ns() - started) // 1000
        self.running = None
        self.runtime.history.failed_run(
            run, self.circumstances.name or function, started, error, run in self.cancelled
        )
        try:
            if self.circumstances.overdue == run and run not in self.cancelled:
                late = self.circumstances.timeout_error(self.name_of_run())
                self.replies.send_failure(sender, seq, late, spent_us)
            elif isinstance(error, TaskInterrupt) or run in self.cancelled:
                if run in self.cancelled:
                    self.cancelled.remove(run)
                self.replies.send(sender, (seq, CANCELLED, None, spent_us))
            elif isinstance(error, DependencyError):
                self.replies.send_failure(sender, seq, error.stored.rebuild(), spent_us)
            elif isinstance(error, exceptions.OrchestratorError) and function is None:
                # A function that is gone: not the user's code.
                self.replies.send_failure(sender, seq, error, spent_us)
            elif self.actor is not None and self.actor.is_exit(error):
                self.actor.leave(run, error)
            else:
                self.replies.send_error(sender, seq, error, name_of(function), spent_us, packed)
        finally:
            # The traceback holds the frames, and they hold the arguments.
            error.__traceback__ = None

    # -- becoming an actor

    def _become_actor(self, run: Run, message: tuple[Any, ...], creation: dict[str, Any]) -> None:
        from orchestrator.core.actor_runtime import ActorRuntime

        self.actor = ActorRuntime(self, creation)
        self.callables.clear()
        self.runtime.current_task = run
        if creation.get("context"):
            self.runtime.contexts.enter(TaskContext.from_wire(creation["context"]))
        self.circumstances.hold(self.actor.resources)
        self._title.show(self.actor.class_name)
        self.actor.construct(run, message)

    def check_handles(self) -> None:
        """End this process when it is an actor nobody has a handle of any more.

        Its object is resident: it is sealed as long as there are handles.
        """
        actor = self.actor
        if actor is not None and not self.stopping and not actor.detached:
            # Of an actor that was created on another node that node says so: see `_no_handles`.
            if not self.runtime.references.is_foreign(actor.actor_id):
                if self.runtime.store.state(actor.actor_id) != SEALED:
                    self.stop()

    def _no_handles(self, message: dict[str, Any]) -> None:
        """The node on which this actor was created says that nobody has a handle of it any more."""
        if self.actor is not None and self.actor.actor_id.hex() == message["actor"]:
            self.stop()

    def stop(self, *, drain: bool = True) -> None:
        """End the process once everything that was sent to it is done, or with `drain=False` what runs."""
        self.quitting = self.quitting or not drain
        self.stopping = True
        self.endpoint.ring()
        if self.actor is not None:
            self.actor.wake()

    def retire(self, last: Run) -> None:
        """Take no task after this one; end when nothing that this process has submitted is under way."""
        if self._retired is None:
            self._retired = last
            self.execute = self._refuse  # type: ignore[method-assign]
            self.runtime.send_control(last[0], (RETIRED, last[1], []))
            self.blocking.send_back_all()

    def _refuse(self, sender: int, payload: bytes) -> None:
        """A task that was sent before its sender knew; later ones are not."""
        self.runtime.send_control(sender, (RETURNED, [loads(payload)[0]]))

    def _is_needless(self) -> bool:
        if self.runtime.tasks.unfinished() or self.runtime.actors.unfinished():
            if not self._lingers:
                # What it waits for may need what it holds.
                self._lingers = True
                self.runtime.node.send({"op": "retired"})
            return False
        return True

    # -- time

    def _on_tick(self, now: float) -> None:
        self.check_handles()
        self.blocking.tick(now)
        # A task that was here at the last tick takes long enough to be worth a title.
        running = self.running
        if running is not None and running == self._seen_running:
            self._title.show(self.name_of_run())
        elif running is None:
            self._title.show(self.actor.class_name if self.actor is not None else "IDLE")
        self._seen_running = running

    def name_of_run(self) -> str:
        """Return the name of the task on the main thread, or of the last one that was."""
        return self.circumstances.name or name_of(self.current_function)

    # -- cancelling

    def on_cancel(self, sender: int, seq: int, recursive: bool) -> None:
        """A submitter cancels a task of its that may be running, or about to."""
        run = (sender, seq)
        if run in self.cancelled:
            return
        self.cancelled.append(run)
        self.back_pressure.wake(run)
        if recursive:
            self.runtime.cancel_children(run)
        if self.actor is not None:
            self.actor.cancel(run)
        else:
            self.interrupt(run)

    def interrupt(self, run: Run) -> None:
        """Raise a KeyboardInterrupt in a task, if that is running."""
        if self.running == run:
            self._interrupt = run
            signal.pthread_kill(self._main_ident, signal.SIGINT)

    def _on_sigint(self, signum: int, frame: Any) -> None:
        target, self._interrupt = self._interrupt, None
        if target is not None and target == self.running:
            raise TaskInterrupt("the task was cancelled")

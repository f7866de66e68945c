"""Running tasks on the stack of whoever submits them.

It is the worker's executor: it unpacks the same messages and replies with the same replies. Only
that replies go straight to their handler, that several tasks can be under way at once, one inside the other
(each has an executor of its own), and that generators wait between items for somebody to ask.
"""

from __future__ import annotations

import bdb
import threading
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from orchestrator.common.options import STREAMING
from orchestrator.core.actor_runtime import ActorRuntime
from orchestrator.core.circumstances import Circumstances
from orchestrator.core.current_call import current_call
from orchestrator.core.executor import Executor, Run, TaskInterrupt
from orchestrator.core.generators import items_of
from orchestrator.core.messages import CANCELLED, END
from orchestrator.core.replies import PartlyFailed, Replies

if TYPE_CHECKING:
    from orchestrator.inline.runtime import InlineRuntime


class InlineReplies(Replies):
    """Replies that are handled at once, by the same code that handles those from other processes."""

    def __init__(self, runtime: InlineRuntime) -> None:
        super().__init__(runtime)
        self._on_reply = runtime.on_reply

    def send(self, address: int, reply: tuple[Any, ...]) -> None:
        """Hand a reply to whoever submitted the task."""
        self._on_reply(reply)


class InlineCircumstances(Circumstances):
    """What a task's options change about its process: nothing, where that is the user's own."""

    def hold(self, resources: dict[str, float]) -> None:
        """Note what the task holds; the libraries' threads stay the program's."""
        self.resources = resources

    def start_clock(self, run: Run, timeout_s: float) -> None:
        """A task on the caller's own stack is not interrupted."""


class _Untitled:
    """The title of a process that stays what it is."""

    def show(self, what: str) -> None:
        """Show nothing."""


class InlineActorRuntime(ActorRuntime):
    """An actor in a process that is not its own: the process goes on when it ends."""

    def _let_calls_overlap(self) -> None:
        """The runtime knows for each thread which call it is in."""

    def finish(self) -> None:
        """Run the user's shutdown hook."""
        hook = getattr(self.instance, "__ray_shutdown__", None) or getattr(
            self.instance, "__shutdown__", None
        )
        if hook is not None:
            self._call_hook(hook)

    def calling(self) -> tuple[Run | None, Any]:
        """Return the call this code belongs to, and its method."""
        if self.overlaps:
            return current_call()
        return self.executor.running, self.executor.current_function


class InlineExecutor(Executor):
    """Runs one task at a time; a task inside it has another one."""

    runtime: InlineRuntime

    def __init__(self, runtime: InlineRuntime) -> None:
        super().__init__(runtime)
        self.replies = InlineReplies(runtime)
        self.circumstances = InlineCircumstances(self)
        self._title = _Untitled()  # type: ignore[assignment]

    def carry_out(self, payload: bytes) -> None:
        """Run the task of this message to its end, or to its first item."""
        runtime = self.runtime
        outer = runtime.enter(self)
        try:
            self.execute(runtime.store.address, payload)
        finally:
            runtime.leave(outer)

    def _run_coroutine(self, coroutine: Any) -> Any:
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(coroutine)
        # Called from a coroutine of the user's: a thread has one loop at a time.
        return _in_another_thread(lambda: asyncio.run(coroutine))

    def send_several(
        self, run: Run, value: Any, num_returns: int, options: dict[str, Any], started: int
    ) -> None:
        """Send what a call with `num_returns` other than 1 has returned; a generator waits to be asked."""
        if num_returns != STREAMING:
            super().send_several(run, value, num_returns, options, started)
            return
        generator = Suspended(self, run, items_of(value), self.current_function, options.get("backpressure"))
        self.runtime.generators[run[1]] = generator
        generator.step()

    def _failed(self, run: Run, error: BaseException, function: Any, started: int) -> None:
        cause = error.error if type(error) is PartlyFailed else error
        if isinstance(cause, (KeyboardInterrupt, bdb.BdbQuit)) and not isinstance(cause, TaskInterrupt):
            # Ctrl-C, or `q` in a debugger, is meant for the program, which is this process.
            self.running = None
            self.replies.send(run[0], (run[1], CANCELLED, None, 0))
            raise cause
        super()._failed(run, error, function, started)

    def _become_actor(self, run: Run, message: tuple[Any, ...], creation: dict[str, Any]) -> None:
        self.actor = InlineActorRuntime(self, creation)
        self.callables.clear()
        self.runtime.current_task = run
        self.circumstances.hold(self.actor.resources)
        self.actor.construct(run, message)

    def interrupt(self, run: Run) -> None:
        """What runs on the caller's own stack is not interrupted."""

    def retire(self, last: Run) -> None:
        """There is no other process to go on with."""

    def on_cancel(self, sender: int, seq: int, recursive: bool) -> None:
        """Note that a call was cancelled. What runs on this very stack cannot be interrupted, but may ask."""
        run = (sender, seq)
        self.cancelled.append(run)
        if recursive:
            self.runtime.cancel_children(run)
        if self.actor is not None:
            self.actor.cancel(run)


class Suspended:
    """A generator between two items."""

    def __init__(
        self,
        executor: InlineExecutor,
        run: Run,
        values: Iterator[Any],
        function: Callable[..., Any],
        ahead_max: int | None,
    ) -> None:
        self.executor = executor
        self.run = run
        #: whether its producer may run ahead of its reader without end
        self.is_bounded = bool(ahead_max)
        self._values = values
        self._function = function
        self._count = 0
        self._started = perf_counter_ns()
        self._is_running = False
        self._is_closed = False
        #: called once there will be no more items
        self.on_end: Callable[[], None] = lambda: None

    def step(self) -> bool:
        """Produce one item; False if there is none any more, or it is being produced below this call."""
        if self._is_running or self._is_closed:
            return False
        executor, run = self.executor, self.run
        runtime = executor.runtime
        outer = runtime.enter(executor)
        runtime.current_task = executor.running = run
        self._is_running = True
        try:
            value = next(self._values)
            executor.replies.send_item(run[0], run[1], self._count, value)
            self._count += 1
            return True
        except StopIteration:
            self._end()
            executor.replies.send(run[0], (run[1], END, self._count, 0))
        except BaseException as error:
            self._end()
            executor._failed(run, error, self._function, self._started)
        finally:
            self._is_running = False
            executor.running = None
            runtime.leave(outer)
            if self._is_closed and run[1] in runtime.generators:
                self._end()
        return False

    def finish(self) -> None:
        """Produce all items that are left."""
        while self.step():
            pass

    def close(self) -> None:
        """Produce no more items: the generator's `finally` blocks run."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._is_running:
            self._end()
        self.executor.replies.send(self.run[0], (self.run[1], CANCELLED, None, 0))

    def _end(self) -> None:
        self._is_closed = True
        self.executor.runtime.generators.pop(self.run[1], None)
        close = getattr(self._values, "close", None)
        if close is not None:
            self.executor.runtime.call_user(close)
        self.on_end()


def _in_another_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own and wait for it."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.extend((True, function()))
        except BaseException as error:
            outcome.extend((False, error))

    thread = threading.Thread(target=call, name="orchestrator-inline")
    thread.start()
    thread.join()
    succeeded, value = outcome
    if not succeeded:
        raise value
    return value

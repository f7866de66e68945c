"""An actor in its process: its beginning, its methods, its end.

Three kinds. A *plain* actor runs its calls on the main thread in the executor's loop, one by one. A
*threaded* one (`max_concurrency` above one, or concurrency groups) hands them to pools of threads
(`threaded_calls.py`). An *async* one (any `async def` method) has an asyncio loop on the main thread that
also waits for messages (`async_calls.py`): no thread switch lies between a message and its coroutine.

When it ends of its own accord (its handles are gone, a method asked for it, it was told to) what runs is
finished, the shutdown hook runs, then the exit handlers, then the node hears of it. Only `kill` and
accidents leave these out.
"""

from __future__ import annotations

import atexit
import inspect
import os
import sys
import threading
import traceback
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.core.actor_record import SHUTDOWN_HOOKS
from orchestrator.core.current_call import ConcurrentRuntime, current_call
from orchestrator.core.entry import ERROR
from orchestrator.core.messages import CANCELLED, NOBODYS_SEQ
from orchestrator.core.values import dump_error, task_error

if TYPE_CHECKING:
    from orchestrator.core.async_calls import AsyncCalls
    from orchestrator.core.executor import Executor, Run


class ActorExit(SystemExit):
    """Raised inside a method to end the actor gracefully."""


class ActorRuntime:
    """The actor that lives in this process."""

    def __init__(self, executor: Executor, creation: dict[str, Any]) -> None:
        self.executor = executor
        self.runtime = executor.runtime
        self.actor_id = bytes.fromhex(creation["id"])
        self.name: str | None = creation.get("name")
        self.namespace: str | None = creation.get("namespace")
        self.detached: bool = creation.get("detached", False)
        self.class_name: str = creation["class_name"]
        self.resources: dict[str, float] = creation.get("resources") or {}
        self.instance: Any = None
        self.is_async: bool = creation.get("asyncio", False)
        self.max_concurrency: int = creation.get("max_concurrency") or (
            config.ASYNC_CONCURRENCY if self.is_async else 1
        )
        self.groups: dict[str, int] = creation.get("groups") or {}
        #: whether several calls may run at a time, and not in the executor's own loop
        self.overlaps = self.is_async or self.max_concurrency > 1 or bool(self.groups)
        #: whether an earlier process of this actor has died
        self.reconstructed = False
        #: calls that are being run, or wait in a pool
        self.active: dict[Run, Any] = {}
        #: those of them whose cancellation was asked for; the running code may ask `is_canceled`
        self.flagged: set[Run] = set()
        self.loop: AsyncCalls | None = None
        #: the compiled graph it is part of, and whether that is served by the loop that takes its calls
        self.graph: Any = None
        self.serves_graph = False
        self.cause = "all handles to it are gone"
        self._init_failed = False
        if self.overlaps:
            self._let_calls_overlap()

    @property
    def owns_loop(self) -> bool:
        """Whether the calls do not run in the executor's own loop."""
        return (self.overlaps and self.instance is not None) or self.serves_graph

    def _let_calls_overlap(self) -> None:
        self.runtime.__class__ = ConcurrentRuntime

    # -- beginning

    def construct(self, run: Run, message: tuple[Any, ...]) -> None:
        """Run the constructor and tell the creator and the node how it went."""
        sender, seq = run
        executor = self.executor
        somebody_waits = seq != NOBODYS_SEQ
        self.reconstructed = executor.restarts > 0
        cls: Any = None
        started = perf_counter_ns()
        try:
            cls = executor.runtime.functions.load(message[1])
            args, kwargs = executor.unpack(message)
            executor.running = run
            try:
                self.instance = cls(*args, **kwargs)
            finally:
                executor.running = None
        except BaseException as error:
            wrapped = task_error(error, f"{self.class_name}.__init__")
            self.runtime.history.failed_run(run, cls, started, error, False)
            if somebody_waits:
                executor.replies.send(sender, (seq, ERROR, dump_error(wrapped), 0))
            self.cause = f"its constructor failed\n{wrapped}"
            self._init_failed = True
            executor.stop(drain=False)
            return
        executor.ran((run, cls, started, perf_counter_ns(), None))
        self._send_state("alive", "", label=self._label())
        if somebody_waits:
            executor.replies.send_value(sender, seq, None, 0)

    def _send_state(self, state: str, cause: str, label: str = "") -> None:
        self.runtime.node.send(
            {
                "op": "actor_state",
                "actor": self.actor_id.hex(),
                "state": state,
                "cause": cause[-8000:],
                "init_failed": self._init_failed,
                "label": label,
            }
        )

    def _label(self) -> str:
        """Return what marks the actor's lines: its own `repr`, if it has one."""
        if type(self.instance).__repr__ is object.__repr__:  # type: ignore[comparison-overlap]
            return ""
        try:
            return " ".join(repr(self.instance).split())
        except Exception:
            return ""

    # -- end

    def finish(self) -> None:
        """Say good-bye: the user's shutdown hook and exit handlers, then the news to the node."""
        hooks = [getattr(self.instance, name, None) for name in SHUTDOWN_HOOKS]
        hook = hooks[0] or hooks[1]
        watch = threading.Timer(config.SHUTDOWN_HOOK_TIMEOUT_S, self._give_up)
        watch.daemon = True
        watch.start()
        try:
            if hook is not None:
                self._call_hook(hook)
            atexit._run_exitfuncs()
        finally:
            watch.cancel()
            self._send_state("dead", self.cause)

    def _call_hook(self, hook: Any) -> None:
        try:
            waiting = hook()
            if inspect.iscoroutine(waiting):
                import asyncio

                asyncio.run(waiting)
        except BaseException:
            traceback.print_exc()

    def _give_up(self) -> None:
        """The hook takes for ever."""
        self._send_state(
            "dead", f"{self.cause}; its shutdown took more than {config.SHUTDOWN_HOOK_TIMEOUT_S:g} s"
        )
        sys.stderr.flush()
        os._exit(1)

    def is_exit(self, error: BaseException) -> bool:
        """Tell whether a method ended because it wants the actor to end."""
        return isinstance(error, SystemExit)

    def leave(self, run: Run, error: BaseException) -> None:
        """A method asked for the end: its caller and all further ones learn that the actor is dead."""
        if isinstance(error, ActorExit):
            self.cause = str(error) or "it ended itself by exit_actor()"
        else:
            self.cause = f"it ended itself by sys.exit({error.args[0] if error.args else ''})"
        died = exceptions.ActorDiedError(f"actor {self.class_name}: {self.cause}", self.actor_id.hex())
        self.executor.replies.send_failure(run[0], run[1], died)
        self.executor.stop(drain=False)

    def wake(self) -> None:
        """Let a loop of the actor's own notice that it is to stop."""
        if self.loop is not None:
            self.loop.wake()

    # -- calls

    def run(self) -> None:
        """Serve calls until the actor ends; only for actors with `owns_loop`."""
        if self.is_async:
            from orchestrator.core.async_calls import AsyncCalls

            self.loop = AsyncCalls(self)
            self.loop.run()
        elif self.serves_graph:
            while self.serves_graph and not self.executor.stopping:
                self.graph.serve()
                self.serves_graph = False
                if not self.executor.stopping:
                    self.executor.run()
        else:
            from orchestrator.core.threaded_calls import ThreadedCalls

            ThreadedCalls(self).run()

    def method(self, name: str) -> Any:
        """Return a method, or one of the built-in ones every actor has."""
        if name == "__ray_ready__":
            return lambda: True
        if name == "__ray_terminate__":
            return _terminate
        if name == "__ray_call__":
            return lambda function, *args, **kwargs: function(self.instance, *args, **kwargs)
        return getattr(self.instance, name)

    def calling(self) -> tuple[Run | None, Any]:
        """Return the call this code belongs to, and its method."""
        if isinstance(self.runtime, ConcurrentRuntime):
            return current_call()
        return self.executor.running, self.executor.current_function

    def what_runs(self) -> str:
        """Return the name of the method on the main thread."""
        if self.instance is None:
            return "__init__"
        return str(getattr(self.calling()[1], "__name__", "?"))

    def cancel(self, run: Run) -> None:
        """Cancel a call: a coroutine is cancelled, running code in a thread can only be told."""
        job = self.active.get(run)
        if job is None:
            return  # it has not begun, or runs on the main thread: `executor.cancelled` has it
        self.flagged.add(run)
        if self.loop is not None:
            self.loop.cancel(job)
        elif job.cancel():
            self.active.pop(run, None)
            self.flagged.discard(run)
            self.executor.replies.send(run[0], (run[1], CANCELLED, None, 0))

    def is_cancelled(self) -> bool:
        """Tell whether the cancellation of the call this code belongs to was asked for."""
        run, _ = self.calling()
        return run in self.flagged or run in self.executor.cancelled


def _terminate() -> None:
    raise ActorExit("it was asked to terminate")

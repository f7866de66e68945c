"""An actor in its process: the instance, its methods, and how calls run.

Three kinds. A *plain* actor runs its calls on the main thread in the executor's loop, one by one. A
*threaded* one (`max_concurrency` above one, or concurrency groups) hands them to pools of threads. An
*async* one (any `async def` method) has an asyncio loop on the main thread that also waits for
messages: no thread switch lies between a message and its coroutine.
"""

from __future__ import annotations

import inspect
import pickle
import threading
from collections import deque
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.options import STREAMING
from orchestrator.core.entry import ERROR
from orchestrator.core.messages import CANCELLED, END, LONG
from orchestrator.core.values import dump_error, task_error
from orchestrator.objects.plasma_adapter import WORK

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from orchestrator.core.executor import Executor, Run

DEFAULT_GROUP = ""


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
        #: calls that are being run, or wait in a pool
        self.active: dict[Run, Any] = {}
        #: calls whose cancellation was asked for; the running code may ask `is_canceled`
        self.flagged: set[Run] = set()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._local = threading.local()
        self.loop: AsyncCalls | None = None
        self.cause = "all handles to it are gone"

    @property
    def owns_loop(self) -> bool:
        """Whether the calls do not run in the executor's own loop."""
        return self.instance is not None and (self.is_async or self.max_concurrency > 1 or bool(self.groups))

    # -- beginning and end

    def construct(self, run: Run, message: tuple[Any, ...]) -> None:
        """Run the constructor and tell the creator and the node how it went."""
        sender, seq = run
        executor = self.executor
        cls: Any = None
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
            executor.replies.send(sender, (seq, ERROR, dump_error(wrapped), 0))
            self.cause = f"its constructor failed\n{wrapped}"
            executor.stop(drain=False)
            return
        self._send_state("alive", "")
        executor.replies.send_value(sender, seq, None, 0)

    def _send_state(self, state: str, cause: str) -> None:
        self.runtime.node.send(
            {"op": "actor_state", "actor": self.actor_id.hex(), "state": state, "cause": cause[-8000:]}
        )

    def finish(self) -> None:
        """Say good-bye: the user's shutdown hook, then the news to the node."""
        hook = getattr(self.instance, "__ray_shutdown__", None) or getattr(
            self.instance, "__shutdown__", None
        )
        if hook is not None:
            self.runtime.call_user(hook)
        self._send_state("dead", self.cause)

    def is_exit(self, error: BaseException) -> bool:
        """Tell whether a method ended because it wants the actor to end."""
        return isinstance(error, ActorExit)

    def leave(self, run: Run) -> None:
        """A method asked for the end: its caller and all further ones learn that the actor is dead."""
        self.cause = "it ended itself by exit_actor()"
        died = exceptions.ActorDiedError(f"actor {self.class_name}: {self.cause}", self.actor_id.hex())
        self.executor.replies.send_failure(run[0], run[1], died)
        self.executor.stop(drain=False)

    def method(self, name: str) -> Any:
        """Return a method, or one of the built-in ones every actor has."""
        if name == "__ray_ready__":
            return lambda: True
        if name == "__ray_terminate__":
            return self._terminate
        if name == "__ray_call__":
            return lambda function, *args, **kwargs: function(self.instance, *args, **kwargs)
        return getattr(self.instance, name)

    def _terminate(self) -> None:
        self.cause = "it was asked to terminate"
        self.executor.stop(drain=False)

    def wake(self) -> None:
        """Let a loop of the actor's own notice that it is to stop."""
        if self.loop is not None:
            self.loop.wake()

    def cancel(self, run: Run) -> None:
        """Cancel a call: a coroutine is cancelled, running code in a thread can only be told."""
        self.flagged.add(run)
        job = self.active.get(run)
        if job is not None and self.loop is not None:
            self.loop.cancel(job)
        elif job is not None and job.cancel():
            self.active.pop(run, None)
            self.executor.replies.send(run[0], (run[1], CANCELLED, None, 0))

    def is_cancelled(self) -> bool:
        """Tell whether the cancellation of the call on this thread was asked for."""
        run = getattr(self._local, "run", None) or self.executor.running
        return run in self.flagged or run in self.executor.cancelled

    # -- threaded actors

    def run(self) -> None:
        """Serve calls until the actor ends; only for actors with `owns_loop`."""
        if self.is_async:
            self.loop = AsyncCalls(self)
            self.loop.run()
            return
        from concurrent.futures import ThreadPoolExecutor

        sizes = {DEFAULT_GROUP: self.max_concurrency, **self.groups}
        for group, size in sizes.items():
            self._pools[group] = ThreadPoolExecutor(size, f"actor-{group or 'calls'}")
        executor = self.executor
        executor.execute = self._dispatch  # type: ignore[method-assign]
        executor.actor = _Threaded(executor.actor)  # type: ignore[assignment, arg-type]
        executor.run()
        for pool in self._pools.values():
            pool.shutdown(wait=True)

    def _dispatch(self, sender: int, payload: bytes) -> None:
        message = pickle.loads(payload)
        if message[1] == LONG:
            message = self.executor.fetch_long(message)
        options = (message[7] if len(message) > 3 else None) or {}
        pool = self._pools.get(options.get("group", DEFAULT_GROUP)) or self._pools[DEFAULT_GROUP]
        run = (sender, message[0])
        self.active[run] = pool.submit(self._call, run, message, options)

    def _call(self, run: Run, message: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Run one call on a thread of a pool."""
        sender, seq = run
        executor = self.executor
        replies = executor.replies
        self._local.run = run
        started = perf_counter_ns()
        function: Any = None
        try:
            function = executor.callable_of(message[1])
            args, kwargs = (message[2], {}) if len(message) == 3 else executor.unpack(message)
            value = function(*args, **kwargs)
            spent_us = (perf_counter_ns() - started) // 1000
            num_returns = options.get("num_returns", 1)
            if num_returns == 1:
                replies.send_value(sender, seq, value, spent_us)
            elif num_returns == STREAMING:
                replies.send_items(sender, seq, iter(value), lambda count: None, spent_us)
            else:
                replies.send_many(sender, seq, value, num_returns, spent_us)
        except BaseException as error:
            executor._failed(run, error, function, started)
        finally:
            self._local.run = None
            self.active.pop(run, None)
            self.flagged.discard(run)


class _Threaded:
    """The actor as the executor sees it while pools run the calls: without a loop to leave for."""

    owns_loop = False

    def __init__(self, actor: ActorRuntime) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._actor, name)


class AsyncCalls:
    """The loop of an async actor: messages in, coroutines, replies out."""

    def __init__(self, actor: ActorRuntime) -> None:
        import asyncio

        from orchestrator.core.ring_selector import RingSelector

        self._actor = actor
        self._executor = actor.executor
        self._runtime = actor.runtime
        self._endpoint = actor.runtime.endpoint
        self._replies = actor.executor.replies
        self._asyncio = asyncio
        self._selector = RingSelector(actor.runtime.endpoint)
        self._loop = asyncio.SelectorEventLoop(self._selector)
        #: calls that wait for one of the `max_concurrency` places
        self._backlog: deque[tuple[int, bytes]] = deque()
        self._methods: dict[str, tuple[Any, int]] = {}
        sizes = {DEFAULT_GROUP: actor.max_concurrency, **actor.groups}
        self._limits = {group: asyncio.Semaphore(size) for group, size in actor.groups.items()}
        self._free = sizes[DEFAULT_GROUP]
        self._stopped = False

    def run(self) -> None:
        """Serve calls until the actor is to end."""
        self._asyncio.set_event_loop(self._loop)
        self._loop.add_reader(self._endpoint.fileno(), self._take)
        self._loop.call_soon(self._take)
        self._loop.call_later(config.TICK_S, self._tick)
        try:
            self._loop.run_forever()
            pending = self._asyncio.all_tasks(self._loop)
            for task in pending:
                task.cancel()
            if pending:
                self._loop.run_until_complete(self._asyncio.gather(*pending, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def wake(self) -> None:
        """Look again whether the actor is to end; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._stop_if_done)
        except RuntimeError:
            pass

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel a call that runs; from any thread."""
        self._loop.call_soon_threadsafe(task.cancel)

    def _tick(self) -> None:
        self._runtime.tick()
        self._take()
        self._loop.call_later(config.TICK_S, self._tick)

    def _take(self) -> None:
        """Read what has come, until nothing has."""
        endpoint = self._endpoint
        receive = endpoint.receive
        poll = self._runtime.pump.poll
        # A bound, so that a flood of calls does not keep the coroutines from running.
        for _ in range(128):
            item = receive(WORK)
            if item is None:
                if not poll():
                    if self._runtime.pump.lock.locked():
                        self._selector.put_off()
                    break
                continue
            if self._free > 0 and not self._backlog and not self._executor.quitting:
                self._start(*item)
            else:
                self._backlog.append(item)
        else:
            self._loop.call_soon(self._take)
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        executor = self._executor
        if executor.quitting:
            self._backlog.clear()
        if executor.stopping and not self._actor.active and not self._backlog and not self._stopped:
            self._stopped = True
            self._loop.stop()

    def _start(self, sender: int, payload: bytes) -> None:
        message = pickle.loads(payload)
        if message[1] == LONG:
            message = self._executor.fetch_long(message)
        run = (sender, message[0])
        if self._executor.cancelled and run in self._executor.cancelled:
            self._replies.send(sender, (message[0], CANCELLED, None, 0))
            return
        self._free -= 1
        self._actor.active[run] = self._loop.create_task(self._serve(run, message))

    async def _serve(self, run: Run, message: tuple[Any, ...]) -> None:
        """Run one call to its end."""
        sender, seq = run
        executor = self._executor
        started = perf_counter_ns()
        function: Any = None
        try:
            function = executor.callables.get(message[1])
            if function is None:
                function = executor.callable_of(message[1])
            if len(message) == 3:
                value = function(*message[2])
                options: dict[str, Any] = {}
            else:
                args, kwargs = executor.unpack(message)
                options = message[7] or {}
                limit = self._limits.get(options.get("group", DEFAULT_GROUP))
                if limit is not None:
                    async with limit:
                        value = function(*args, **kwargs)
                        if inspect.isawaitable(value):
                            value = await value
                else:
                    value = function(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
            spent_us = (perf_counter_ns() - started) // 1000
            num_returns = options.get("num_returns", 1)
            if num_returns == 1:
                self._replies.send_value(sender, seq, value, spent_us)
            elif num_returns == STREAMING:
                await self._send_items(run, value, options.get("backpressure"), spent_us)
            else:
                self._replies.send_many(sender, seq, value, num_returns, spent_us)
        except self._asyncio.CancelledError:
            self._replies.send(sender, (seq, CANCELLED, None, 0))
        except BaseException as error:
            executor._failed(run, error, function, started)
        finally:
            self._free += 1
            self._actor.active.pop(run, None)
            self._actor.flagged.discard(run)
            if self._backlog and not executor.quitting:
                self._start(*self._backlog.popleft())
            if executor.stopping:
                self._stop_if_done()

    async def _send_items(self, run: Run, values: Any, ahead_max: int | None, spent_us: int) -> None:
        sender, seq = run
        count = 0
        consumed = self._executor.consumed
        if ahead_max:
            consumed[run] = 0
        try:
            if hasattr(values, "__aiter__"):
                async for value in values:
                    self._replies.send_item(sender, seq, count, value)
                    del value
                    count += 1
                    while ahead_max and count - consumed[run] >= ahead_max:
                        await self._asyncio.sleep(config.COLLECT_S)
            else:
                for value in values:
                    self._replies.send_item(sender, seq, count, value)
                    count += 1
                    await self._asyncio.sleep(0)
        finally:
            consumed.pop(run, None)
        self._replies.send(sender, (seq, END, count, spent_us))

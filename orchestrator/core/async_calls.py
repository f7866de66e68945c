"""The calls of an async actor: coroutines on one loop, which waits for messages itself."""

from __future__ import annotations

import inspect
import pickle
from collections import deque
from time import perf_counter_ns
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any

from orchestrator.common import config
from orchestrator.common.options import STREAMING
from orchestrator.core.circumstances import timeout_error
from orchestrator.core.current_call import enter_call
from orchestrator.core.generators import GENERATORS, collected, only_item
from orchestrator.core.history import name_of
from orchestrator.core.messages import CANCELLED, END, LONG
from orchestrator.objects.plasma_adapter import WORK

if TYPE_CHECKING:
    import asyncio

    from orchestrator.core.actor_runtime import ActorRuntime
    from orchestrator.core.executor import Run


class Group:
    """A concurrency group: how many more calls may run, and those that wait for that."""

    __slots__ = ("backlog", "free")

    def __init__(self, size: int) -> None:
        self.free = size
        self.backlog: deque[tuple[int, tuple[Any, ...]]] = deque()


loads = pickle.loads


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
        #: the group of calls that name none; nearly always the only one
        self._default = Group(actor.max_concurrency)
        self._groups = {group: Group(size) for group, size in actor.groups.items()}
        self._stopped = False
        #: calls whose time is over, cancelled for it
        self._overdue: set[Run] = set()

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
        try:
            self._loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:
            pass  # the loop has ended, and the call with it

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
            sender, payload = item
            message = loads(payload)
            if message[1] == LONG:
                message = self._executor.fetch_long(message)
            group = self._default
            if self._groups and len(message) > 3 and message[7]:
                group = self._groups.get(message[7].get("group"), group)
            if group.free > 0 and not group.backlog and not self._executor.quitting:
                self._start(group, sender, message)
            else:
                group.backlog.append((sender, message))
        else:
            self._loop.call_soon(self._take)
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if not self._executor.stopping:
            return
        executor = self._executor
        waiting = 0
        for group in (self._default, *self._groups.values()):
            if executor.quitting:
                group.backlog.clear()
            waiting += len(group.backlog)
        if executor.stopping and not self._actor.active and not waiting and not self._stopped:
            self._stopped = True
            self._loop.stop()

    def _start(self, group: Group, sender: int, message: tuple[Any, ...]) -> None:
        run = (sender, message[0])
        if self._executor.cancelled and run in self._executor.cancelled:
            self._replies.send(sender, (message[0], CANCELLED, None, 0))
            return
        group.free -= 1
        self._actor.active[run] = self._loop.create_task(self._serve(group, run, message))

    async def _serve(self, group: Group, run: Run, message: tuple[Any, ...]) -> None:
        """Run one call to its end."""
        sender, seq = run
        executor = self._executor
        started = perf_counter_ns()
        function: Any = None
        clock: asyncio.TimerHandle | None = None
        limit_s = 0.0
        try:
            function = executor.callables.get(message[1])
            if function is None:
                function = executor.callable_of(message[1])
            enter_call((run, function))
            if len(message) == 3:
                value = function(*message[2])
                options: dict[str, Any] = {}
            else:
                args, kwargs = executor.unpack(message)
                options = message[7] or {}
                if "timeout_s" in options:
                    limit_s = options["timeout_s"]
                    clock = self._loop.call_later(limit_s, self._time_is_over, run)
                value = function(*args, **kwargs)
                del args, kwargs
            del message
            if inspect.isawaitable(value):
                value = await value
            num_returns = options.get("num_returns", 1)
            if num_returns == 1 and type(value) in GENERATORS:
                value = only_item(await collected(value, 1) if type(value) is AsyncGeneratorType else value)
            spent_us = (perf_counter_ns() - started) // 1000
            executor.ran((run, function, started, started + spent_us * 1000, None))
            if num_returns == 1:
                self._replies.send_value(sender, seq, value, spent_us)
            elif num_returns == STREAMING:
                await self._send_items(run, value, options.get("backpressure"), spent_us)
            else:
                if hasattr(value, "__anext__"):
                    value = await collected(value, num_returns if num_returns >= 0 else None)
                executor.send_several(run, value, num_returns, options, started)
        except self._asyncio.CancelledError as error:
            late = run in self._overdue and run not in executor.cancelled
            self._runtime.history.failed_run(run, function, started, error, not late)
            if late:
                self._replies.send_failure(sender, seq, timeout_error(name_of(function), limit_s))
            else:
                self._replies.send(sender, (seq, CANCELLED, None, 0))
        except BaseException as error:
            executor._failed(run, error, function, started)
        finally:
            if clock is not None:
                clock.cancel()
                self._overdue.discard(run)
            group.free += 1
            self._actor.active.pop(run, None)
            self._actor.flagged.discard(run)
            while group.backlog and group.free > 0 and not executor.quitting:
                self._start(group, *group.backlog.popleft())
            if executor.stopping:
                self._stop_if_done()

    def _time_is_over(self, run: Run) -> None:
        """A call has had its time."""
        self._overdue.add(run)
        self._actor.active[run].cancel()

    async def _send_items(self, run: Run, values: Any, ahead_max: int | None, spent_us: int) -> None:
        sender, seq = run
        count = 0
        back_pressure = self._executor.back_pressure
        taken = back_pressure.taken
        if ahead_max:
            taken[run] = 0
        try:
            if hasattr(values, "__aiter__"):
                async for value in values:
                    self._replies.send_item(sender, seq, count, value)
                    del value
                    count += 1
                    while ahead_max and count - taken[run] >= ahead_max:
                        await self._asyncio.sleep(config.COLLECT_S)
            else:
                for value in values:
                    self._replies.send_item(sender, seq, count, value)
                    del value
                    count += 1
                    await self._asyncio.sleep(0)
                    while ahead_max and count - taken[run] >= ahead_max:
                        await self._asyncio.sleep(config.COLLECT_S)
        finally:
            back_pressure.forget(run)
        self._replies.send(sender, (seq, END, count, spent_us))

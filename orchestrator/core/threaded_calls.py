"""The calls of a threaded actor: a pool of threads for each concurrency group."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from orchestrator.common.options import STREAMING
from orchestrator.core.current_call import enter_call, leave_call
from orchestrator.core.generators import GENERATORS, only_item
from orchestrator.core.messages import CANCELLED, LONG

if TYPE_CHECKING:
    from orchestrator.core.actor_runtime import ActorRuntime
    from orchestrator.core.executor import Run


class ThreadedCalls:
    """Takes messages on the main thread and hands them to pools."""

    def __init__(self, actor: ActorRuntime) -> None:
        self._actor = actor
        self._executor = actor.executor
        self._default = ThreadPoolExecutor(actor.max_concurrency, "actor-calls")
        self._pools = {
            group: ThreadPoolExecutor(size, f"actor-{group}") for group, size in actor.groups.items()
        }

    def run(self) -> None:
        """Serve calls until the actor is to end."""
        executor = self._executor
        executor.execute = self._dispatch  # type: ignore[method-assign]
        self._actor.overlaps = False  # the executor's own loop is the right one from here on
        executor.run()
        for pool in (self._default, *self._pools.values()):
            pool.shutdown(wait=True, cancel_futures=executor.quitting)

    def _dispatch(self, sender: int, payload: bytes) -> None:
        executor = self._executor
        message = pickle.loads(payload)
        if message[1] == LONG:
            message = executor.fetch_long(message)
        options = (message[7] if len(message) > 3 else None) or {}
        run = (sender, message[0])
        if executor.cancelled and run in executor.cancelled:
            executor.replies.send(sender, (message[0], CANCELLED, None, 0))
            return
        pool = self._pools.get(options.get("group", ""), self._default)
        self._actor.active[run] = pool.submit(self._call, run, message, options)

    def _call(self, run: Run, message: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Run one call on a thread of a pool."""
        sender, seq = run
        executor = self._executor
        replies = executor.replies
        started = perf_counter_ns()
        function: Any = None
        token = enter_call((run, None))
        try:
            function = executor.callable_of(message[1])
            enter_call((run, function))
            args, kwargs = (message[2], {}) if len(message) == 3 else executor.unpack(message)
            del message
            value = function(*args, **kwargs)
            del args, kwargs
            num_returns = options.get("num_returns", 1)
            if num_returns == 1 and type(value) in GENERATORS:
                value = only_item(value)
            spent_us = (perf_counter_ns() - started) // 1000
            executor.ran((run, function, started, started + spent_us * 1000, None))
            if num_returns == 1:
                replies.send_value(sender, seq, value, spent_us)
            elif num_returns == STREAMING:
                executor.send_items(run, value, options.get("backpressure"), spent_us)
            else:
                executor.send_several(run, value, num_returns, options, started)
        except BaseException as error:
            executor._failed(run, error, function, started)
        finally:
            leave_call(token)
            self._actor.active.pop(run, None)
            self._actor.flagged.discard(run)

"""A compiled graph in one of its actors: values in, methods, values out.

A plain actor's methods run on its main thread, as ever: while it has a graph, the loop that takes its
calls takes the graph's values too, so a step costs no thread a wake-up, and a call and a step never run at
the same time. An actor whose calls overlap runs its part on a thread of its own.
"""

from __future__ import annotations

import inspect
import threading
from functools import partial
from operator import itemgetter
from threading import get_ident
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.core.current import require
from orchestrator.core.entry import ERROR
from orchestrator.core.values import dump_error, task_error
from orchestrator.dag.plan import ActorPlan, Operation, fill, taken_apart
from orchestrator.dag.registry import registry_of
from orchestrator.dag.values import DATA, STOPPED, Packed, pack, release, unpack
from orchestrator.objects.plasma_adapter import CONTROL_MASK, WORK, WORK_MASK

if TYPE_CHECKING:
    from orchestrator.core.executor import Executor


class GraphError(Exception):
    """Carries the packed error of an operation before this one, which goes on to whoever reads this one."""

    def __init__(self, blob: Any) -> None:
        self.blob = blob


class ActorLoop:
    """One actor's part of one compiled graph."""

    def __init__(self, executor: Executor, plan: ActorPlan) -> None:
        assert executor.actor is not None
        self._executor = executor
        self._runtime = executor.runtime
        self._actor = executor.actor
        self._plan = plan
        self._methods = [
            self._actor.method(operation.method) if operation.part is None else itemgetter(operation.part)
            for operation in plan.operations
        ]
        needs = [slot for operation in plan.operations for slot in operation.needs]
        #: slots that several operations take
        self._shared = {slot for slot in needs if needs.count(slot) > 1}
        #: what has arrived, by execution and slot
        self._values: dict[int, dict[int, Packed]] = {}
        #: what this actor has made and takes itself, in the execution under way
        self._own: dict[int, Any] = {}
        #: the execution under way, and which operation of it is next
        self._number = 0
        self._position = 0
        #: something has arrived since the last look
        self._has_news = False
        self.is_closed = False
        self._main_ident = get_ident()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    # -- from outside, in whichever thread reads messages

    def arrived(self, number: int, slot: int, kind: int, payload: Any) -> None:
        """Take a value of an execution."""
        self._values.setdefault(number, {})[slot] = (kind, payload)
        self._has_news = True
        self._tell()

    def close(self) -> None:
        """The graph is torn down: leave it after the step that runs."""
        self.is_closed = True
        self._tell()

    def _tell(self) -> None:
        if self._thread is not None:
            self._wake.set()
        elif get_ident() != self._main_ident:
            self._runtime.endpoint.ring()

    # -- the two ways to run

    def start_thread(self) -> None:
        """Run on a thread of its own: for actors whose calls overlap."""
        self._thread = threading.Thread(target=self._run, name="actor-graph", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self.is_closed and not self._executor.quitting:
            self._wake.wait()
            self._wake.clear()
            while self._has_news and not self.is_closed:
                self._has_news = False
                self._advance()
        self._leave()

    def serve(self) -> None:
        """Take values of the graph and ordinary calls until the graph, or the actor, ends."""
        executor = self._executor
        runtime = self._runtime
        endpoint = runtime.endpoint
        receive = partial(endpoint.receive, WORK)
        poll = runtime.pump.poll
        blocking = executor.blocking
        mask = CONTROL_MASK | WORK_MASK
        while not self.is_closed:
            bell = endpoint.bell()
            if self._has_news:
                self._has_news = False
                self._advance()
                if executor.quitting:
                    return
            item = receive()
            if item is not None:
                executor.execute(*item)
                if blocking.waits:
                    blocking.end_task(item[0])
                if executor.quitting:
                    return
            elif executor.stopping:
                return
            elif not poll() and not self._has_news:
                due = runtime.tick() if runtime.dispatcher.has_leases else config.TICK_S
                endpoint.wait(mask, due, bell)
        self._leave()

    def _leave(self) -> None:
        for values in self._values.values():
            for kind, payload in values.values():
                release(self._runtime, kind, payload)
        self._values.clear()
        registry_of(self._runtime).remove(self._plan.graph)
        self._actor.graph = None
        self._runtime.send_control(self._plan.driver, (STOPPED, self._plan.graph))

    # -- the steps

    def _advance(self) -> None:
        """Run the operations whose turn it is, as far as their values are here."""
        operations = self._plan.operations
        while not self.is_closed:
            values = self._values.get(self._number)
            operation = operations[self._position]
            for slot in operation.needs:
                if slot not in self._own and (values is None or slot not in values):
                    return
            self._run_operation(operation, self._methods[self._position], values or {})
            self._position += 1
            if self._position == len(operations):
                self._values.pop(self._number, None)
                self._own.clear()
                self._number += 1
                self._position = 0
            if self._executor.quitting:
                return

    def _run_operation(self, operation: Operation, method: Any, values: dict[int, Packed]) -> None:
        executor = self._executor
        outcome: list[Packed] | None = None
        result: Any = None
        try:
            taken = {slot: self._take(slot, values) for slot in operation.needs}
            executor.current_function = method
            if operation.takes_only is not None:
                result = method(taken.pop(operation.takes_only))
            else:
                args, kwargs = fill(operation.args, taken), fill(operation.kwargs, taken)
                del taken
                result = method(*args, **kwargs)
                del args, kwargs
            if operation.part is None and inspect.isawaitable(result):
                result = self._await(result)
            if operation.num_returns > 1 and operation.part is None:
                result = taken_apart(result, operation.num_returns)
            if operation.readers:
                outcome = pack(self._runtime, result, operation.readers, "return value")
        except GraphError as error:
            result, outcome = error, [(ERROR, error.blob)] * len(operation.readers)
        except BaseException as error:
            blob = self._describe(error, operation)
            result, outcome = GraphError(blob), [(ERROR, blob)] * len(operation.readers)
            error.__traceback__ = None
        if operation.is_read_here:
            self._own[operation.out] = result
        for address, (kind, payload) in zip(operation.readers, outcome or (), strict=True):
            message = (DATA, self._plan.graph, self._number, operation.out, kind, payload)
            self._runtime.send_control(address, message)

    def _take(self, slot: int, values: dict[int, Packed]) -> Any:
        if slot in self._own:
            value = self._own[slot]
            if type(value) is GraphError:
                raise value
            return value
        kind, payload = values[slot]
        if kind == ERROR:
            raise GraphError(payload)
        value = unpack(self._runtime, kind, payload)
        if slot in self._shared:
            # Another operation takes it too, and its reference is given back by now.
            self._own[slot] = value
        return value

    def _await(self, awaitable: Any) -> Any:
        import asyncio

        async def wait() -> Any:
            return await awaitable

        loop = self._actor.loop
        if loop is None:
            return asyncio.run(wait())
        return asyncio.run_coroutine_threadsafe(wait(), loop._loop).result()

    def _describe(self, error: BaseException, operation: Operation) -> Any:
        """Return the packed error that goes on in place of a result."""
        name = f"{self._actor.class_name}.{operation.method}"
        if self._actor.is_exit(error):
            self._actor.cause = str(error) or "it ended itself"
            self._executor.stop(drain=False)
            died = exceptions.ActorDiedError(
                f"actor {self._actor.class_name}: {self._actor.cause}", self._actor.actor_id.hex()
            )
            return dump_error(died)
        return dump_error(task_error(error, name))


def install(instance: Any, plan: ActorPlan) -> None:
    """Begin with a graph; runs in the actor, as one of its calls.

    Raises:
        ValueError: the actor is in another graph.
    """
    runtime = require()
    executor = runtime.executor
    assert executor is not None and executor.actor is not None
    actor = executor.actor
    if actor.graph is not None:
        raise ValueError(
            f"actor {actor.class_name} is in another compiled graph: tear that down first, as an actor is in "
            "one at a time"
        )
    loop = ActorLoop(executor, plan)
    registry_of(runtime).add(plan.graph, loop)
    actor.graph = loop
    if actor.is_async or actor.max_concurrency > 1 or actor.groups:
        loop.start_thread()
    else:
        actor.serves_graph = True

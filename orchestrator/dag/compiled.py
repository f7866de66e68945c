"""The side of a compiled graph that starts executions and takes their results.

Once set up, an execution is a message to each actor that takes the input; results come back by themselves and
wait here for their `get`. Neither the node process nor the driver lies between two actors.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestrator import exceptions
from orchestrator.common.clock import monotonic
from orchestrator.common.ids import random_hex
from orchestrator.core.actor_record import ActorRecord
from orchestrator.core.awaiting import wait_in_loop
from orchestrator.core.current import require
from orchestrator.core.entry import ERROR, PLAIN, STORED, Entry
from orchestrator.core.runtime import Runtime
from orchestrator.dag import picture
from orchestrator.dag.actor_loop import install
from orchestrator.dag.nodes import ClassMethodNode, DAGNode, GraphInput, InputAttributeNode
from orchestrator.dag.plan import Plan
from orchestrator.dag.registry import registry_of
from orchestrator.dag.values import DATA, STOP, Packed, look, pack, release
from orchestrator.objects.plasma_adapter import Hold


def _setting(name: str, default: float) -> float:
    return float(os.environ.get(f"RAY_CGRAPH_{name}") or default)


@dataclass
class DAGContext:
    """What compiled graphs do when they aren't told otherwise. `DAGContext.get_current()` may be changed."""

    submit_timeout: float = _setting("submit_timeout", 10)
    get_timeout: float = _setting("get_timeout", 10)
    teardown_timeout: float = _setting("teardown_timeout", 30)
    buffer_size_bytes: int = int(_setting("buffer_size_bytes", 1e6))
    max_inflight_executions: int = int(_setting("max_inflight_executions", 10))
    max_buffered_results: int = int(_setting("max_buffered_results", 1000))

    @staticmethod
    def get_current() -> DAGContext:
        """Return the settings of this process."""
        return _CONTEXT


_CONTEXT = DAGContext()


class Result(NamedTuple):
    """A result that has come, and the hold on the object it is in, if it is in one."""

    kind: int
    payload: Any
    hold: Hold | None


class CompiledDAGRef:
    """The result of one execution. `get` returns it, once."""

    __slots__ = ("__weakref__", "_entry", "_graph", "_is_taken", "_number")

    def __init__(self, graph: CompiledDAG, number: int, entry: Entry) -> None:
        self._graph = graph
        self._number = number
        self._entry = entry
        self._is_taken = False

    def get(self, timeout: float | None = None) -> Any:
        """Return the result, waiting for it.

        Args:
            timeout: seconds; as the context says (10) unless given, -1 waits for ever.

        Raises:
            ChannelTimeoutError: no result in time; it can be asked for again.
            ValueError: it was got before.
            ActorDiedError: an actor of the graph died.
            Exception: what a method raised.
        """
        self._check()
        limit = _CONTEXT.get_timeout if timeout is None else timeout
        if not self._entry.state:
            deadline = None if limit < 0 else monotonic() + limit
            if not self._graph._runtime.pump.wait(self._entry, deadline):
                raise exceptions.ChannelTimeoutError(
                    f"execution {self._number} of the compiled graph has no result after {limit:g} s. "
                    "get(timeout=-1) waits for ever; DAGContext.get_current().get_timeout is the default"
                )
        return self._value()

    __orchestrator_get__ = get

    def __await__(self) -> Generator[Any, None, Any]:
        self._check()
        if not self._entry.state:
            yield from wait_in_loop(self._entry, self._graph._runtime.references)
        return self._value()

    def _check(self) -> None:
        if self._is_taken:
            raise ValueError("get() of a compiled graph's result was called before: it can be got once")
        self._graph._runtime.check_alive()

    def _value(self) -> Any:
        self._is_taken = True
        entry, self._entry = self._entry, Entry(0, PLAIN)
        self._graph._taken(self._number)
        if entry.state == ERROR:
            raise _again(entry.value)
        result: Result = entry.value
        return look(self._graph._runtime, result.kind, result.payload)

    def __del__(self) -> None:
        try:
            if not self._is_taken:
                self._graph._dropped.append(self._number)
        except AttributeError:
            pass  # its own constructor failed

    def __repr__(self) -> str:
        state = "taken" if self._is_taken else "ready" if self._entry.state else "pending"
        return f"CompiledDAGRef(execution {self._number}, {state})"

    def __reduce__(self) -> Any:
        raise TypeError("a CompiledDAGRef cannot be pickled: get() it and pass the value")


def _again(error: BaseException) -> BaseException:
    from orchestrator.core.values import raisable

    return raisable(error)


#: What `execute_async` returns: to be awaited, once.
CompiledDAGFuture = CompiledDAGRef


class CompiledDAG:
    """A graph that is set up in its actors."""

    def __init__(
        self, plan: Plan, runtime: Runtime, submit_timeout_s: float, inflight_max: int, buffered_max: int
    ) -> None:
        self._plan = plan
        self._runtime = runtime
        self._submit_timeout_s = submit_timeout_s
        self._inflight_max = inflight_max
        self._buffered_max = buffered_max
        self.id = random_hex()
        self._lock = threading.RLock()
        self._next_number = 0
        #: results that have not come, by execution: slot to entries
        self._pending: dict[int, dict[int, list[Entry]]] = {}
        #: results of each execution that nobody has got yet
        self._untaken: dict[int, int] = {}
        #: executions of refs that went without `get`; a destructor can do no more than append
        self._dropped: list[int] = []
        #: completed when an execution ends
        self._room = Entry(0)
        self._error: exceptions.OrchestratorError | None = None
        self._is_torn_down = False
        #: actors that have not left the graph, by address, and what is completed when one leaves
        self._members: dict[int, Any] = {}
        self._left = Entry(0)
        self._inputs: list[tuple[DAGNode, int, list[int]]] = []

    # -- setting up

    def _set_up(self) -> None:
        runtime = self._runtime
        handles = self._plan.handles()
        for handle in handles:
            if handle._orchestrator_runtime is not runtime:
                raise ValueError(f"{handle!r} belongs to another session")
        # They must be there, and their addresses known, before they can be told of each other.
        runtime.get_many([handle.__ray_ready__.remote() for handle in handles], None)
        addresses = {handle: self._record_of(handle).address for handle in handles}
        here = runtime.store.address
        for node in self._plan.inputs:
            readers = self._plan.readers_of(node, addresses)
            if readers:
                self._inputs.append((node, self._plan.slots[node], readers))
        registry_of(runtime).add(self.id, self)
        installed: list[Any] = []
        try:
            refs = []
            for handle in handles:
                part = self._plan.part_of(handle, self.id, here, addresses)
                refs.append(handle.__ray_call__.remote(install, part))
            for handle, ref in zip(handles, refs, strict=True):
                runtime.get_one(ref, None)
                installed.append(handle)
                self._members[addresses[handle]] = handle
        except BaseException:
            self.teardown()
            raise

    def _record_of(self, handle: Any) -> ActorRecord:
        # The graph keeps the handle, so the actor is known.
        record, _ = self._runtime.actors.know(handle._orchestrator_id)  # type: ignore[misc]
        return record

    # -- executing

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Start an execution; return a CompiledDAGRef, or a list of them if the graph has several outputs.

        Raises:
            GraphCapacityExceeded: as many executions as may be are under way and none ended in time, or
                too many results wait to be got.
            ActorDiedError: an actor of the graph is dead.
            ChannelError: the graph was torn down.
            ValueError: the graph takes other arguments.
        """
        given = GraphInput.of(self._plan.order, args, kwargs)
        packed: list[tuple[int, int, Packed]] = []
        with self._lock:
            self._wait_for_room()
            try:
                for node, slot, readers in self._inputs:
                    value = given.part(node) if isinstance(node, InputAttributeNode) else given.whole()
                    packed += [
                        (address, slot, one)
                        for address, one in zip(
                            readers, pack(self._runtime, value, readers, "argument"), strict=True
                        )
                    ]
            except BaseException:
                for _, _, (kind, payload) in packed:
                    release(self._runtime, kind, payload)
                raise
            number = self._next_number
            self._next_number += 1
            slots: dict[int, list[Entry]] = {}
            refs = []
            for node in self._plan.outputs:
                entry = Entry(0)
                slots.setdefault(self._plan.slots[node], []).append(entry)
                refs.append(CompiledDAGRef(self, number, entry))
            self._pending[number] = slots
            self._untaken[number] = len(refs)
            for address, slot, (kind, payload) in packed:
                self._runtime.send_control(address, (DATA, self.id, number, slot, kind, payload))
        return refs if self._plan.is_list else refs[0]

    async def execute_async(self, *args: Any, **kwargs: Any) -> Any:
        """Like `execute`, in a coroutine; what it returns is awaited."""
        return self.execute(*args, **kwargs)

    def _wait_for_room(self) -> None:
        self._runtime.check_alive()
        while self._dropped:
            self._taken(self._dropped.pop())
        if self._is_torn_down:
            raise exceptions.ChannelError("this compiled graph was torn down")
        deadline = monotonic() + self._submit_timeout_s
        while len(self._pending) >= self._inflight_max and self._error is None:
            if not self._runtime.pump.wait(self._room, deadline):
                raise exceptions.GraphCapacityExceeded(
                    f"{self._inflight_max} executions of the compiled graph are under way, and none ended "
                    f"within {self._submit_timeout_s:g} s; _max_inflight_executions= allows more"
                )
            self._room = Entry(0)
        if self._error is not None:
            raise _again(self._error)
        waiting = len(self._untaken) - len(self._pending)
        if waiting >= self._buffered_max:
            raise exceptions.GraphCapacityExceeded(
                f"{waiting} results of the compiled graph wait to be got; get() some, or allow more with "
                "_max_buffered_results="
            )

    def _taken(self, number: int) -> None:
        left = self._untaken.get(number, 0) - 1
        if left > 0:
            self._untaken[number] = left
        else:
            self._untaken.pop(number, None)

    # -- what arrives

    def arrived(self, number: int, slot: int, kind: int, payload: Any) -> None:
        """Take a result."""
        slots = self._pending.get(number)
        entries = slots.pop(slot, None) if slots is not None else None
        if not entries:
            release(self._runtime, kind, payload)
            return
        hold = Hold(self._runtime.references.link, payload[1]) if kind == STORED else None
        for entry in entries:
            if kind == ERROR:
                entry.complete(ERROR, payload)
            else:
                entry.complete(PLAIN, Result(kind, payload, hold))
        if not slots:
            self._pending.pop(number, None)
            self._room.complete(PLAIN, None)

    def stopped(self, address: int) -> None:
        """An actor has left the graph."""
        self._members.pop(address, None)
        self._left.complete(PLAIN, None)

    def on_died(self, address: int) -> None:
        """A process has died: if it was one of the graph's, nothing goes on."""
        handle = self._members.pop(address, None)
        if handle is None:
            return
        self._left.complete(PLAIN, None)
        cause = self._record_of(handle).cause
        name = handle._orchestrator_description.traits.class_name
        self._fail(
            exceptions.ActorDiedError(
                f"actor {name}, which is part of a compiled graph, died: "
                f"{cause or 'its process ended'}. The graph cannot go on: teardown() it, and compile another "
                "with living actors",
                handle._orchestrator_id.hex(),
            )
        )

    def _fail(self, error: exceptions.OrchestratorError) -> None:
        self._error = self._error or error
        while self._pending:
            _, slots = self._pending.popitem()
            for entries in slots.values():
                for entry in entries:
                    entry.complete(ERROR, error)
        self._room.complete(PLAIN, None)

    # -- ending

    def teardown(self, kill_actors: bool = False) -> None:
        """Take the graph out of its actors, which go on as ordinary ones. Always possible; again is harmless.

        An actor that is in the middle of a step leaves after it. Results that have come can still be got.
        """
        if self._is_torn_down or not self._runtime.open:
            return
        self._is_torn_down = True
        runtime = self._runtime
        for address in list(self._members):
            runtime.send_control(address, (STOP, self.id))
        if kill_actors:
            for handle in self._plan.handles():
                runtime.actors.kill(handle._orchestrator_id, True)
        else:
            self._wait_until_left()
        self._fail(exceptions.ChannelError("this compiled graph was torn down"))
        registry_of(runtime).remove(self.id)

    def _wait_until_left(self) -> None:
        deadline = monotonic() + _CONTEXT.teardown_timeout
        while self._members:
            if not self._runtime.pump.wait(self._left, deadline):
                names = ", ".join(map(repr, self._members.values()))
                self._runtime.warn(f"a compiled graph was torn down while a step still ran on {names}")
                return
            self._left = Entry(0)

    def visualize(
        self,
        filename: str | None = None,
        format: str = "ascii",
        view: bool = False,
        channel_details: bool = False,
    ) -> str:
        """Return a picture of the graph: as text for people, or with `format="dot"` for Graphviz.

        With `filename` it is written there, too.

        Raises:
            ValueError: another format; `dot -Tpng` makes pictures from "dot".
        """
        text = picture.draw(self._plan, format)
        if filename is not None:
            with open(filename, "w") as file:
                file.write(text)
        return text

    def __repr__(self) -> str:
        state = "torn down" if self._is_torn_down else f"{len(self._pending)} executions under way"
        calls = sum(isinstance(node, ClassMethodNode) for node in self._plan.calls)
        return f"<CompiledDAG of {calls} calls, {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a compiled graph cannot be pickled")


def compile_graph(
    last: DAGNode,
    submit_timeout_s: float | None = None,
    inflight_max: int | None = None,
    buffered_max: int | None = None,
) -> CompiledDAG:
    """Set a graph up; see `DAGNode.experimental_compile`."""
    for name, value in (
        ("_max_inflight_executions", inflight_max),
        ("_max_buffered_results", buffered_max),
    ):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be an int >= 1, not {value!r}")
    runtime = require()
    make: Callable[..., CompiledDAG] = CompiledDAG if runtime.has_processes else _called()
    graph = make(
        Plan(last),
        runtime,
        _CONTEXT.submit_timeout if submit_timeout_s is None else submit_timeout_s,
        inflight_max or _CONTEXT.max_inflight_executions,
        buffered_max or _CONTEXT.max_buffered_results,
    )
    graph._set_up()
    return graph


def _called() -> type[CompiledDAG]:
    from orchestrator.dag.called import CalledDAG

    return CalledDAG

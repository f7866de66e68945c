"""Structured concurrency: tasks that end together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Literal, TypeVar

from orchestrator import exceptions
from orchestrator.api.actor_handle import ActorMethod
from orchestrator.api.completions import Completions
from orchestrator.api.getting import cancel, get
from orchestrator.api.remote_function import RemoteFunction
from orchestrator.common.clock import monotonic
from orchestrator.core.entry import Waiter
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.task import SENT

T = TypeVar("T")

#: How often a group that was cancelled looks whether the tasks it has interrupted have ended.
LOOK_S = 0.005


class TaskGroup:
    """Tasks that are all over when the block is left; the first one that fails cancels the others.

        with TaskGroup() as group:
            left = group.submit(load, "a")
            right = group.submit(load, "b")
        merge(get(left), get(right))

    Leaving the block waits. When a task fails, or the block itself raises, the others are cancelled, and the
    block raises that error once they have stopped: none goes on behind one's back. `async with` waits without
    blocking the loop.

    Args:
        stop_timeout: how many seconds to wait for interrupted tasks to stop; code that catches
            KeyboardInterrupt or stays in C may take longer, and is then left to itself.

    Raises:
        Exception: leaving the block: what the first task that failed raised.
    """

    def __init__(self, *, stop_timeout: float = 5.0) -> None:
        self._pending: Completions[Any] = Completions()
        self._refs: list[ObjectRef[Any]] = []
        self._stop_timeout = stop_timeout
        self._open = True

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> ObjectRef[Any]:
        """Submit a call of a function, a remote function or an actor's method; return its reference.

        Raises:
            RuntimeError: the group is over.
            TypeError: not callable.
        """
        if isinstance(function, (RemoteFunction, ActorMethod)):
            return self.add(function.remote(*args, **kwargs))
        if not callable(function):
            raise TypeError(f"submit() takes something callable, not {type(function).__name__}")
        return self.add(_plain.remote(function, *args, **kwargs))

    def add(self, ref: ObjectRef[T]) -> ObjectRef[T]:
        """Make a task that was submitted elsewhere one of the group; return its reference.

        Raises:
            RuntimeError: the group is over.
            TypeError: not a reference.
        """
        if not self._open:
            raise RuntimeError("this group is over: submit inside its block")
        self._pending.add(ref)
        self._refs.append(ref)
        return ref

    def cancel(self) -> None:
        """Cancel all tasks of the group that have not ended."""
        for ref in self._refs:
            if not ref._entry.state:
                cancel(ref)

    # -- the block

    def __enter__(self) -> TaskGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                # What is ready may itself submit more, from a callback: `_pending` may grow meanwhile.
                for ref in self._pending:
                    failure = ref.exception()
                    if failure is not None:
                        raise failure
        except BaseException:
            self._stop()
            raise
        else:
            if error is not None:
                self._stop()
        finally:
            self._open = False
            self._pending.close()

    async def __aenter__(self) -> TaskGroup:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        # A thread waits; the coroutine is free to be cancelled, and the tasks go with it.
        leave = asyncio.get_running_loop().run_in_executor(None, self.__exit__, kind, error, trace)
        try:
            await asyncio.shield(leave)
        except asyncio.CancelledError:
            self.cancel()
            await asyncio.wait([leave])
            raise

    def _stop(self) -> None:
        """Cancel what has not ended, and wait until what was running has stopped."""
        try:
            tasks = [ref._entry.task for ref in self._refs if not ref._entry.state]
            running = [task for task in tasks if task is not None]
            self.cancel()
            deadline = monotonic() + self._stop_timeout
            while any(task.place == SENT for task in running) and monotonic() < deadline:
                self._refs[0]._runtime.pump.wait(Waiter(1, stop_at_error=False), monotonic() + LOOK_S)
        except exceptions.OrchestratorError:
            pass  # the session is over, and with it all its tasks


def _run_plain(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


_plain: RemoteFunction[..., Any, ObjectRef[Any]] = RemoteFunction(_run_plain, {})


def gather(
    refs: Iterable[ObjectRef[T]],
    *,
    errors: Literal["raise", "skip", "return"] = "raise",
    timeout: float | None = None,
) -> list[Any]:
    """Return the values of references, in order, and say what is to become of errors.

    Args:
        refs: the references.
        errors: "raise" the first to become known, "skip" the failed ones, or "return" each in its place.
        timeout: seconds to wait for all of them.

    Raises:
        ValueError: `errors` is none of the three.
        GetTimeoutError: time ran out.
        Exception: with "raise": what a task raised.
    """
    given = list(refs)
    if errors == "raise":
        return get(given, timeout=timeout)
    if errors not in ("skip", "return"):
        raise ValueError(f'errors must be "raise", "skip" or "return", not {errors!r}')
    deadline = None if timeout is None else monotonic() + timeout
    outcomes: list[Any] = []
    for ref in given:
        failure = ref.exception(None if deadline is None else max(0.0, deadline - monotonic()))
        if failure is None:
            outcomes.append(get(ref))
        elif errors == "return":
            outcomes.append(failure)
    return outcomes

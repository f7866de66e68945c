"""`Executor`: a `concurrent.futures.Executor` over the session's workers.

A submitted call is held while `max_workers` others are under way, then it is a task. Its future follows the
protocol of `concurrent.futures`: `cancel()` succeeds exactly if the call has not begun, also when its task is
in a worker's queue already, and `running()` says whether it has.

Whoever waits for a result reads the messages that bring it; the callbacks of futures run in the runtime's
thread for callbacks. So an outcome may be found by either: the one that takes the future's `_claim` hands it
over.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from functools import partial
from typing import Any, TypeVar

from orchestrator import exceptions
from orchestrator.api.remote_function import RemoteFunction
from orchestrator.api.session import ensure_runtime
from orchestrator.api.signal import Signal
from orchestrator.common import options as option_rules
from orchestrator.common.clock import monotonic
from orchestrator.common.ids import random_hex
from orchestrator.common.options import TASK
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.runtime import Runtime
from orchestrator.core.task import Template

T = TypeVar("T")

#: a function and its arguments
Call = tuple[Any, tuple[Any, ...], dict[str, Any]]

_PENDING = "PENDING"  # a future's state in the protocol: neither begun nor over


class TaskFuture(Future[T]):
    """The future of a call that was submitted to an `Executor`."""

    def __init__(self, executor: Executor) -> None:
        super().__init__()
        self._executor = executor
        self._ref: ObjectRef[T] | None = None
        #: whoever pops the item hands the outcome over
        self._claim = [True]
        #: `running()` has said so: from then on it cannot be cancelled
        self._begun = False

    def cancel(self) -> bool:
        """Cancel the call unless it has begun; tell whether it is cancelled."""
        if self.done():
            return self.cancelled()
        if self._begun:
            return False
        try:
            self._claim.pop()
        except IndexError:
            return False  # its outcome is being handed over
        if not self._executor._withdraw(self):
            self._claim.append(True)
            if self._ref is not None and self._ref._entry.state:
                self._settle()  # it ended meanwhile, and whoever noticed found the claim taken
            return False
        super().cancel()
        self.set_running_or_notify_cancel()
        return True

    def running(self) -> bool:
        """Tell whether the call has begun and is not over."""
        ref = self._ref
        if self._state != _PENDING or ref is None:  # type: ignore[attr-defined]
            return False
        if not self._begun:
            # At the head of a worker's queue, which takes it in a moment: as good as begun, once it was said.
            task = ref._entry.task
            self._begun = task is not None and ref._runtime.tasks.is_running(task)
        return self._begun

    def result(self, timeout: float | None = None) -> T:
        """Return the call's value; wait at most `timeout` seconds for it.

        Raises:
            concurrent.futures.TimeoutError: time ran out.
            concurrent.futures.CancelledError: the call was cancelled.
            Exception: what it raised.
        """
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None; otherwise like `result`."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        """Wait until this future is done, and read messages meanwhile."""
        if self.done():
            return
        runtime = self._executor._runtime
        runtime.check_alive()
        deadline = None if timeout is None else monotonic() + timeout
        ref = self._ref
        if ref is not None and runtime.pump.wait(ref._entry, deadline):
            # Begun: the shortest way, without another thread.
            self._settle()
        if not self.done():
            signal = Signal()
            self.add_done_callback(lambda _: signal.notify())
            left = None if deadline is None else max(0.0, deadline - monotonic())
            if not signal.wait(self.done, left):
                raise concurrent.futures.TimeoutError(f"not done after {timeout:g} s")

    def _settle(self) -> None:
        """Take over the task's outcome, unless somebody else does."""
        try:
            self._claim.pop()
        except IndexError:
            return
        ref = self._ref
        assert ref is not None
        try:
            value = ref._runtime.value_of(ref._entry)
        except _InitializerFailed as error:
            self.set_exception(self._executor._break(error))
        except BaseException as error:
            self.set_exception(error)
        else:
            self.set_result(value)

    def _fail(self, error: BaseException) -> None:
        """End it with this error, unless it has ended."""
        try:
            self._claim.pop()
        except IndexError:
            return
        self.set_exception(error)


class Executor(concurrent.futures.Executor):
    """Runs calls in the session's workers; takes the place of a `ProcessPoolExecutor`.

        with Executor() as executor:
            future = executor.submit(pow, 2, 10)
            print(future.result(), list(executor.map(abs, range(-3, 3))))

    Functions need not be importable, and may submit to executors of their own. A worker that dies harms
    only the call it ran, which is tried again as `max_retries` says and then raises `WorkerCrashedError`.

    Args:
        max_workers: the most calls under way at once; None: as many as the session has room for.
        initializer: called once in each process before the first call it runs.
        initargs: its arguments.
        options: options of the tasks, as `remote` takes them: `num_cpus=2`, `max_retries=0`, ...

    Raises:
        ValueError: `max_workers` is below 1, or an unknown option.
        TypeError: the initializer is not callable.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        **options: Any,
    ) -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers must be greater than 0, not {max_workers}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be callable, not {type(initializer).__name__}")
        if options.get("num_returns") not in (None, 1):
            raise ValueError("a future has one result: num_returns must be 1")
        self._options = option_rules.merge(TASK, {"num_returns": 1}, options)
        self._runtime: Runtime = ensure_runtime()
        self._limit = max_workers
        self._initializer = (random_hex(), initializer, initargs) if initializer is not None else None
        self._templates: weakref.WeakKeyDictionary[Any, Template] = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()
        #: calls that wait for one of `max_workers` to be over
        self._held: OrderedDict[TaskFuture[Any], Call] = OrderedDict()
        self._unfinished: set[TaskFuture[Any]] = set()
        self._under_way = 0
        self._shut = False
        self._broken: BaseException | None = None

    # -- the protocol

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> TaskFuture[T]:
        """Have `fn(*args, **kwargs)` called, and return the future of its result.

        Arguments that cannot be pickled are an error of the future's.

        Raises:
            RuntimeError: after `shutdown`, of this executor or of its session.
            BrokenExecutor: the initializer has failed.
            TypeError: not callable.
        """
        if not callable(fn):
            raise TypeError(f"submit() takes something callable, not {type(fn).__name__}")
        self._runtime.check_alive()
        future: TaskFuture[T] = TaskFuture(self)
        with self._lock:
            if self._broken is not None:
                raise BrokenExecutor("the initializer has failed") from self._broken
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._unfinished.add(future)
            if self._limit is not None and self._under_way >= self._limit:
                self._held[future] = fn, args, kwargs
                return future
            self._under_way += 1
        self._start(future, (fn, args, kwargs))
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator over `fn` of each item, in order; all calls are submitted at once.

        Args:
            fn: what to call.
            iterables: where the arguments come from; the shortest ends it.
            timeout: seconds from now in which all results must have come.
            chunksize: calls sent as one. (`orchestrator.map` chooses this by itself.)
            buffersize: submit only so many chunks ahead of the iteration; then iterables may be endless.

        Raises:
            ValueError: a number is below 1.
            concurrent.futures.TimeoutError: while iterating: the time is over.
        """
        for name, value in (("chunksize", chunksize), ("buffersize", buffersize)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, not {value}")
        deadline = None if timeout is None else monotonic() + timeout
        calls = zip(*iterables, strict=False)
        chunks = iter(lambda: tuple(itertools.islice(calls, chunksize)), ())
        submitted = (self.submit(_run_chunk, fn, chunk) for chunk in chunks)
        futures = deque(submitted if buffersize is None else itertools.islice(submitted, buffersize))

        def results() -> Iterator[T]:
            try:
                while futures:
                    left = None if deadline is None else max(0.0, deadline - monotonic())
                    values = futures[0].result(left)
                    futures.popleft()
                    if buffersize is not None:
                        futures.extend(itertools.islice(submitted, 1))
                    values.reverse()
                    while values:
                        yield values.pop()  # and keep nothing of what was handed out
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return only when all calls are over.
            cancel_futures: cancel those that have not begun.
        """
        with self._lock:
            self._shut = True
            unfinished = list(self._unfinished)
        if cancel_futures:
            for future in reversed(unfinished):
                future.cancel()
        if wait:
            for future in unfinished:
                try:
                    future._wait(None)
                except (CancelledError, exceptions.SessionError):
                    pass

    # -- calls on their way

    def _start(self, future: TaskFuture[Any], call: Call) -> None:
        """Make a task of a call; where that fails, of the next one that is held."""
        while True:
            try:
                future._ref = ref = self._submit(*call)
                ref.add_done_callback(partial(self._finished, future))
                return
            except BaseException as error:
                future._fail(error)
                held = self._over(future)
                if held is None:
                    return
                future, call = held

    def _submit(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef[Any]:
        if self._initializer is not None:
            fn, args = _run_initialized, (self._initializer, fn, *args)
        elif not isinstance(fn, types.FunctionType):
            fn, args = _run_any, (fn, *args)
        template = self._templates.get(fn)
        if template is None:
            remote: RemoteFunction[..., Any, Any] = RemoteFunction(fn, self._options)
            remote._prepare(self._runtime)
            template = self._templates[fn] = remote._template  # type: ignore[assignment]
        return self._runtime.tasks.submit(template, args, kwargs)  # type: ignore[arg-type, no-any-return]

    def _finished(self, future: TaskFuture[Any], _: ObjectRef[Any]) -> None:
        """A task is over. Called in the thread for callbacks."""
        held = self._over(future)
        if held is not None:
            self._start(*held)
        future._settle()

    def _over(self, future: TaskFuture[Any]) -> tuple[TaskFuture[Any], Call] | None:
        """A call is under way no more: return the one that takes its place."""
        with self._lock:
            self._unfinished.discard(future)
            if self._held:
                return self._held.popitem(last=False)
            self._under_way -= 1
            return None

    def _withdraw(self, future: TaskFuture[Any]) -> bool:
        """Take a call back unless it has begun; tell whether that was done."""
        with self._lock:
            if self._held.pop(future, None) is not None:
                self._unfinished.discard(future)
                return True
        ref = future._ref
        task = ref._entry.task if ref is not None else None
        return task is not None and self._runtime.tasks.cancel_unless_begun(task)

    def _break(self, error: _InitializerFailed) -> BrokenExecutor:
        """The initializer has failed: so do all calls. Returns what they raise."""
        with self._lock:
            if self._broken is not None:
                return _broken(self._broken)
            self._broken = error
            self._held.clear()
            unfinished, self._unfinished = self._unfinished, set()
        for future in unfinished:
            future._fail(_broken(error))
        return _broken(error)


def _broken(cause: BaseException) -> BrokenExecutor:
    error = BrokenExecutor("the initializer has failed, so that no call can be run")
    error.__cause__ = cause
    return error


# -- in the worker


class _InitializerFailed(Exception):
    """An executor's initializer has raised in this worker."""


class _Initialized:
    """The executors whose initializers have run in this process, and what those raised."""

    outcomes: dict[str, BaseException | None] = {}  # noqa: RUF012


def _run_any(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


def _run_initialized(
    initializer: tuple[str, Callable[..., Any], tuple[Any, ...]],
    fn: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    key, initialize, initargs = initializer
    outcomes = _Initialized.outcomes
    if key not in outcomes:
        try:
            initialize(*initargs)
            outcomes[key] = None
        except BaseException as error:
            outcomes[key] = error
    failure = outcomes[key]
    if failure is not None:
        raise _InitializerFailed(f"{type(failure).__name__}: {failure}") from failure
    return fn(*args, **kwargs)


def _run_chunk(fn: Callable[..., T], calls: tuple[tuple[Any, ...], ...]) -> list[T]:
    return [fn(*call) for call in calls]

"""References in the order in which they become ready."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from orchestrator import exceptions
from orchestrator.common.clock import monotonic
from orchestrator.core.arrivals import Arrivals
from orchestrator.core.entry import Entry
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.runtime import Runtime

T = TypeVar("T")


class Completions(Generic[T]):
    """An iterator over references as they become ready; more may be added while it runs.

    Each reference costs the same, however many there are. A failed one counts as ready. Those that were ready
    when they were added come in that order. Not for several threads at once.

        pending = Completions(f.remote(x) for x in range(100))
        for ref in pending:
            if wants_more(get(ref)):
                pending.add(f.remote(...))
    """

    def __init__(self, refs: Iterable[ObjectRef[T]] = (), *, timeout: float | None = None) -> None:
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout must be >= 0 or None, not {timeout}")
        self._timeout = timeout
        self._arrivals = Arrivals()
        self._waiting: dict[Entry, ObjectRef[T]] = {}
        self._runtime: Runtime | None = None
        self.update(refs)

    def add(self, ref: ObjectRef[T]) -> None:
        """Have this reference yielded, too, when it is ready.

        Raises:
            TypeError: not a reference.
            ValueError: it is being waited for already.
        """
        if type(ref) is not ObjectRef:
            raise exceptions.ReferenceTypeError(f"only references become ready, not {type(ref).__name__}")
        runtime = ref._runtime
        if runtime is not self._runtime:
            runtime.check_alive()
            self._runtime = runtime
        entry = ref._entry
        if entry in self._waiting:
            raise ValueError(f"each reference may be given once: {ref!r} was given before")
        self._waiting[entry] = ref
        entry.when_done(self._arrivals)
        if type(entry.ident) is bytes:
            runtime.references.watch(entry)

    def update(self, refs: Iterable[ObjectRef[T]]) -> None:
        """Add several references."""
        for ref in refs:
            self.add(ref)

    def next(self, timeout: float | None = None) -> ObjectRef[T]:
        """Return the reference that became ready first of those not returned; wait at most `timeout` seconds.

        Raises:
            StopIteration: all have been returned.
            GetTimeoutError: none became ready in time.
        """
        entry = self._arrivals.take()
        while entry is None:
            if not self._waiting:
                raise StopIteration
            runtime = self._runtime
            assert runtime is not None
            runtime.check_alive()
            if not runtime.pump.wait(self._arrivals, None if timeout is None else monotonic() + timeout):
                shown = "; ".join(runtime.explain(one) for one in list(self._waiting)[:5])
                raise exceptions.GetTimeoutError(
                    f"none of {len(self._waiting)} references became ready within {timeout:g} s: {shown}"
                )
            entry = self._arrivals.take()
        return self._waiting.pop(entry)

    def ready_now(self) -> list[ObjectRef[T]]:
        """Return, without waiting, all that have become ready and were not returned."""
        if self._runtime is not None and self._waiting:
            self._runtime.check_alive()
            self._runtime.pump.poll()
        found = []
        while (entry := self._arrivals.take()) is not None:
            found.append(self._waiting.pop(entry))
        return found

    def close(self) -> None:
        """Forget the references that were not returned."""
        while self._waiting:
            entry, _ = self._waiting.popitem()
            entry.forget(self._arrivals)
        self._arrivals.arrived.clear()

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        return self

    def __next__(self) -> ObjectRef[T]:
        return self.next(self._timeout)

    def __len__(self) -> int:
        """The number of references that were not returned."""
        return len(self._waiting)

    def __del__(self) -> None:
        # Entries that are pending would keep those that are done alive, through the arrivals.
        try:
            self.close()
        except Exception:
            pass  # made in part, or the interpreter ends: there is nobody to tell


def as_completed(refs: Iterable[ObjectRef[T]], *, timeout: float | None = None) -> Completions[T]:
    """Return an iterator over the references in the order in which they become ready.

    Args:
        refs: the references, each once.
        timeout: how many seconds to wait for each next one.

    Raises:
        TypeError: something is not a reference.
        ValueError: one is given twice.
        GetTimeoutError: while iterating: nothing became ready for `timeout` seconds.
    """
    return Completions(refs, timeout=timeout)

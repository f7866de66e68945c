"""Results as they come: `as_completed` and `map_unordered`, with the arguments they have in Ray.

Both are in order of completion, and each result costs the same however many there are. So `chunk_size`, by
which Ray waits for several results at once, is accepted and has no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from orchestrator.api.completions import Completions
from orchestrator.api.getting import get
from orchestrator.api.object_ref import ObjectRef
from orchestrator.api.remote_function import RemoteFunction

T = TypeVar("T")


def as_completed(
    refs: Iterable[ObjectRef[T]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[Any]:
    """Yield the values of references in the order in which they become ready.

    Args:
        refs: the references, each once.
        chunk_size: has no effect: each result is yielded as soon as it is there.
        yield_obj_refs: yield the references rather than their values.
        timeout: how many seconds to wait for each next one.
        fetch_local: whether a value must be on this node; on a single node it always is.

    Raises:
        TypeError: something is not a reference.
        ValueError: one is given twice, or `chunk_size` is below 1.
        GetTimeoutError: while iterating: nothing became ready for `timeout` seconds.
        Exception: while iterating: what a task raised.
    """
    _check_chunk_size(chunk_size)
    completions = Completions(refs, timeout=timeout)
    return completions if yield_obj_refs else _values(completions)


def _values(refs: Iterable[ObjectRef[T]]) -> Iterator[T]:
    for ref in refs:
        yield get(ref)


def map_unordered(
    fn: RemoteFunction[..., T, Any] | Callable[[Any], ObjectRef[T]],
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[Any]:
    """Call a remote function with each item, and yield the results in the order in which they come.

    `orchestrator.map(..., ordered=False)` does so in batches where calls are short.

    Args:
        fn: a remote function, or anything that returns a reference, like `actor.method.remote`.
        items: its arguments; may be endless.
        backpressure_size: the most calls under way or not yielded; None: no limit.
        chunk_size: has no effect: each result is yielded as soon as it is there.
        yield_obj_refs: yield references rather than values.
        timeout: how many seconds to wait for each next one.
        fetch_local: whether a value must be on this node; on a single node it always is.

    Raises:
        ValueError: a size is below 1.
        GetTimeoutError: while iterating: nothing became ready for `timeout` seconds.
        Exception: while iterating: what a call raised.
    """
    _check_chunk_size(chunk_size)
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError(f"backpressure_size must be >= 1 or None, not {backpressure_size}")
    submit = fn.remote if isinstance(fn, RemoteFunction) else fn
    refs = _submitted(submit, items, backpressure_size, timeout)
    return refs if yield_obj_refs else _values(refs)


def _submitted(
    submit: Callable[[Any], ObjectRef[T]],
    items: Iterable[Any],
    ahead_max: int | None,
    timeout: float | None,
) -> Iterator[ObjectRef[T]]:
    completions: Completions[T] = Completions(timeout=timeout)
    for item in items:
        if ahead_max is not None and len(completions) >= ahead_max:
            yield next(completions)
        completions.add(submit(item))
    yield from completions


def _check_chunk_size(chunk_size: int) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be >= 1, not {chunk_size}")

"""A pool of actors that exist already: each takes the next call when it is free."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from orchestrator import exceptions
from orchestrator.api.actor_handle import ActorHandle
from orchestrator.api.completions import Completions
from orchestrator.api.getting import get
from orchestrator.api.object_ref import ObjectRef

Call = Callable[[ActorHandle, Any], ObjectRef[Any]]


class ActorPool:
    """Gives calls to whichever of its actors is free.

        pool = ActorPool([Worker.remote(), Worker.remote()])
        print(list(pool.map(lambda actor, value: actor.double.remote(value), [1, 2, 3, 4])))

    Results are taken in the order of submission, with `get_next`, or as they come, with
    `get_next_unordered`. Not for several threads at once.

    Args:
        actors: the actors.

    Raises:
        ValueError: the same actor is given twice.
    """

    def __init__(self, actors: Iterable[ActorHandle]) -> None:
        self._idle: deque[ActorHandle] = deque()
        #: calls without an actor: number, function, value
        self._waiting: deque[tuple[int, Call, Any]] = deque()
        #: calls under way: number and actor, by reference
        self._busy: dict[ObjectRef[Any], tuple[int, ActorHandle]] = {}
        self._completions: Completions[Any] = Completions()
        #: calls that are over and not taken, by number, in the order in which they ended
        self._over: dict[int, ObjectRef[Any]] = {}
        #: numbers of calls whose results nobody wants any more
        self._dropped: set[int] = set()
        self._submitted = 0
        #: results that somebody may still take
        self._left = 0
        #: the number that `get_next` returns next
        self._next = 0
        #: `get_next_unordered` has taken some of those that are left
        self._mixed = False
        for actor in actors:
            self.push(actor)

    # -- submitting

    def submit(self, fn: Call, value: Any) -> None:
        """Call `fn(actor, value)` with a free actor now, or with the next one that becomes free.

        `fn` returns the reference of the actor's call.
        """
        if not self._left:
            self._mixed = False
            self._next = self._submitted
        self._waiting.append((self._submitted, fn, value))
        self._submitted += 1
        self._left += 1
        self._start_waiting()

    def map(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """Return an iterator over the results for all values, in their order.

        What was submitted before and not taken is dropped.
        """
        return self._map(fn, values, self.get_next)

    def map_unordered(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """Return an iterator over the results for all values, as they come; otherwise like `map`."""
        return self._map(fn, values, self.get_next_unordered)

    def _map(self, fn: Call, values: Iterable[Any], take: Callable[[], Any]) -> Iterator[Any]:
        self._dropped.update(number for number, _ in self._busy.values())
        self._waiting.clear()
        self._over.clear()
        self._left = 0
        for value in values:
            self.submit(fn, value)

        def results() -> Iterator[Any]:
            while self.has_next():
                yield take()

        return results()

    # -- results

    def has_next(self) -> bool:
        """Tell whether there is a result to take, now or later."""
        return self._left > 0

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the next result in the order of submission.

        Args:
            timeout: seconds to wait for it.
            ignore_if_timedout: when time runs out, pass over this result for good; the error is raised all
                the same. Its actor takes another call when it is done with this one.

        Raises:
            StopIteration: nothing is left.
            ValueError: `get_next_unordered` has taken results of those that are left.
            TimeoutError: time ran out.
            Exception: what the call raised.
        """
        self._check_left()
        if self._mixed:
            raise ValueError("get_next() cannot follow get_next_unordered() while there are results left")
        number = self._next
        deadline = None if timeout is None else time.monotonic() + timeout
        while number not in self._over:
            if not self._wait(deadline):
                if ignore_if_timedout:
                    self._dropped.add(number)
                    self._next += 1
                    self._left -= 1
                raise TimeoutError(f"the next result did not come within {timeout:g} s")
        self._next += 1
        return self._take(number)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return whichever result comes next.

        Args:
            timeout: seconds to wait for it.
            ignore_if_timedout: has no effect: there is no one result to pass over.

        Raises:
            StopIteration: nothing is left.
            TimeoutError: time ran out.
            Exception: what the call raised.
        """
        self._check_left()
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._over:
            if not self._wait(deadline):
                raise TimeoutError(f"no result came within {timeout:g} s")
        self._mixed = True
        return self._take(next(iter(self._over)))

    def _check_left(self) -> None:
        if not self._left:
            raise StopIteration("there are no results to take")
        if not self._busy and not self._over:
            raise ValueError(f"{len(self._waiting)} calls wait, and this pool has no actor: push() one")

    def _wait(self, deadline: float | None) -> bool:
        """Wait until one more call is over; False if time runs out."""
        try:
            ref = self._completions.next(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except exceptions.GetTimeoutError:
            return False
        number, actor = self._busy.pop(ref)
        self._idle.append(actor)
        self._start_waiting()
        if number in self._dropped:
            self._dropped.discard(number)
        else:
            self._over[number] = ref
        return True

    def _take(self, number: int) -> Any:
        self._left -= 1
        return get(self._over.pop(number))

    # -- actors

    def has_free(self) -> bool:
        """Tell whether an actor is free."""
        return bool(self._idle)

    def pop_idle(self) -> ActorHandle | None:
        """Take a free actor out of the pool; None if there is none."""
        return self._idle.popleft() if self._idle else None

    def push(self, actor: ActorHandle) -> None:
        """Add an actor.

        Raises:
            ValueError: it is in the pool already.
        """
        if actor in self._idle or any(actor == busy for _, busy in self._busy.values()):
            raise ValueError(f"{actor!r} is in this pool already")
        self._idle.append(actor)
        self._start_waiting()

    def _start_waiting(self) -> None:
        """Give the calls that wait to the actors that are free."""
        while self._waiting and self._idle:
            number, fn, value = self._waiting.popleft()
            if number in self._dropped:
                self._dropped.discard(number)
                continue
            actor = self._idle.popleft()
            try:
                ref = fn(actor, value)
                self._completions.add(ref)
            except BaseException:
                self._idle.appendleft(actor)
                self._left -= 1
                raise
            self._busy[ref] = number, actor

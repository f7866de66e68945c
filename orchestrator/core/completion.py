"""What a reply means for the entries of its task; the same for tasks and for actor calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common.ids import index_of, sequence_of
from orchestrator.core.entry import ERROR, STORED, Entry
from orchestrator.core.messages import CANCELLED, END, MANY, PARTIAL
from orchestrator.core.part import Part
from orchestrator.core.task import DONE
from orchestrator.core.values import load_error

if TYPE_CHECKING:
    from orchestrator.core.failures import UnseenFailures
    from orchestrator.core.generators import Stream
    from orchestrator.core.references import References
    from orchestrator.core.task import Task


class Completion(Part):
    """Fills the entries of tasks from replies and errors."""

    def __init__(self, references: References, unseen: UnseenFailures) -> None:
        self._references = references
        self._unseen = unseen
        #: notes a failure of which no worker knows; see history.py
        self.note_failure: Callable[[Task, BaseException], None] = lambda task, error: None
        #: remembers how a result in the store was made; see lineage.py
        self.keep: Callable[[Task, int], str | None] = lambda task, index: None
        #: results that were lost before their reply came, with the attempt that had made them; see lineage.py
        self.lost_early: dict[bytes, int] = {}
        self.recover: Callable[[Entry], None] = lambda entry: None
        #: notes which other node has the bytes of a result, and how many; see locality.py
        self.made_at: Callable[[Entry, tuple[int, int] | None], None] = lambda entry, place: None

    def fill(self, entry: Entry, state: int, value: Any) -> None:
        """Complete one entry; its value goes to the store too if others wait for it there."""
        if state == STORED:
            if entry.state and entry.state != STORED:
                # Cancelled meanwhile: nobody will ask for it. Give the reference back.
                self.lost_early.pop(self._references.id_of(entry), None)
                self._references.give_back(entry)
                return
            identity = self._references.id_of(entry)
            self._references.adopt(entry, identity)
            self.made_at(entry, value)
            value = None
            task = entry.task
            if task is not None:
                value = self.keep(task, index_of(identity))
        entry.complete(state, value)
        if state == STORED:
            if self.lost_early and task is not None and self.lost_early.pop(identity, -1) == task.attempts:
                self.recover(entry)
        elif entry.hold is not None:
            self._references.publish(entry)

    def give_back(self, task: Task, kept: int = 0) -> None:
        """Release what a worker may have stored for a task, but the first results, if no news of it comes."""
        for entry in task.returns[kept:]:
            self._references.give_back(entry)
        stream = task.stream
        if stream is not None:
            # A repetition stores its items from the first one on.
            for index in range(stream.arrived + 1):
                if index not in stream.stored:
                    self._references.give_back(Entry((task.seq << 24) | (index + 1)))

    @staticmethod
    def raised(kind: int, value: Any) -> bytes | None:
        """Return the error of a reply, or None if there is none."""
        if kind == PARTIAL:
            return value[1]  # type: ignore[no-any-return]
        return value if kind == ERROR else None

    def settle(self, task: Task, kind: int, value: Any) -> None:
        """Complete what this reply (not an ITEM) completes; harmless when repeated."""
        task.place = DONE
        stream = task.stream
        if kind in (ERROR, CANCELLED) and (stream is not None or len(task.returns) > 1):
            self.give_back(task)  # it may have been stopped between storing and telling
        if kind == MANY:
            for entry, (state, item) in zip(task.returns, value, strict=True):
                self.fill(entry, state, item)
        elif kind == PARTIAL:
            kept, error = value
            for entry, (state, item) in zip(task.returns, kept, strict=False):
                self.fill(entry, state, item)
            # An earlier attempt may have stored more of them.
            self.give_back(task, len(kept))
            self.fail(task, error, kept=len(kept))
        elif kind == CANCELLED:
            self.fail(task, exceptions.TaskCancelledError(f"{task.template.name} was cancelled"))
        elif kind == ERROR:
            self.fail(task, value, stream is not None and isinstance(load_error(value), exceptions.TaskError))
        elif stream is not None:
            self._end_stream(task, stream, value if kind == END else None)
        else:
            for entry in task.returns:
                self.fill(entry, kind, value)
        task.held = task.lease = None

    @staticmethod
    def _is_awaited(task: Task) -> bool:
        """Tell whether the outcome is news, rather than what a repeated message says."""
        if task.stream is not None:
            return not task.stream.completed.state
        return not task.returns or any(not entry.state for entry in task.returns)

    def _end_stream(self, task: Task, stream: Stream, count: int | None) -> None:
        if count is not None and count < stream.arrived:
            text = (
                f"{task.template.name} ran again after its worker had died, and yielded {count} items: "
                f"{stream.arrived} had arrived before. What may be retried must be deterministic."
            )
            self.fail(task, exceptions.ReplayInconsistentError(text))
        else:
            self._finish(stream, None, count)

    def _finish(self, stream: Stream, error: Any, count: int | None, is_raised: bool = False) -> None:
        stream.finish(error, count, is_raised)
        if stream.completed.hold is not None:
            self._references.publish(stream.completed)

    def item(self, task: Task, value: tuple[int, int, Any]) -> int:
        """Add an item to the stream of a generator's task.

        Returns 0; or, for the repetition of an item where the worker counts what is taken, how many were.
        """
        index, state, payload = value
        stream = task.stream
        if stream is None:
            return 0
        entry = Entry((task.seq << 24) | (index + 1), task=task)
        if not stream.wants(index):
            lost = stream.lost.pop(index, None)
            if lost is not None:
                self.fill(lost, state, payload)
                return 0
            # Nobody reads any more; or it is a repetition after a worker's death, whose first
            # entry may still hold the object.
            if state == STORED and index not in stream.stored:
                self._references.give_back(entry)
            stream.arrived = max(stream.arrived, index + 1)
            return stream.taken if task.template.backpressure else 0
        self.fill(entry, state, payload)
        if state == STORED:
            stream.stored[index] = entry
        stream.accept(entry)
        return 0

    def cancel(self, task: Task, error: BaseException) -> None:
        """Complete everything a task was to produce with this error; the task itself may go on."""
        for entry in task.returns:
            entry.complete(ERROR, error)
            if entry.hold is not None:
                self._references.publish(entry)
        if task.stream is not None:
            self._finish(task.stream, error, None)

    def fail(self, task: Task, error: Any, is_raised: bool = False, kept: int = 0) -> None:
        """Complete everything the task was to produce with this error: an exception, or the bytes of one.

        Args:
            task: the task.
            error: the error.
            is_raised: whether the task's own code has raised it.
            kept: how many of its results are there in spite of it.
        """
        if type(error) is not bytes and self._is_awaited(task):
            self.note_failure(task, error)
        if not task.cancelled and self._is_awaited(task):
            error = self._unseen.failure(error, task.template.name)
        task.place = DONE
        task.message = None
        task.packed = None
        task.held = None
        for identity in list(self.lost_early):  # others add to it and take from it
            if sequence_of(identity) == task.seq:
                self.lost_early.pop(identity, None)
        for entry in task.returns[kept:]:
            self.fill(entry, ERROR, error)
        if task.stream is not None:
            self._finish(task.stream, error, None, is_raised)

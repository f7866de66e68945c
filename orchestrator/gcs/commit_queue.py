"""What is stored before what is said: the order that makes an acknowledged write durable.

Effects come in; writes gather in a batch, and what is visible outside waits for the batch that came before
it. While a batch is being written, the next one gathers (*group commit*). With nothing to write, what is
visible goes out at once.

    add(...) → what may be shown now          take() → writes of the next batch, or nothing
                                              committed() → what may be shown now
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.gcs.effects import Effect, Write


class CommitQueue:
    """Pure. One batch is under way at a time."""

    def __init__(self) -> None:
        self._writes: list[Write] = []
        self._visible: list[Effect] = []
        #: What the batch under way holds back; None if there is none under way.
        self._held: list[Effect] | None = None

    def __len__(self) -> int:
        return len(self._writes) + len(self._visible) + len(self._held or ())

    @property
    def has_writes(self) -> bool:
        """Tell whether there is a batch to take."""
        return bool(self._writes)

    def add(self, effects: Iterable[Effect]) -> list[Effect]:
        """Take in effects, in order; return what may be shown now."""
        for effect in effects:
            if isinstance(effect, Write):
                self._writes.append(effect)
            else:
                self._visible.append(effect)
        return self._showable()

    def take(self) -> list[Write]:
        """Return the writes to be stored next, in order; what came with them is held until `committed`."""
        assert self._held is None, "a batch is under way"
        if not self._writes:
            return []
        writes, self._writes = self._writes, []
        self._held, self._visible = self._visible, []
        return writes

    def committed(self) -> list[Effect]:
        """The batch is stored; return what may be shown now."""
        assert self._held is not None, "no batch is under way"
        held, self._held = self._held, None
        return [*held, *self._showable()]

    def _showable(self) -> list[Effect]:
        if self._writes or self._held is not None:
            return []
        visible, self._visible = self._visible, []
        return visible

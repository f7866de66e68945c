"""Cancelling by reference, where the task may be another process's; and what a cancelled task sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.core.entry import PENDING, Entry
from orchestrator.core.messages import CANCEL_OBJECT

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime


class TaskInterrupt(KeyboardInterrupt):
    """What a cancelled task sees: a KeyboardInterrupt."""


def cancel_object(runtime: Runtime, entry: Entry, force: bool, recursive: bool) -> None:
    """Cancel the task that produces an object, whoever has submitted it."""
    task = entry.task
    if entry.state != PENDING:
        return
    if task is not None:
        runtime.cancel_task(task, force, recursive)
        return
    identity = runtime.id_of(entry)
    owner = runtime.lineage.address_of(identity[:8]) if identity[:8] != runtime.prefix else 0
    if owner:
        runtime.send_control(owner, (CANCEL_OBJECT, identity, force, recursive))


def on_cancel_object(runtime: Runtime, sender: int, identity: bytes, force: bool, recursive: bool) -> None:
    """Another process cancels the task of an object that this one owns."""
    entry = runtime.references.own(identity)
    if entry is not None and entry.task is not None:
        runtime.cancel_task(entry.task, force, recursive)

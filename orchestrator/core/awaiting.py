"""Waiting for an object inside a coroutine, without blocking its loop."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from orchestrator.core.entry import Entry

if TYPE_CHECKING:
    import asyncio

    from orchestrator.core.references import References


def wait_in_loop(entry: Entry, references: References) -> Generator[Any, None, None]:
    """Suspend the coroutine that runs until the entry is no longer PENDING."""
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def finish() -> None:
        if not future.done():
            future.set_result(None)

    def arrived(_: Entry) -> None:
        # The loop's own thread may be the one that reads: then nothing has to be woken.
        if asyncio._get_running_loop() is loop:
            finish()
        else:
            try:
                loop.call_soon_threadsafe(finish)
            except RuntimeError:
                pass  # the loop is closed, and with it whoever waited

    entry.when_done(arrived)
    references.watch(entry)
    try:
        yield from future
    finally:
        entry.forget(arrived)

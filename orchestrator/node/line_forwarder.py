"""Lines that workers print, on their way to the driver."""

from __future__ import annotations

import os
import time

from orchestrator.node.logs import encode_batches
from orchestrator.node.outbox import Outbox
from orchestrator.node.worker_pool import WorkerPool, WorkerProcess

#: Bytes of log lines that wait for the driver before the pipes are left alone, and how long its reading may
#: make no progress before lines are dropped: a driver that computes for long without releasing the
#: interpreter must not stop the workers.
BACKLOG_BYTES_MAX = 1024 * 1024
STALL_S = 2.0


class LineForwarder:
    """Sends lines to the driver, and lets workers that print wait for it, for a while."""

    def __init__(self, outbox: Outbox, driver: int) -> None:
        self._outbox = outbox
        self._driver = driver
        #: While pipes are left alone: the least that was waiting for the driver, and since when.
        self._stall: tuple[int, float] | None = None

    def forward(self, process: WorkerProcess, stream: str, lines: list[str]) -> None:
        """Send lines that a worker has printed."""
        for batch in encode_batches(process.pid, process.label, stream, lines):
            self._outbox.send_payload(self._driver, batch)

    def say(self, label: str, text: str) -> None:
        """Send a line of the node's own."""
        self._outbox.send_payload(self._driver, encode_batches(os.getpid(), label, "stderr", [text])[0])

    def watch_backlog(self, pool: WorkerPool) -> None:
        """Stop reading what workers print while the driver does not read either; drop lines after a while."""
        backlog_bytes = self._outbox.backlog_bytes(self._driver)
        if backlog_bytes < BACKLOG_BYTES_MAX // 2:
            pool.resume_streams()
            self._stall = None
            return
        if backlog_bytes <= BACKLOG_BYTES_MAX and self._stall is None:
            return
        pool.pause_streams()
        now_s = time.monotonic()
        if self._stall is None or backlog_bytes < self._stall[0]:
            self._stall = (backlog_bytes, now_s)
        elif now_s - self._stall[1] > STALL_S:
            count = self._outbox.drop_waiting(self._driver, b'{"op":"log"')
            self.say("node", f"[{count} batches of lines are left out: the driver did not read them]")

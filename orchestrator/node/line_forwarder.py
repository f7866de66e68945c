"""Lines that workers print, on their way to the driver of the job that they work for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from orchestrator.node.logs import encode_batches
from orchestrator.node.outbox import Outbox
from orchestrator.node.worker_pool import WorkerPool, WorkerProcess
from orchestrator.scheduling.jobs import JobTable, job_of

#: Bytes of log lines that wait for a driver before the pipes are left alone, and how long its reading may
#: make no progress before lines are dropped: a driver that computes for long without releasing the
#: interpreter must not stop the workers.
BACKLOG_BYTES_MAX = 1024 * 1024
STALL_S = 2.0


class LineForwarder:
    """Sends lines to drivers, and lets workers that print wait for theirs, for a while."""

    def __init__(self, outbox: Outbox, jobs: JobTable) -> None:
        self._outbox = outbox
        self._jobs = jobs
        #: Of jobs whose pipes are left alone: the least that was waiting for the driver, and since when.
        self._stalls: dict[str, tuple[int, float]] = {}

    def forward(self, process: WorkerProcess, stream: str, lines: list[str]) -> None:
        """Send lines that a worker has printed; where nobody shows them, they are in its file."""
        reader = self._jobs.reader_of(job_of(process.env))
        if reader:
            for batch in encode_batches(process.pid, process.label, stream, lines):
                self._outbox.send_payload(reader, batch)

    def say(self, drivers: Iterable[int], label: str, text: str) -> None:
        """Send a line of the node's own."""
        batch = encode_batches(os.getpid(), label, "stderr", [text])[0]
        for driver in drivers:
            if driver:
                self._outbox.send_payload(driver, batch)

    def end(self, job: str, pool: WorkerPool) -> None:
        """A job's driver is gone: nobody waits for it any more."""
        self._stalls.pop(job, None)
        pool.resume_streams(job)

    def watch_backlog(self, pool: WorkerPool) -> None:
        """Stop reading what workers print while their driver does not read; drop lines after a while."""
        for job, driver in self._jobs.readers():
            self._watch_one(pool, job, driver)

    def _watch_one(self, pool: WorkerPool, job: str, driver: int) -> None:
        backlog_bytes = self._outbox.backlog_bytes(driver)
        stall = self._stalls.get(job)
        if backlog_bytes < BACKLOG_BYTES_MAX // 2:
            if stall is not None:
                pool.resume_streams(job)
                del self._stalls[job]
            return
        if backlog_bytes <= BACKLOG_BYTES_MAX and stall is None:
            return
        pool.pause_streams(job)
        now_s = time.monotonic()
        if stall is None or backlog_bytes < stall[0]:
            self._stalls[job] = (backlog_bytes, now_s)
        elif now_s - stall[1] > STALL_S:
            count = self._outbox.drop_waiting(driver, b'{"op":"log"')
            self.say(
                [driver], "node", f"[{count} batches of lines are left out: the driver did not read them]"
            )

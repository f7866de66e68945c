"""What workers print: from their pipes to the driver, to a file, and to the report of their death.

Everything has a bound. A line longer than `LINE_BYTES_MAX` is cut; a message to the driver holds at most
`BATCH_BYTES_MAX`; a worker's file at most twice `FILE_BYTES_MAX`, the older half in `.1`; of the files of
dead workers the last `FILES_OF_THE_DEAD_MAX` are kept. A driver that does not read makes the pipes wait (see
`daemon`), not the node grow.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from typing import BinaryIO

LINE_BYTES_MAX = 64 * 1024
#: Room for the envelope below the 128 KiB that a channel's message may have.
BATCH_BYTES_MAX = 100 * 1024
#: One read. A pipe holds 64 KiB.
READ_BYTES = 64 * 1024
#: Lines of stderr in the report of a death, each cut to some width: they end up in exceptions.
TAIL_LINES_MAX = 40
TAIL_LINE_CHARS_MAX = 2000
FILE_BYTES_MAX = 1024 * 1024
FILES_OF_THE_DEAD_MAX = 50

_quote = json.JSONEncoder(ensure_ascii=False).encode


def note(text: str) -> None:
    """Write a line into the node's own log; a full disk is no reason for a node to die."""
    try:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
    except OSError:
        pass


class LineSplitter:
    """Bytes in, whole lines out; a line that is too long comes in part, and the rest of it is dropped."""

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._partial = b""
        #: Bytes of the present line that were dropped. `_partial` is as long as a line may be then.
        self._dropped_bytes = 0

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that are complete now."""
        *complete, rest = data.split(b"\n")
        lines = []
        for piece in complete:
            self._append(piece)
            lines.append(self._take())
        self._append(rest)
        return lines

    def end(self) -> list[str]:
        """Return what came without a newline at the end."""
        return [self._take()] if self._partial else []

    def _append(self, piece: bytes) -> None:
        room = self._line_bytes_max - len(self._partial)
        self._partial += piece[:room]
        self._dropped_bytes += max(len(piece) - room, 0)

    def _take(self) -> str:
        line = self._partial.rstrip(b"\r").decode("utf-8", "replace")
        if self._dropped_bytes:
            line += f" … [{self._dropped_bytes} bytes more]"
        self._partial, self._dropped_bytes = b"", 0
        return line


def encode_batches(pid: int, label: str, stream: str, lines: list[str]) -> list[bytes]:
    """Return the messages that carry these lines to the driver."""
    head = f'{{"op":"log","pid":{pid},"label":{json.dumps(label)},"stream":"{stream}","lines":['.encode()
    batches: list[bytes] = []
    batch: list[bytes] = []
    size_bytes = 0
    for line in lines:
        # Control characters take six times the room once they are quoted.
        quoted = _quote(line).encode("utf-8", "replace")
        while len(quoted) > LINE_BYTES_MAX * 5 // 4:
            line = line[: max(len(line) * LINE_BYTES_MAX // len(quoted) - 40, 1)] + " … [cut]"
            quoted = _quote(line).encode("utf-8", "replace")
        if batch and size_bytes + len(quoted) > BATCH_BYTES_MAX:
            batches.append(head + b",".join(batch) + b"]}")
            batch, size_bytes = [], 0
        batch.append(quoted)
        size_bytes += len(quoted) + 1
    if batch:
        batches.append(head + b",".join(batch) + b"]}")
    return batches


class LogFile:
    """A file that is made at the first line, and started anew when it is full."""

    def __init__(self, path: str, bytes_max: int = FILE_BYTES_MAX) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._size_bytes = 0
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Append; a full disk or a directory that was removed is no reason for a node to die."""
        try:
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0)
            elif self._size_bytes + len(data) > self._bytes_max:
                self._file.close()
                os.replace(self.path, self.path + ".1")
                self._file, self._size_bytes = open(self.path, "ab", buffering=0), 0
            self._file.write(data)
            self._size_bytes += len(data)
        except OSError:
            pass

    @property
    def was_written(self) -> bool:
        """Tell whether there is a file."""
        return self._file is not None

    def close(self) -> None:
        """Close the file; it stays where it is."""
        if self._file is not None:
            self._file.close()


class WorkerStream:
    """One of the two pipes of a worker."""

    def __init__(self, fd: int, name: str, file: LogFile) -> None:
        #: The reading end, non-blocking; -1 once closed.
        self.fd = fd
        #: "stdout" or "stderr".
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)
        self._file = file
        self._splitter = LineSplitter()

    def read(self) -> tuple[list[str], bool]:
        """Read once; return the complete lines, and whether the pipe is at its end."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return [], False
        self._file.write(data)
        lines = self._splitter.feed(data) if data else self._splitter.end()
        self._remember(lines)
        return lines, not data

    def read_rest(self) -> list[str]:
        """Read what is there now. A grandchild may hold the pipe open: its end is not waited for."""
        lines: list[str] = []
        # A pipe holds at most what 64 reads take, unless somebody goes on writing.
        for _ in range(64):
            try:
                data = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                break
            self._file.write(data)
            lines += self._splitter.feed(data)
        lines += self._splitter.end()
        self._remember(lines)
        return lines

    def close(self) -> None:
        """Close the reading end."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _remember(self, lines: list[str]) -> None:
        self.tail.extend(line[:TAIL_LINE_CHARS_MAX] for line in lines[-TAIL_LINES_MAX:])


class LogKeeper:
    """The files of the session's `logs` directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files_of_the_dead: deque[str] = deque()

    def open(self, token: int) -> LogFile:
        """Return the file of a new worker."""
        return LogFile(os.path.join(self._directory, f"worker-{token}.log"))

    def retire(self, file: LogFile) -> None:
        """The worker is dead: keep its file among the last ones."""
        file.close()
        if not file.was_written:
            return
        self._files_of_the_dead.append(file.path)
        while len(self._files_of_the_dead) > FILES_OF_THE_DEAD_MAX:
            oldest = self._files_of_the_dead.popleft()
            for path in (oldest, oldest + ".1"):
                try:
                    os.unlink(path)
                except OSError:
                    pass

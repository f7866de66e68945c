"""`breakpoint()` in tasks and actors: pdb, over a socket that only this user can open.

The task stops and says where, and how to get to it:

    breakpoint in total, model.py:12, pid 4711. Attach with: python -m orchestrator.util.rpdb .../debug-4711-0

`continue` lets the task go on, `quit` ends it with `BdbQuit`; if the one who attached goes away, it goes on.
A task that waits to be attached to can be cancelled.
"""

from __future__ import annotations

import os
import pdb  # noqa: T100
import socket
import sys
import threading
from itertools import count
from types import FrameType
from typing import Any

from orchestrator.api.session import current

_numbers = count()


def set_trace(frame: FrameType | None = None) -> None:
    """Stop here and wait for somebody to attach; outside tasks and actors, plain `pdb.set_trace()`."""
    frame = frame or sys._getframe(1)
    runtime = current()
    if runtime is None or runtime.executor is None:
        pdb.Pdb().set_trace(frame)
        return
    path = os.path.join(runtime.info["session_dir"], f"debug-{os.getpid()}-{next(_numbers)}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        try:
            listener.listen(1)
            where = f"{frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno}, pid {os.getpid()}"
            attach = f"{os.path.basename(sys.executable)} -m orchestrator.util.rpdb {path}"
            print(f"breakpoint in {where}. Attach with: {attach}", file=sys.stderr, flush=True)
            connection, _ = listener.accept()
        finally:
            os.unlink(path)
    _RemotePdb(connection).set_trace(frame)


class _RemotePdb(pdb.Pdb):
    """Pdb that talks over a connection, and lets the task go on when that ends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        # Two, as one for both forgets what it has read ahead when it writes.
        self._reader = connection.makefile("r", encoding="utf-8")
        self._writer = connection.makefile("w", encoding="utf-8", buffering=1)
        #: it stands at the end of the task's own function: the next step leads out of the user's code
        self._at_the_end = False
        super().__init__(stdin=self._reader, stdout=self._writer, skip=["orchestrator.core.*"])
        self.prompt = "(pdb) "

    def user_line(self, frame: FrameType) -> None:
        """Stand at a line."""
        self._at_the_end = False
        super().user_line(frame)

    def user_return(self, frame: FrameType, return_value: Any) -> None:
        """Stand at the end of a function."""
        caller = frame.f_back
        self._at_the_end = caller is None or caller.f_globals.get("__name__", "").startswith("orchestrator.")
        super().user_return(frame, return_value)

    def do_next(self, arg: str) -> Any:
        """Go to the next line; at the task's end, go on."""
        return self.do_continue(arg) if self._at_the_end else super().do_next(arg)

    do_n = do_next

    def do_step(self, arg: str) -> Any:
        """Go to the next line, also into functions; at the task's end, go on."""
        return self.do_continue(arg) if self._at_the_end else super().do_step(arg)

    do_s = do_step

    def do_return(self, arg: str) -> Any:
        """Go to the end of this function; at the task's end, go on."""
        return self.do_continue(arg) if self._at_the_end else super().do_return(arg)

    do_r = do_return

    def do_continue(self, arg: str) -> Any:
        """Go on; the connection ends unless there are breakpoints to stop at."""
        outcome = super().do_continue(arg)
        if not self.breaks:
            self._end()
        return outcome

    do_c = do_cont = do_continue

    def do_quit(self, arg: str) -> Any:
        """End the task."""
        outcome = super().do_quit(arg)
        self._end()
        return outcome

    do_q = do_exit = do_quit

    def do_EOF(self, arg: str) -> Any:
        """Whoever was attached is gone: go on without."""
        self.clear_all_breaks()
        self.set_continue()
        self._end()
        return True

    def _end(self) -> None:
        for end in (self._writer, self._reader, self._connection):
            try:
                end.close()
            except OSError:
                pass


def attach(path: str) -> int:
    """Connect this terminal with a task that has stopped; return when it goes on."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            print(f"nothing waits at {path}: {error}", file=sys.stderr)
            return 1
        typing = threading.Thread(target=_send_lines, args=(connection,), daemon=True)
        typing.start()
        try:
            while data := connection.recv(65536):
                sys.stdout.write(data.decode(errors="replace"))
                sys.stdout.flush()
        except KeyboardInterrupt:
            pass
    return 0


def _send_lines(connection: socket.socket) -> None:
    try:
        for line in sys.stdin:
            connection.sendall(line.encode())
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the task went on


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m orchestrator.util.rpdb PATH   (a task that stops says which)")
    sys.exit(attach(sys.argv[1]))

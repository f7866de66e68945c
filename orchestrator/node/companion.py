"""A process that a supervisor keeps alive beside its node: when it ends, it is started again, after a pause.

            start                       ends                    pause over
    (none) ───────▶ RUNNING ───────────────────────▶ PAUSING ───────────────▶ RUNNING
                       └── stop: SIGTERM, and after a grace SIGKILL ──▶ (none)

The pause doubles with each end, and is short again for one that has lived long. It dies with its supervisor,
by the kernel's parent-death signal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from orchestrator.node import system

#: Pause before a process is started again, doubled each time up to the second.
PAUSE_S = (0.1, 10.0)
#: One that has lived for so long has not died of how it was started; and, being the longest pause, it is long
#: enough that starting such a one at once makes no more starts than the pauses would.
LIVED_S = PAUSE_S[1]


class Companion:
    """One such process.

    Args:
        name: of its log, and for people.
        command: what is run. The first words are an interpreter that can run this package.
        log_path: where its stdout and stderr are appended.
        environment: variables of its own beside those of this process.
    """

    def __init__(
        self, name: str, command: Sequence[str], log_path: str, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = list(command)
        self._log_path = log_path
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at_s = 0.0
        #: When the next one is due; None while one runs.
        self.due_s: float | None = None
        #: How often it was started again.
        self.restarts_count = 0
        self._pause_s = PAUSE_S[0]

    @property
    def pid(self) -> int:
        """Its process id; 0 while none runs."""
        return 0 if self._process is None else self._process.pid

    def alive(self) -> bool:
        """Tell whether it runs at this moment."""
        return self._process is not None and self._process.poll() is None

    def begin_again_with(self, command: Sequence[str]) -> None:
        """Have this run from the next start on."""
        self._command = list(command)

    def start(self, now_s: float) -> None:
        """Start it.

        Raises:
            OSError: no more processes, or no such command.
        """
        with open(self._log_path, "ab") as log:
            self._process = subprocess.Popen(
                [*_GUARD, str(os.getpid()), *self._command],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started_at_s, self.due_s = now_s, None

    def tick(self, now_s: float) -> str:
        """Look after it; return what there is to say, or ""."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return ""
            self._process = None
            if now_s - self._started_at_s >= LIVED_S:
                self._pause_s = PAUSE_S[0]
            self.due_s = now_s + self._pause_s
            said = f"{self.name} ended with code {code}; it is started again in {self._pause_s:g} s"
            self._pause_s = min(self._pause_s * 2, PAUSE_S[1])
            return said
        if self.due_s is not None and now_s >= self.due_s:
            try:
                self.start(now_s)
            except OSError as exc:
                self.due_s = now_s + self._pause_s
                return f"{self.name} cannot be started: {exc}"
            self.restarts_count += 1
            return f"{self.name} is started again, as pid {self.pid}"
        return ""

    def stop(self, grace_s: float) -> None:
        """End it: gently, and after the grace at once. Repeatable."""
        process, self._process, self.due_s = self._process, None, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(words: Sequence[str]) -> None:
    """Run a command that dies with the process of this pid: what `Companion` starts."""
    supervisor_pid, *command = words
    system.die_with_parent(int(supervisor_pid))
    os.execv(command[0], command)


#: The signal for a parent's death survives `exec`, and is set by the child itself: no code runs between fork
#: and exec in a process that may have threads.
_GUARD = (
    sys.executable,
    "-S",
    "-c",
    "import sys; sys.path[:0] = "
    + repr([os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))])
    + "; from orchestrator.node.companion import main; main(sys.argv[1:])",
)

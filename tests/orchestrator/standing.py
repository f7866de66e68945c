"""Standing sessions for tests: begun, driven by programs of their own, ended; nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator.node import standing
from orchestrator.node.session_dir import MARK
from tests.waiting import until

#: The longest anything may take before a test gives up.
PATIENCE_S = 60.0


class StandingSession:
    """A session begun with `start`, in a runtime directory of the test's own."""

    def __init__(self, root: Path, **more: Any) -> None:
        self.root = root
        options = standing.Options({"CPU": 2.0}, {"zone": "a"}, 256 << 20, **more)
        facts = standing.start(options)
        self.path: str = facts["session_dir"]
        self.session = standing.Standing(self.path)
        self._drivers: list[Driver] = []

    def drive(self, program: str, **options: Any) -> Driver:
        """Start a driver in a process of its own."""
        driver = Driver(program, **options)
        self._drivers.append(driver)
        return driver

    def processes(self) -> list[int]:
        """Return the processes of this session, the supervisor apart."""
        mark = f"{MARK}={self.path}".encode()
        found = []
        for name in os.listdir("/proc"):
            try:
                if name.isdigit() and mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.append(int(name))
            except OSError:
                continue
        return found

    def close(self) -> None:
        """End everything, and see that nothing is left."""
        for driver in self._drivers:
            driver.close()
        if os.path.exists(self.path):
            self.session.stop(force=True)
        until(lambda: not self.processes())
        assert not os.path.lexists(self.path)


#: What every driver of a test begins with: it talks with the test in lines.
_PREAMBLE = """
import json, os, signal, sys, time
import orchestrator as ray
def tell(value): print(json.dumps(value), flush=True)
def wait_for(word): assert sys.stdin.readline().strip() == word, "the test is over"
"""


class Driver:
    """A program in a process of its own; `tell(value)` in it is `hear()` here, `wait_for(w)` is `say(w)`."""

    def __init__(self, program: str, *, cwd: Path | None = None, init: str = "address='auto'") -> None:
        code = _PREAMBLE + (f"ray.init({init})\n" if init else "") + program
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        #: Lines on its stdout that were not told by the program: what workers print.
        self.lines: list[str] = []

    def hear(self) -> Any:
        """Return what the program tells next."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                return json.loads(line)
            except ValueError:
                self.lines.append(line.rstrip("\n"))
        raise AssertionError(f"the driver ended instead: {self.end()}")

    def say(self, word: str) -> None:
        """Let the program go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and stderr. Further lines are in `lines`."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        self.lines += out.splitlines()
        return self.process.returncode, err

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass

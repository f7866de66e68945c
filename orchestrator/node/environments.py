"""The runtime environments of a node: which are ready, and the processes that build those that are not.

    unknown ──prepare──▶ BUILDING ──builder exits with 0──▶ READY
                 │           └──exits otherwise, takes too long──▶ unknown (failed; may be tried again)
                 └──nothing to build──▶ READY

Building is another program's work (`orchestrator.environments.pip_builder`): it takes minutes, and the node
has others to serve. What a builder says is kept in the session's logs; its last lines are the error.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from orchestrator.common.runtime_env import SETUP_TIMEOUT_S
from orchestrator.environments import resolved as environments

#: Lines of a builder's output in the error, and how much of them: it has to fit into a message.
LINES_SHOWN = 20
CHARS_SHOWN = 8000
#: How often the driver hears that a builder is at work.
PROGRESS_S = 10.0


class Builder:
    """A process that builds an environment."""

    def __init__(self, env: str, log_path: str, timeout_s: float, now_s: float) -> None:
        self.env = env
        self.log_path = log_path
        self.timeout_s = timeout_s
        self.started_at_s = now_s
        #: When it last was spoken of.
        self.mentioned_at_s = now_s

    def is_late(self, now_s: float) -> bool:
        """Tell whether its time is over. A time below zero never is."""
        return 0 <= self.timeout_s <= now_s - self.started_at_s


class Environments:
    """See the module's text.

    Args:
        on_ready: called with the key of an environment for which workers can be started.
        on_failed: called with a key, and the reason, a sentence that begins with "it".
        on_progress: called now and then with a key, and a line about the builder that is at work for it.
    """

    def __init__(
        self,
        session_dir: str,
        logs_dir: str,
        on_ready: Callable[[str], None],
        on_failed: Callable[[str, str], None],
        on_progress: Callable[[str, str], None],
    ) -> None:
        self._session_dir = session_dir
        self._logs_dir = logs_dir
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._on_progress = on_progress
        self._builders: dict[int, Builder] = {}
        #: Locks that keep what workers use in the cache, by environment, until this process ends.
        self._locks: dict[str, int] = {}

    def prepare(self, env: str, now_s: float) -> None:
        """Have an environment made; one of the callbacks says how that went."""
        try:
            resolved = environments.load(env, self._session_dir)
        except (OSError, ValueError) as exc:
            self._on_failed(env, f"it needs the runtime environment {env}, which nobody has described: {exc}")
            return
        cached = environments.cached_of(resolved)
        if cached is None or (env in self._locks and cached.complete):
            self._on_ready(env)
            return
        try:
            if env in self._locks:
                os.close(self._locks.pop(env))  # somebody has emptied the cache under our hands
            lock_fd = cached.lock_to_use()
            if lock_fd is not None:
                self._locks[env] = lock_fd
                self._on_ready(env)
                return
            self._start_builder(env, resolved.get("setup_timeout_s", SETUP_TIMEOUT_S), now_s)
        except OSError as exc:
            self._on_failed(env, f"it needs a runtime environment that could not be set up: {exc}")

    def _start_builder(self, env: str, timeout_s: float, now_s: float) -> None:
        log_path = os.path.join(self._logs_dir, f"environment-{env}.log")
        path = [entry for entry in sys.path if entry]
        code = (
            f"import sys; sys.path[:0] = [p for p in {path!r} if p not in sys.path]\n"
            "from orchestrator.environments.pip_builder import main\n"
            "sys.exit(main(sys.argv[1]))"
        )
        how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", code, environments.path_of(env, self._session_dir)],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log_path, how, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setpgroup=0,
            setsigdef=[signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM],
        )
        self._builders[pid] = Builder(env, log_path, timeout_s, now_s)

    def exited(self, pid: int, status: int, now_s: float) -> bool:
        """Take note of the end of a process; False if it was none of the builders."""
        builder = self._builders.pop(pid, None)
        if builder is None:
            return False
        if status == 0:
            self.prepare(builder.env, now_s)
            return True
        _kill_group(pid)  # what it had started; nobody else has the group's number as long as one is in it
        why = f" within {builder.timeout_s:g} s (setup_timeout_seconds)" if builder.is_late(now_s) else ""
        said = "".join(f"\n    {line}" for line in _last_lines(builder.log_path))[-CHARS_SHOWN:]
        text = (
            f"it needs a runtime environment that could not be set up{why}; the installer's last lines:{said}"
        )
        self._on_failed(builder.env, text)
        return True

    def tick(self, now_s: float) -> None:
        """End the builders whose time is over; speak of the others."""
        for pid, builder in self._builders.items():
            if builder.is_late(now_s):
                _kill_group(pid)
            elif now_s - builder.mentioned_at_s >= PROGRESS_S:
                builder.mentioned_at_s = now_s
                last = "".join(_last_lines(builder.log_path)[-1:])[:200]
                self._on_progress(
                    builder.env, f"is being set up for {now_s - builder.started_at_s:.0f} s: {last}"
                )


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _last_lines(path: str) -> list[str]:
    try:
        with open(path, errors="replace") as file:
            return [line.rstrip() for line in file.read()[-20_000:].splitlines()[-LINES_SHOWN:]]
    except OSError:
        return []

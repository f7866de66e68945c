"""What workers print, shown in the driver: with a prefix, and, if asked for, without repetitions."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any

from orchestrator.common import environ

#: Colours of prefixes, by pid: distinguishable on dark and light ground. Red is for errors.
_COLORS = (36, 35, 32, 33, 34)
_DIGITS = re.compile(r"0x[0-9a-fA-F]+|\d+")
DEDUP_WINDOW_S = 5.0


class Repeated:
    """A line that several processes have printed."""

    __slots__ = ("count", "first_at_s", "line", "sources", "stream")

    def __init__(self, source: int, stream: str, now_s: float) -> None:
        #: pids of those who printed it
        self.sources = {source}
        self.stream = stream
        self.first_at_s = now_s
        #: how often it was left out, and the last one that was
        self.count = 0
        self.line = ""


class Deduplicator:
    """Shows a line that many workers print once, and how often it came, at the end of a window of time.

    Numbers in a line are ignored: "epoch 1 of 10 in 3.2 s" is the same from all. What a single process
    repeats is shown each time.
    """

    def __init__(self, window_s: float, allow: str | None, skip: str | None) -> None:
        self._window_s = window_s
        #: lines to show always, and never
        self._allow = re.compile(allow) if allow else None
        self._skip = re.compile(skip) if skip else None
        self._recent: dict[tuple[str, str], Repeated] = {}

    def keep(self, source: int, stream: str, line: str, shown: str, now_s: float) -> bool:
        """Tell whether to show a line now; `shown` is what `due` gives back otherwise."""
        if self._allow is not None and self._allow.search(line):
            return True
        if self._skip is not None and self._skip.search(line):
            return False
        key = (stream, _DIGITS.sub("", line))
        if not key[1].strip():
            return True
        known = self._recent.get(key)
        if known is None:
            self._recent[key] = Repeated(source, stream, now_s)
            return True
        known.sources.add(source)
        if len(known.sources) == 1:
            return True
        known.count += 1
        known.line = shown
        return False

    def due(self, now_s: float) -> list[tuple[str, str]]:
        """Return (stream, line) of repetitions whose window is over."""
        lines = []
        for key, known in list(self._recent.items()):
            if now_s - known.first_at_s >= self._window_s:
                del self._recent[key]
                if known.count:
                    more = f" [repeated {known.count}x by other workers]" if known.count > 1 else ""
                    lines.append((known.stream, known.line + more))
        return lines


class WorkerLogs:
    """Shows the lines of workers. Settings come from the environment, at the session's start."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._prefix = not environ.flag("DISABLE_WORKER_LOG_PREFIX", False)
        color = environ.setting("COLOR_PREFIX")
        #: None: where the stream is a terminal
        self._color = None if color is None else environ.flag("COLOR_PREFIX", True)
        if color is None and os.environ.get("NO_COLOR"):
            self._color = False
        self._deduplicator = (
            Deduplicator(
                environ.number("DEDUP_LOGS_AGG_WINDOW_S", DEDUP_WINDOW_S),
                environ.setting("DEDUP_LOGS_ALLOW_REGEX"),
                environ.setting("DEDUP_LOGS_SKIP_REGEX"),
            )
            if environ.flag("DEDUP_LOGS", False)
            else None
        )

    def show(self, message: dict[str, Any]) -> None:
        """Show a batch of lines."""
        name = "stderr" if message.get("stream") == "stderr" else "stdout"
        prefix = self._prefix_of(message, name)
        # A line that is JSON stays one: it is for a machine to read.
        shown = [line if line.startswith("{") else prefix + line for line in message["lines"]]
        deduplicator = self._deduplicator
        if deduplicator is not None:
            now_s = self._now()
            source = message["pid"]
            pairs = zip(message["lines"], shown, strict=True)
            shown = [text for line, text in pairs if deduplicator.keep(source, name, line, text, now_s)]
        self._write(name, shown)

    def tick(self, now_s: float) -> None:
        """Show the repetitions that are due."""
        if self._deduplicator is not None:
            for name, line in self._deduplicator.due(now_s):
                self._write(name, [line])

    def close(self) -> None:
        """Show all that was held back."""
        self.tick(float("inf"))

    def _prefix_of(self, message: dict[str, Any], name: str) -> str:
        if not self._prefix:
            return ""
        prefix = f"({message.get('label') or 'worker'} pid={message['pid']})"
        color = self._color
        if color is None:
            color = bool(getattr(getattr(sys, name), "isatty", lambda: False)())
        if color:
            prefix = f"\033[{_COLORS[message['pid'] % len(_COLORS)]}m{prefix}\033[0m"
        return prefix + " "

    def _write(self, name: str, lines: list[str]) -> None:
        if not lines:
            return
        stream = getattr(sys, name)
        try:
            stream.write("".join(line + "\n" for line in lines))
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # closed, or None in a program without a console

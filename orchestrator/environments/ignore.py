"""Which files of a directory are left out, in the language of `.gitignore`.

A pattern with a slash at its beginning or in its middle is meant from the directory of its file on, another
one at any depth below. A slash at the end means directories only. `*` and `?` stop at slashes, `**` does not.
A later pattern wins over an earlier one, and `!` takes back; but what lies in a directory that is left out is
not looked at.
"""

from __future__ import annotations

import re

#: Left out unless a pattern takes them back.
DEFAULTS = (".git/", ".venv/", "venv/", "__pycache__/")


class _Rule:
    __slots__ = ("directories_only", "negates", "regex")

    def __init__(self, pattern: str, base: str) -> None:
        self.negates = pattern.startswith("!")
        if self.negates:
            pattern = pattern[1:]
        pattern = pattern.removeprefix("\\")
        self.directories_only = pattern.endswith("/")
        pattern = pattern.rstrip("/")
        anchored = "/" in pattern
        pattern = pattern.removeprefix("/")
        prefix = re.escape(base + "/") if base else ""
        self.regex = re.compile(prefix + ("" if anchored else "(?:.*/)?") + _to_regex(pattern) + r"\Z")


def _to_regex(pattern: str) -> str:
    out, i = [], 0
    while i < len(pattern):
        rest = pattern[i:]
        if rest.startswith("**/"):
            out.append("(?:.*/)?")
            i += 3
        elif rest.startswith("**"):
            out.append(".*")
            i += 2
        elif rest[0] == "*":
            out.append("[^/]*")
            i += 1
        elif rest[0] == "?":
            out.append("[^/]")
            i += 1
        elif rest[0] == "[" and (end := pattern.find("]", i + 2)) > 0:
            body = pattern[i + 1 : end]
            negated = body[0] in "!^"
            body = (body[1:] if negated else body).replace("\\", "\\\\")
            out.append(f"[{'^' if negated else ''}{body}]")
            i = end + 1
        else:
            if rest[0] == "\\" and len(rest) > 1:
                i += 1
            out.append(re.escape(pattern[i]))
            i += 1
    return "".join(out)


class Ignore:
    """Rules in the order in which they were added. Paths are relative to the root, with slashes."""

    def __init__(self, patterns: tuple[str, ...] | list[str] = DEFAULTS) -> None:
        self._rules: list[_Rule] = []
        self.add(patterns)

    def add(self, lines: tuple[str, ...] | list[str], base: str = "") -> None:
        """Add patterns as they stand in a file in the directory `base`."""
        for line in lines:
            pattern = line.rstrip("\r\n").rstrip(" ")
            if pattern.strip("!/") and not pattern.startswith("#"):
                self._rules.append(_Rule(pattern, base))

    def matches(self, path: str, is_directory: bool) -> bool:
        """Tell whether to leave this one out."""
        ignored = False
        for rule in self._rules:
            if (is_directory or not rule.directories_only) and rule.regex.match(path):
                ignored = not rule.negates
        return ignored

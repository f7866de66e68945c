"""The node's report of a death, in words."""

from __future__ import annotations

from typing import Any


def describe_death(report: dict[str, Any] | None) -> str:
    """Return how a process ended, with the last lines it wrote to stderr."""
    if not report:
        return "no report"
    parts = []
    if report.get("signal"):
        parts.append(f"killed by {report['signal']}")
    elif report.get("exit_code") is not None:
        parts.append(f"exit code {report['exit_code']}")
    if report.get("reason"):
        parts.append(str(report["reason"]))
    text = f"pid {report.get('pid')}: " + ("; ".join(parts) or "unknown cause")
    tail = [str(line) for line in report.get("stderr_tail") or ()]
    if tail:
        text += "\nlast lines of its stderr:\n" + "\n".join("    " + line for line in tail)
    return text

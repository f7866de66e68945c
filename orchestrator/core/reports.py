"""The node's report of a death, in words."""

from __future__ import annotations

from typing import Any


def describe_death(report: dict[str, Any] | None) -> str:
    """Return how a process ended, with the last lines it wrote to stderr."""
    if not report:
        return "no report"
    fact = ""
    if report.get("signal"):
        fact = f"killed by {report['signal']}"
    elif report.get("exit_code") is not None:
        fact = f"exited with code {report['exit_code']}"
    reason = str(report.get("reason") or "")
    if not reason.startswith(fact):
        # Somebody's decision; without one the reason begins with the fact and explains it.
        reason = f"{fact}; {reason}"
    text = f"pid {report.get('pid')}: {reason or fact or 'unknown cause'}"
    tail = [str(line) for line in report.get("stderr_tail") or ()]
    if tail:
        text += "\nlast lines of its stderr:\n" + "\n".join("    " + line for line in tail)
    return text

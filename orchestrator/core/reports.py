"""What the node reports of deaths and refusals, in words and as errors."""

from __future__ import annotations

from typing import Any

from orchestrator import exceptions

#: What the node says of a demand it can never meet, and the errors of a task and of an actor that follow.
_REFUSALS: dict[str, tuple[type[exceptions.OrchestratorError], type[exceptions.OrchestratorError]]] = {
    "infeasible": (exceptions.InfeasibleError, exceptions.InfeasibleError),
    "unschedulable": (exceptions.TaskUnschedulableError, exceptions.ActorUnschedulableError),
    "group_removed": (exceptions.TaskPlacementGroupRemoved, exceptions.ActorPlacementGroupRemoved),
    "environment": (exceptions.RuntimeEnvSetupError, exceptions.RuntimeEnvSetupError),
}


def refusal(verdict: str, text: str, *, actor: bool = False) -> exceptions.OrchestratorError:
    """Return the error of a task, or of an actor, for which no worker will ever be found."""
    pair = _REFUSALS.get(verdict)
    if pair is None:
        return exceptions.ActorDiedError(text) if actor else exceptions.WorkerCrashedError(text)
    return pair[actor](text)


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

"""What the node reports of deaths and refusals, in words and as errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.core.values import OWN_PACKAGES

if TYPE_CHECKING:
    from orchestrator.core.task import Task


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


def describe_death(report: dict[str, Any] | None, further: str = "") -> str:
    """Return how a process ended, with the last lines it wrote to stderr; `further` comes before those."""
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
    text += further
    tail = [str(line) for line in report.get("stderr_tail") or () if not _is_ours(str(line))]
    if tail:
        text += "\nlast lines of its stderr:\n" + "\n".join("    " + line for line in tail)
    return text


def _is_ours(line: str) -> bool:
    """Tell whether a line is of no use to the user: a frame of the runtime's, or a list of modules."""
    text = line.strip()
    return text.startswith(_OUR_LINES) or text == 'File "<string>", line 2 in <module>'


#: How such lines begin in what `faulthandler` writes.
_OUR_LINES = (*(f'File "{directory}' for directory in OWN_PACKAGES), "Extension modules: ")


def crash_error(task: Task, report: dict[str, Any], used: int, limit: int) -> exceptions.OrchestratorError:
    """Return the error of a task whose worker died, `used` of `limit` retries (negative: any number) ago."""
    name = task.template.name
    budget = f"; retries used: {used} of {limit if limit >= 0 else 'any number'}"
    told = f"the worker that ran {name} died: {describe_death(report, budget)}"
    if report.get("verdict") == "group_removed":
        return refusal("group_removed", told)
    if report.get("out_of_memory") or report.get("memory"):
        return exceptions.OutOfMemoryError(told)
    options = task.template.options or {}
    if "timeout_s" in options and any(
        str(line).startswith(_TIMEOUT_MARKS) for line in report.get("stderr_tail") or ()
    ):
        return exceptions.TaskTimeoutError(
            f"{name} ran longer than timeout_s={options['timeout_s']:g} and ignored the interrupt, "
            f"so its process was ended: {describe_death(report)}"
        )
    return exceptions.WorkerCrashedError(told)


#: How lines begin that a worker writes when it ends itself because of a time limit; the first one may be cut.
_TIMEOUT_MARKS = ("Timeout (", "Thread 0x")

"""What a driver imports while its node starts, so that the first task need not wait for it."""

from __future__ import annotations

import importlib

#: What a runtime is made of, and what submitting the first task needs.
_NEEDED_SOON = (
    "orchestrator.core.actor_creation",
    "orchestrator.core.actor_submitter",
    "orchestrator.core.arguments",
    "orchestrator.core.call_sites",
    "orchestrator.core.callbacks",
    "orchestrator.core.census",
    "orchestrator.core.completion",
    "orchestrator.core.contexts",
    "orchestrator.core.dispatcher",
    "orchestrator.core.elsewhere",
    "orchestrator.core.environment_scope",
    "orchestrator.core.functions",
    "orchestrator.core.history",
    "orchestrator.core.lineage",
    "orchestrator.core.node_link",
    "orchestrator.core.pump",
    "orchestrator.core.task_submitter",
    "orchestrator.api.getting",
    "orchestrator.api.remote",
    "cloudpickle",
    "hashlib",
)


def import_what_is_needed_soon() -> None:
    """Import it."""
    for name in _NEEDED_SOON:
        importlib.import_module(name)

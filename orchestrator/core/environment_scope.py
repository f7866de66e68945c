"""The runtime environment this process is in, and those of what it submits."""

from __future__ import annotations

import importlib
import json
import os
import warnings
from typing import Any

from orchestrator.core.part import Part
from orchestrator.objects import plasma_adapter as objects


class EnvironmentScope(Part):
    """What tasks and actors that are submitted here run in: in what this process is in, unless they say more.

    A driver is in its own environment; what its children inherit is the session's. Where everything runs in
    this process, everything runs in its environment: such a session has no directory.
    """

    def __init__(self, info: dict[str, Any]) -> None:
        self._session_dir: str = info["session_dir"]
        #: key of what children inherit; "" is the plain environment
        self.key: str = info.get("environment", "")
        #: keys of environments that were asked for, by their fields; with the hooks, to keep their ids taken
        self._known: dict[tuple[str, int], tuple[str, Any]] = {}

    def key_for(self, env: Any) -> str:
        """Return the key of the environment for a call with this option, a `RuntimeEnv` or None.

        What the environment names is found and copied the first time that it is asked for: a loop of
        `f.options(runtime_env=...)` shall not copy a directory for each call.

        Raises:
            ValueError: something that it names is not there.
            SerializationError: the hook cannot be pickled.
        """
        if not env:
            return self.key
        if not self._session_dir:
            warnings.warn("runtime_env has no effect where everything runs in one process", stacklevel=5)
            return self.key
        hook = env.get("worker_process_setup_hook")
        fields = {name: value for name, value in env.items() if name != "worker_process_setup_hook"}
        known_as = (json.dumps(fields, sort_keys=True), id(hook))
        known = self._known.get(known_as)
        if known is None:
            known = self._known[known_as] = (self._resolve(env), hook)
        return known[0]

    def _resolve(self, env: Any) -> str:
        from orchestrator.environments import resolved as environments

        own = environments.resolve(env, self._session_dir, _dumps_hook)
        return environments.publish(environments.merge(self.inherited(), own), self._session_dir)

    def inherited(self) -> dict[str, Any]:
        """Return the environment that children inherit, resolved."""
        if not self.key:
            return {}
        from orchestrator.environments import resolved as environments

        return environments.load(self.key, self._session_dir)


def run_hook(hook: str) -> None:
    """Call a hook, given by name or by the path of its pickle.

    Raises:
        Exception: whatever it raises.
    """
    if os.path.isabs(hook):
        with open(hook, "rb") as file:
            function = objects.deserialize(file.read())
    else:
        module, _, name = hook.rpartition(".")
        function = getattr(importlib.import_module(module), name)
    function()


def _dumps_hook(hook: Any) -> bytes:
    return objects.encode(hook, "worker_process_setup_hook").to_bytes()

"""Where machines come from. `provider` says what is expected of each kind; `local` makes processes here.

A kind is a module with two functions: `check(config)` raises `ConfigError` for what it can't understand, and
`make(config, facts)` returns the `Provider`. Modules are imported when their kind is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.autoscaler.config import AutoscalerConfig, ConfigError

if TYPE_CHECKING:
    from orchestrator.autoscaler.providers.provider import Provider

#: `provider: {type: ...}` to the module.
KINDS: dict[str, str] = {
    "local": "orchestrator.autoscaler.providers.local",
}


class ClusterFacts(NamedTuple):
    """What a provider has to know of the cluster."""

    #: The secret by which nodes join.
    join: str
    #: The private directory of the head's session.
    session_dir: str
    #: Pid of the supervisor of the head's process, which outlives that.
    supervisor_pid: int
    #: Whether links and objects go in the clear.
    trusted: bool = False


def check_provider_config(config: AutoscalerConfig) -> None:
    """Check everything that only the provider understands.

    Raises:
        ConfigError: there is no such provider, or it can't make anything of this.
    """
    _module(config).check(config)


def make_provider(config: AutoscalerConfig, facts: ClusterFacts) -> Provider:
    """Return the provider that a configuration names.

    Raises:
        ConfigError: there is no such provider, or it can't make anything of this.
    """
    check_provider_config(config)
    made: Provider = _module(config).make(config, facts)
    return made


def _module(config: AutoscalerConfig) -> Any:
    kind = config.provider["type"]
    name = KINDS.get(kind) if isinstance(kind, str) else None
    if name is None:
        known = ", ".join(repr(one) for one in sorted(KINDS))
        raise ConfigError(f"provider.type: must be one of {known}, not {kind!r:.100}")
    return importlib.import_module(name)

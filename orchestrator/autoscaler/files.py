"""Configurations of the autoscaler in files: JSON, or YAML where PyYAML is installed."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.autoscaler.config import AutoscalerConfig, ConfigError, parse_config
from orchestrator.autoscaler.providers import check_provider_config


def read_file(path: str) -> Any:
    """Return what a file holds.

    Raises:
        ConfigError: it can't be read, or is neither JSON nor YAML.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: {exc}") from None
    try:
        return json.loads(text)
    except ValueError as exc:
        if path.endswith(".json"):
            raise ConfigError(f"{path} is not JSON: {exc}") from None
    try:
        import yaml
    except ImportError:
        hint = "pip install 'plasma-orchestrator[cluster]', or write it as JSON"
        raise ConfigError(f"{path} is not JSON, and for YAML the package PyYAML is needed: {hint}") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ConfigError(f"{path} is neither JSON nor YAML: {' '.join(str(exc).split())}") from None


def check(found: Any) -> AutoscalerConfig:
    """Return the configuration that a file holds, checked for its provider, too.

    Raises:
        ConfigError: it makes no sense.
    """
    config = parse_config(found)
    check_provider_config(config)
    return config

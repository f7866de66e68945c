"""What the machine has, beside what the driver has said: memory, GPUs, its names."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.common.accelerators import TYPE_PREFIX, VISIBLE_VARIABLES
from orchestrator.common.labels import RESERVED
from orchestrator.common.resources import STORE, UNITS_PER_WHOLE
from orchestrator.node.memory import MemorySources

#: Share of the memory that is available at the start which tasks may ask for with `memory=`; the rest is for
#: the driver, the store's bookkeeping and whatever else runs here.
MEMORY_SHARE = 0.7

_GPU_FILES = "/proc/driver/nvidia/gpus/*/information"


class Machine(NamedTuple):
    """Everything the scheduler wants to know."""

    resources: dict[str, float]
    #: Resource name to device id to units.
    devices: dict[str, dict[str, int]]
    labels: dict[str, str]


def describe_machine(
    config: Mapping[str, Any],
    node_id: str,
    store_bytes: int,
    environ: Mapping[str, str] = os.environ,
) -> Machine:
    """Return what the driver has declared, completed by what it has not.

    Args:
        config: what the node was started with; declared are its `resources`, and the `labels` in its `info`;
            "cluster" tells whether it is a head's.
        store_bytes: the size of its object store, which is said by the name that Ray's users look for.
    """
    resources: dict[str, float] = dict(config["resources"])
    cluster = config.get("cluster")
    is_head = not cluster or cluster["is_head"]
    labels: Mapping[str, str] = config["info"].get("labels") or {}
    models = _gpu_models()
    if "GPU" not in resources and models:
        visible = _visible("GPU", environ)
        resources["GPU"] = len(models) if visible is None else len(visible)
    if "memory" not in resources:
        resources["memory"] = MemorySources().available_bytes() * MEMORY_SHARE // 1
    resources.setdefault(STORE, float(store_bytes))
    for name in ("node:127.0.0.1", f"node:{node_id}", *(["node:__internal_head__"] if is_head else [])):
        resources.setdefault(name, 1.0)
    found = dict(labels) | {RESERVED + "node-id": node_id}
    for model in dict.fromkeys(models):
        resources.setdefault(TYPE_PREFIX + model, 1.0)
        found.setdefault(RESERVED + "accelerator-type", model)
    devices = {
        name: _devices(name, round(resources[name] * UNITS_PER_WHOLE), environ)
        for name in VISIBLE_VARIABLES
        if resources.get(name)
    }
    return Machine(resources, devices, found)


def _devices(name: str, units: int, environ: Mapping[str, str]) -> dict[str, int]:
    """Return a node's devices: those that the driver was given, if it was given enough."""
    count = -(-units // UNITS_PER_WHOLE)
    visible = _visible(name, environ)
    if visible is None or len(visible) < count:
        visible = [str(number) for number in range(count)]
    rest = units - (count - 1) * UNITS_PER_WHOLE
    return {
        device: rest if number == count else UNITS_PER_WHOLE
        for number, device in enumerate(visible[:count], 1)
    }


def _visible(name: str, environ: Mapping[str, str]) -> list[str] | None:
    for variable in VISIBLE_VARIABLES[name]:
        if variable in environ:
            return [text.strip() for text in environ[variable].split(",") if text.strip()]
    return None


def _gpu_models() -> list[str]:
    """Return the models of the GPUs that the kernel's driver knows, as labels can hold them."""
    models = []
    for path in glob.glob(_GPU_FILES):
        try:
            with open(path) as file:
                found = re.search(r"^Model:\s*(.+)$", file.read(), re.MULTILINE)
        except OSError:
            continue
        name = re.sub(r"^(NVIDIA|Tesla|GeForce)\s+", "", found[1].strip()) if found else "unknown"
        models.append(re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-"))
    return models

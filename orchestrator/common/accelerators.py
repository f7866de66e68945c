"""Kinds of devices, as resources, and the variables that tell a library which of them it may use."""

from __future__ import annotations

#: Resource name to the variables that hold the ids of the visible devices, separated by commas.
VISIBLE_VARIABLES: dict[str, tuple[str, ...]] = {
    "GPU": ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    "TPU": ("TPU_VISIBLE_CHIPS",),
    "neuron_cores": ("NEURON_RT_VISIBLE_CORES",),
    "NPU": ("ASCEND_RT_VISIBLE_DEVICES",),
    "HPU": ("HABANA_VISIBLE_MODULES",),
}

#: If this is set in the driver's environment, nobody's variables are changed.
KEEP_VARIABLE = "ORCHESTRATOR_KEEP_VISIBLE_DEVICES"

#: A node with this model of accelerator has one of the resource of this name; who needs it asks for a little.
TYPE_PREFIX = "accelerator_type:"
TYPE_SHARE = 0.001

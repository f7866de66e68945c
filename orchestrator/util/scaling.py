"""Saying how large the cluster is to be. These are statements, not commands: the last one counts.

The autoscaler does what follows (`orchestrator start --head --autoscaling-config FILE`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from orchestrator.api.session import ensure_runtime
from orchestrator.autoscaler import wishes

log = logging.getLogger("orchestrator")


def request_resources(
    num_cpus: int | None = None,
    bundles: Sequence[Mapping[str, float]] | None = None,
    bundle_label_selectors: Sequence[Mapping[str, str]] | None = None,
) -> None:
    """Say what the cluster is to have in total, busy or not, as far as its limits allow; none: no more.

    It comes at once, whatever the speed of scaling up, and stays however idle. Where nobody starts nodes it
    is without effect, and a warning says so.

    Args:
        num_cpus: so many CPUs, wherever they are.
        bundles: resources by name, each bundle on one node.
        bundle_label_selectors: conditions on the labels of each bundle's node; for all bundles or none.

    Raises:
        ValueError: it makes no sense.
    """
    if num_cpus is not None and (type(num_cpus) is not int or num_cpus < 0):
        raise ValueError(f"num_cpus must be an integer, 0 or more, not {num_cpus!r:.100}")
    if bundle_label_selectors is not None and len(bundle_label_selectors) != len(bundles or ()):
        text = f"{len(bundle_label_selectors)} of them for {len(bundles or ())} bundles"
        raise ValueError(f"bundle_label_selectors: {text}")
    wanted = [*(bundles or ()), *[{"CPU": 1}] * (num_cpus or 0)]
    error = _wish(wishes.REQUESTED, wishes.requests_to_value(wanted, bundle_label_selectors or ()))
    if error:
        log.warning("request_resources() is without effect: %s", error)


def scale(n: int) -> None:
    """Say that there are to be just so many nodes, without the head's.

    Raises:
        ValueError: it makes no sense.
        RuntimeError: nobody starts nodes here.
    """
    adapt(n, n)


def adapt(minimum: int, maximum: int) -> None:
    """Say that there are to be at least and at most so many nodes, without the head's, as there is demand.

    Raises:
        ValueError: it makes no sense.
        RuntimeError: nobody starts nodes here.
    """
    error = _wish(wishes.LIMITS, wishes.limits_to_value(minimum, maximum))
    if error:
        raise RuntimeError(error)


def _wish(key: bytes, value: bytes) -> str:
    answer = ensure_runtime().node.ask({"op": "wish", "key": key.decode(), "value": value.decode()})
    return str(answer.get("error") or "")

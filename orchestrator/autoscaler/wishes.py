"""What programs ask of the autoscaler, as it lies in the key-value store of the cluster.

    limits       how many nodes there are to be: `Cluster.scale(n)`, `.adapt(minimum, maximum)`
    requested    what the cluster is to have in total: `request_resources`
    instances    the autoscaler's own records (`Persist`)
    types        what could be started: `scheduling.cluster.potential`

The last one who writes is right: these are statements, not commands. What is there was written by a program
of a user's, so nothing about it is believed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.autoscaler.config import NODES_MAX, ConfigError, check_requests
from orchestrator.autoscaler.demand import Shape
from orchestrator.common.labels import check_selector
from orchestrator.common.scheduling_class import selector_of
from orchestrator.scheduling.cluster.potential import NAMESPACE as NAMESPACE

LIMITS, REQUESTED, INSTANCES = b"limits", b"requested", b"instances"
#: Bundles of one request.
BUNDLES_MAX = 100_000


def limits_to_value(minimum: int, maximum: int) -> bytes:
    """Return the value that asks for this many nodes, of all types, without the head.

    Raises:
        ConfigError: it makes no sense.
    """
    for what, number in (("minimum", minimum), ("maximum", maximum)):
        if type(number) is not int or not 0 <= number <= NODES_MAX:
            raise ConfigError(f"{what}: must be an integer from 0 to {NODES_MAX}, not {number!r:.100}")
    if minimum > maximum:
        raise ConfigError(f"minimum: must be at most the maximum ({maximum}), not {minimum}")
    return json.dumps([minimum, maximum]).encode()


def limits_from_value(value: bytes | None) -> tuple[int, int] | None:
    """Return (minimum, maximum); None if nobody has asked for any.

    Raises:
        ConfigError: the value makes no sense.
    """
    if value is None:
        return None
    match _loaded(value, LIMITS):
        case [minimum, maximum]:
            limits_to_value(minimum, maximum)
            return minimum, maximum
    raise ConfigError(f"autoscaler/limits: must be two integers, not {value!r:.100}")


def requests_to_value(
    bundles: Sequence[Mapping[str, float]], selectors: Sequence[Mapping[str, str]] = ()
) -> bytes:
    """Return the value that asks for these resources in total, each bundle on one node.

    Args:
        bundles: resources, by name.
        selectors: conditions on the labels of each bundle's node; none for bundles beyond its length.

    Raises:
        ConfigError: it makes no sense.
    """
    _check_requests(bundles, selectors)
    wanted: list[list[Any]] = []
    for place, bundle in enumerate(bundles):
        one = [dict(bundle), dict(_at(selectors, place))]
        if wanted and wanted[-1][:2] == one:
            wanted[-1][2] += 1
        else:
            wanted.append([*one, 1])
    return json.dumps(wanted, separators=(",", ":")).encode()


def requests_from_value(value: bytes | None) -> list[Shape]:
    """Return what was asked for; nothing if nobody has asked for anything.

    Raises:
        ConfigError: the value makes no sense.
    """
    if value is None:
        return []
    found = _loaded(value, REQUESTED)
    if not isinstance(found, list) or not all(_is_request(one) for one in found):
        text = "must be resources, labels and a count, again and again"
        raise ConfigError(f"autoscaler/requested: {text}, not {value!r:.100}")
    bundles, selectors, counts = ([one[place] for one in found] for place in range(3))
    resources = _check_requests(bundles, selectors)
    if sum(counts) > BUNDLES_MAX:
        raise ConfigError(f"bundles: at most {BUNDLES_MAX}, not {sum(counts)}")
    return [
        Shape(amounts, (selector_of(selector),) if selector else ())
        for amounts, selector, count in zip(resources, selectors, counts, strict=True)
        for _ in range(count)
    ]


def _is_request(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 3 and type(found[2]) is int and found[2] > 0


def _check_requests(bundles: Sequence[Any], selectors: Sequence[Any]) -> list[Any]:
    if len(bundles) > BUNDLES_MAX:
        raise ConfigError(f"bundles: at most {BUNDLES_MAX}, not {len(bundles)}")
    if len(selectors) > len(bundles):
        raise ConfigError(f"bundle_label_selectors: {len(selectors)} of them for {len(bundles)} bundles")
    for place, selector in enumerate(selectors):
        try:
            check_selector(selector, f"bundle_label_selectors[{place}]")
        except (TypeError, ValueError) as exc:
            raise ConfigError(str(exc)) from None
    return check_requests(bundles)


def _at(selectors: Sequence[Mapping[str, str]], place: int) -> Mapping[str, str]:
    return selectors[place] if place < len(selectors) else {}


def _loaded(value: bytes, key: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        raise ConfigError(f"autoscaler/{key.decode()}: is not JSON: {value!r:.100}") from None

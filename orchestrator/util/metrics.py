"""Counters, gauges and histograms of the user's, counted in every process and read in one.

Each process counts for itself. A thread sends what it has counted so far to the session's collector, an
actor, every REPORT_S while something changes; so what `collect()` returns is behind by that much, and what a
process counted in its last moments is lost if it is killed. Sending totals rather than changes makes a lost
message harmless.
"""

from __future__ import annotations

import os
import re
import threading
import time
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orchestrator.api.getting import get
from orchestrator.api.remote import remote
from orchestrator.api.session import ensure_runtime, is_initialized

#: How often a process reports while its values change.
REPORT_S = 0.2

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

#: A metric's name and its tags, in order.
Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Sample:
    """One value: of a counter and a histogram the sum over all processes, of a gauge one process's."""

    name: str
    kind: str
    description: str
    tags: dict[str, str]
    #: a counter's total, a gauge's value, a histogram's sum
    value: float
    #: a histogram's upper bounds, and how many values were at most each; the last bound is infinite
    buckets: tuple[tuple[float, int], ...] = ()
    #: the process, of a gauge
    pid: int | None = None


class Metric:
    """What counters, gauges and histograms have in common.

    Args:
        name: letters, digits, `_` and `:`, no digit first. Of a metric with another name nothing is kept,
            and a warning says so.
        description: for people.
        tag_keys: the tags that each value must have, from its own `tags` or from the default ones.

    Raises:
        ValueError: the name is empty.
        TypeError: the name or a tag key is no str.
    """

    kind = ""

    def __init__(self, name: str, description: str = "", tag_keys: Sequence[str] | None = None) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a metric's name is a str, not {type(name).__name__}")
        if not name:
            raise ValueError("a metric needs a name")
        if isinstance(tag_keys, str) or not all(isinstance(key, str) for key in tag_keys or ()):
            raise TypeError(f"tag_keys must be a sequence of str, not {tag_keys!r}")
        self._valid = bool(_NAME.fullmatch(name))
        if not self._valid:
            warnings.warn(f"metric {name!r}: not a valid name, so its values are not kept", stacklevel=3)
        self._name = name
        self._description = description
        self._tag_keys = tuple(tag_keys or ())
        self._default_tags: dict[str, str] = {}

    @property
    def info(self) -> dict[str, Any]:
        """The metric's name, description, tag keys and default tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": dict(self._default_tags),
        }

    def set_default_tags(self, default_tags: dict[str, str]) -> Any:
        """Set tags that values have unless their own say otherwise; return this metric.

        Raises:
            ValueError: a key that is not among the metric's tag keys.
            TypeError: a tag's value is no str.
        """
        self._check(default_tags)
        self._default_tags = dict(default_tags)
        return self

    def _check(self, tags: dict[str, str]) -> None:
        for key, value in tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"{key!r} is not a tag of {self._name}; it has: {', '.join(self._tag_keys)}")
            if not isinstance(value, str):
                raise TypeError(f"tag {key!r} must be a str, not {type(value).__name__}")

    def _key(self, tags: dict[str, str] | None) -> Key:
        if tags:
            self._check(tags)
        all_tags = {**self._default_tags, **(tags or {})}
        missing = [key for key in self._tag_keys if key not in all_tags]
        if missing:
            raise ValueError(f"{self._name} needs a value for tag {', '.join(missing)}")
        return self._name, tuple(sorted(all_tags.items()))

    def _record(self, value: float, tags: dict[str, str] | None) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"a metric's value is a number, not {type(value).__name__}")
        key = self._key(tags)
        if self._valid:
            _values.record(key, self, float(value))

    def _add(self, kept: list[float], value: float) -> None:
        """Add a value to what is kept: the value or sum, and behind it counts of buckets."""
        raise NotImplementedError

    def _start(self) -> list[float]:
        return [0.0]

    def _description_of(self) -> tuple[str, str, tuple[float, ...]]:
        return self.kind, self._description, ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), (self._name, self._description, self._tag_keys), self._default_tags)


def _rebuild(cls: type[Metric], arguments: tuple[Any, ...], default_tags: dict[str, str]) -> Metric:
    metric = cls(*arguments)
    metric._default_tags = dict(default_tags)
    return metric


class Counter(Metric):
    """Something that only grows: `Counter("requests", tag_keys=("route",)).inc(tags={"route": "/"})`."""

    kind = "counter"

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Add to it.

        Raises:
            ValueError: the value is not above 0; a tag is unknown or missing.
            TypeError: the value is no number, or a tag's no str.
        """
        if isinstance(value, (int, float)) and value <= 0:
            raise ValueError(f"a counter only grows: value must be > 0, not {value}")
        self._record(value, tags)

    def _add(self, kept: list[float], value: float) -> None:
        kept[0] += value


class Gauge(Metric):
    """Something that goes up and down: `Gauge("queue_length").set(3)`. Each process has its own value."""

    kind = "gauge"

    def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
        """Set it; None changes nothing.

        Raises:
            ValueError: a tag is unknown or missing.
            TypeError: the value is no number, or a tag's no str.
        """
        if value is not None:
            self._record(value, tags)

    def _add(self, kept: list[float], value: float) -> None:
        kept[0] = value


class Histogram(Metric):
    """How values are distributed: `Histogram("latency_s", boundaries=[0.01, 0.1, 1]).observe(0.05)`.

    Args:
        name: as of every metric.
        description: for people.
        boundaries: upper bounds of the buckets, above 0 and ascending; one without an upper bound is added.
        tag_keys: as of every metric.

    Raises:
        ValueError: no boundaries, or not above 0 and ascending.
    """

    kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, description, tag_keys)
        if not boundaries:
            raise ValueError(f"histogram {name} needs boundaries, like [0.01, 0.1, 1]")
        if boundaries[0] <= 0 or any(low >= high for low, high in pairwise(boundaries)):
            raise ValueError(f"boundaries must be above 0 and ascending, not {list(boundaries)}")
        self.boundaries = tuple(float(bound) for bound in boundaries)

    @property
    def info(self) -> dict[str, Any]:
        """What every metric says of itself, and the boundaries."""
        return {**super().info, "boundaries": list(self.boundaries)}

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Add a value.

        Raises:
            ValueError: a tag is unknown or missing.
            TypeError: the value is no number, or a tag's no str.
        """
        self._record(value, tags)

    def _start(self) -> list[float]:
        return [0.0] * (len(self.boundaries) + 2)

    def _add(self, kept: list[float], value: float) -> None:
        kept[0] += value
        kept[1 + bisect_left(self.boundaries, value)] += 1

    def _description_of(self) -> tuple[str, str, tuple[float, ...]]:
        return self.kind, self._description, self.boundaries

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self._name, self._description, self.boundaries, self._tag_keys)
        return _rebuild, (type(self), arguments, self._default_tags)


class _Values:
    """What this process has counted in its session, and the thread that reports it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._runtime: Any = None
        self._kept: dict[Key, list[float]] = {}
        self._metrics: dict[str, tuple[str, str, tuple[float, ...]]] = {}
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def record(self, key: Key, metric: Metric, value: float) -> None:
        runtime = ensure_runtime()
        with self._lock:
            if runtime is not self._runtime:
                self._runtime = runtime
                self._kept.clear()
                self._metrics.clear()
                self._thread = None
            described = metric._description_of()
            known = self._metrics.setdefault(key[0], described)
            if (known[0], known[2]) != (described[0], described[2]):
                raise ValueError(
                    f"there is another metric {key[0]!r}: a {known[0]} with boundaries {known[2]}"
                )
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = metric._start()
            metric._add(kept, value)
            self._changed.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._report_changes, args=(runtime,), name="orchestrator-metrics", daemon=True
                )
                self._thread.start()

    def report(self) -> Any:
        """Send all values to the session's collector; return the call's reference."""
        collector = _collector()
        with self._sending:  # or an older report might arrive after a newer one
            with self._lock:
                self._changed.clear()
                kept = {key: list(values) for key, values in self._kept.items()}
                metrics = dict(self._metrics)
            return collector.report.remote(os.getpid(), metrics, kept)

    def _report_changes(self, runtime: Any) -> None:
        while runtime.open and self._runtime is runtime:
            if self._changed.wait(REPORT_S):
                try:
                    self.report()
                except Exception:
                    if not runtime.open:
                        return  # the session is over
                    raise
                time.sleep(REPORT_S)


_values = _Values()


def _forget() -> None:
    global _values
    _values = _Values()


os.register_at_fork(after_in_child=_forget)


@remote
class _Collector:
    """What each process has counted, as it said last."""

    def __init__(self) -> None:
        self._reports: dict[int, dict[Key, list[float]]] = {}
        self._metrics: dict[str, tuple[str, str, tuple[float, ...]]] = {}

    def report(
        self, pid: int, metrics: dict[str, tuple[str, str, tuple[float, ...]]], kept: dict[Key, list[float]]
    ) -> None:
        self._metrics.update(metrics)
        self._reports[pid] = kept

    def collect(self) -> list[Sample]:
        sums: dict[Key, list[float]] = {}
        samples = []
        for pid, kept in self._reports.items():
            for (name, tags), values in kept.items():
                kind, description, _ = self._metrics[name]
                if kind == "gauge":
                    samples.append(Sample(name, kind, description, dict(tags), values[0], pid=pid))
                else:
                    total = sums.get((name, tags))
                    sums[name, tags] = values if total is None else [a + b for a, b in zip(total, values)]  # noqa: B905
        for (name, tags), values in sums.items():
            kind, description, boundaries = self._metrics[name]
            buckets = tuple(_cumulated((*boundaries, float("inf")), values[1:])) if boundaries else ()
            samples.append(Sample(name, kind, description, dict(tags), values[0], buckets))
        return samples


def _cumulated(bounds: Sequence[float], counts: Sequence[float]) -> Iterator[tuple[float, int]]:
    total = 0
    for bound, count in zip(bounds, counts, strict=True):
        total += int(count)
        yield bound, total


def _collector() -> Any:
    return _Collector.options(  # type: ignore[attr-defined]
        name="metrics", namespace="_orchestrator", get_if_exists=True, lifetime="detached", num_cpus=0
    ).remote()


def collect() -> list[Sample]:
    """Return the values of all processes of the session, from any of them; see the module's text."""
    get(_values.report())
    return get(_collector().collect.remote())  # type: ignore[no-any-return]


def prometheus_text() -> str:
    """Return all values in Prometheus' text format.

    Raises:
        ImportError: prometheus-client is not installed.
    """
    from prometheus_client import generate_latest

    return generate_latest(_registry()).decode()  # type: ignore[no-any-return]


def serve_prometheus(port: int = 0, address: str = "127.0.0.1") -> Any:
    """Serve all values to Prometheus over HTTP; nothing is served unless this is called.

    Returns:
        the server: `server.server_port` is its port, `server.shutdown()` ends it.

    Raises:
        ImportError: prometheus-client is not installed.
        OSError: the port is taken.
    """
    from prometheus_client import start_http_server

    server, _ = start_http_server(port, address, registry=_registry())
    return server


def _registry() -> Any:
    from prometheus_client import CollectorRegistry

    class Collected:
        def collect(self) -> Iterator[Any]:
            if is_initialized():
                yield from _families(collect())

    registry = CollectorRegistry()
    registry.register(Collected())  # type: ignore[arg-type]
    return registry


def _families(samples: list[Sample]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    for sample in sorted(samples, key=lambda one: (one.name, sorted(one.tags.items()))):
        labels, values = list(sample.tags), list(sample.tags.values())
        description = sample.description or sample.name
        if sample.kind == "counter":
            counter = CounterMetricFamily(sample.name, description, labels=labels)
            counter.add_metric(values, sample.value)
            yield counter
        elif sample.kind == "gauge":
            gauge = GaugeMetricFamily(sample.name, description, labels=[*labels, "pid"])
            gauge.add_metric([*values, str(sample.pid)], sample.value)
            yield gauge
        else:
            histogram = HistogramMetricFamily(sample.name, description, labels=labels)
            buckets = [
                ("+Inf" if bound == float("inf") else str(bound), count) for bound, count in sample.buckets
            ]
            histogram.add_metric(values, buckets, sum_value=sample.value)
            yield histogram

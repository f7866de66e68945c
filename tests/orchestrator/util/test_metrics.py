"""Counters, gauges and histograms: counted in every process, read in one."""

from __future__ import annotations

import os
import pickle
import urllib.request

import pytest

import orchestrator as ray
from orchestrator.util import metrics
from orchestrator.util.metrics import Counter, Gauge, Histogram
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")


def values(name):
    return {tuple(sample.tags.values()): sample.value for sample in metrics.collect() if sample.name == name}


def wait_for(name, expected):
    """Other processes report a fraction of a second later."""
    return until(lambda: (found := values(name)) == expected and found)


class TestCounter:
    def test_it_adds_up_over_processes(self):
        @ray.remote
        def serve(route):
            Counter("requests", tag_keys=("route",)).inc(tags={"route": route})

        ray.get([serve.remote(route) for route in ["/", "/", "/about"]])
        Counter("requests", tag_keys=("route",)).inc(2, tags={"route": "/"})
        wait_for("requests", {("/",): 4.0, ("/about",): 1.0})

    def test_it_only_grows(self):
        with pytest.raises(ValueError, match="only grows"):
            Counter("requests").inc(0)
        with pytest.raises(TypeError, match="number, not str"):
            Counter("requests").inc("1")

    def test_it_can_be_sent_to_tasks(self):
        @ray.remote
        def count(counter):
            counter.inc(3)

        counter = Counter("sent", tag_keys=("who",)).set_default_tags({"who": "me"})
        ray.get(count.remote(counter))
        wait_for("sent", {("me",): 3.0})
        assert pickle.loads(pickle.dumps(counter)).info == counter.info


class TestGauge:
    def test_each_process_has_its_own_value(self):
        @ray.remote
        def measure():
            Gauge("temperature").set(30)
            return os.getpid()

        Gauge("temperature").set(19)
        Gauge("temperature").set(20.5)
        Gauge("temperature").set(None)
        pid = ray.get(measure.remote())

        def both():
            found = [one for one in metrics.collect() if one.name == "temperature"]
            return found if len(found) == 2 else None

        found = until(both)
        assert {one.pid: one.value for one in found} == {os.getpid(): 20.5, pid: 30.0}


class TestHistogram:
    def test_it_counts_in_buckets(self):
        latency = Histogram("latency", "of requests", boundaries=[0.1, 1, 10])
        for value in (0.05, 0.1, 5, 100):
            latency.observe(value)
        (sample,) = (one for one in metrics.collect() if one.name == "latency")
        assert sample.buckets == ((0.1, 2), (1.0, 2), (10.0, 3), (float("inf"), 4))
        assert sample.value == pytest.approx(105.15)
        assert latency.info["boundaries"] == [0.1, 1.0, 10.0]

    @pytest.mark.parametrize("boundaries", [None, [], [0, 1], [2, 1]])
    def test_boundaries_ascend_from_above_zero(self, boundaries):
        with pytest.raises(ValueError, match="boundaries"):
            Histogram("latency", boundaries=boundaries)


class TestTagsAndNames:
    def test_tags_are_checked(self):
        counter = Counter("tagged", tag_keys=("a", "b"))
        with pytest.raises(ValueError, match="needs a value for tag b"):
            counter.inc(tags={"a": "1"})
        with pytest.raises(ValueError, match="'c' is not a tag of tagged; it has: a, b"):
            counter.inc(tags={"c": "1"})
        with pytest.raises(TypeError, match="tag 'a' must be a str, not int"):
            counter.set_default_tags({"a": 1})
        counter.set_default_tags({"a": "1"}).inc(tags={"b": "2"})
        assert values("tagged") == {("1", "2"): 1.0}

    def test_of_a_name_that_is_none_nothing_is_kept(self):
        with pytest.warns(UserWarning, match="not a valid name"):
            Counter("no-such-name").inc()
        assert values("no-such-name") == {}

    def test_names_and_keys_are_checked(self):
        with pytest.raises(ValueError, match="needs a name"):
            Counter("")
        with pytest.raises(TypeError, match="str, not int"):
            Counter(3)
        with pytest.raises(TypeError, match="tag_keys"):
            Counter("a", tag_keys="abc")

    def test_one_name_is_one_metric(self):
        Counter("twice").inc()
        with pytest.raises(ValueError, match="another metric 'twice'"):
            Gauge("twice").set(3)


class TestPrometheus:
    @pytest.fixture(autouse=True)
    def client(self):
        pytest.importorskip("prometheus_client")

    def test_the_text(self):
        Counter("served", "requests served", tag_keys=("route",)).inc(tags={"route": "/"})
        Gauge("depth").set(3)
        Histogram("seconds", boundaries=[1]).observe(0.5)
        text = metrics.prometheus_text()
        assert 'served_total{route="/"} 1.0' in text
        assert "# HELP served_total requests served" in text
        assert f'depth{{pid="{os.getpid()}"}} 3.0' in text
        assert 'seconds_bucket{le="1.0"} 1.0' in text
        assert "seconds_sum 0.5" in text

    def test_over_http_once_it_is_asked_for(self):
        Gauge("depth").set(3)
        server = metrics.serve_prometheus()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
                assert b"depth{" in answer.read()
        finally:
            server.shutdown()
            server.server_close()

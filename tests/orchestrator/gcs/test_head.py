"""What the death of a node, or the end of a job, means to all tables at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import messages, requests
from orchestrator.gcs.effects import Close, Effect, Reply, Send, Write
from orchestrator.gcs.head import Head
from orchestrator.gcs.messages import NodeView
from orchestrator.gcs.nodes import HealthPolicy
from orchestrator.gcs.placement_groups import NoRoom, Wish
from orchestrator.gcs.requests import Call, Done, Refused

ONE = ResourceSet.from_floats({"CPU": 1})


def first_nodes(
    wish: Wish, nodes: Sequence[NodeView], promised: Mapping[int, ResourceSet]
) -> list[int] | NoRoom:
    free = [node.node for node in nodes if node.node not in wish.occupied]
    return free[: len(wish.bundles)] if len(free) >= len(wish.bundles) else NoRoom("too few nodes")


class Driver:
    """A head and what it has said, stored at once."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, bytes]] = {}
        self.now_s = 0.0
        self.sent: list[tuple[int, Any]] = []
        self.closed: list[int] = []
        self.answers: dict[tuple[int, int], Any] = {}
        self.numbers: dict[int, int] = {}
        self.epoch = 0
        self.begin()

    def begin(self) -> None:
        self.epoch += 1
        self.head = Head(
            self.rows, cluster_id="c", epoch=self.epoch, now_s=self.now_s, choose=first_nodes,
            policy=HealthPolicy(2.0, 10.0, 5.0, 30.0),
        )  # fmt: skip
        self.do(self.head.begin())

    def do(self, effects: list[Effect]) -> None:
        self.head.validate()
        for effect in effects:
            match effect:
                case Write(table, key, None):
                    self.rows.get(table, {}).pop(key, None)
                case Write(table, key, value):
                    self.rows.setdefault(table, {})[key] = value
                case Send(session, event):
                    self.sent.append((session, event))
                case Close(session):
                    self.closed.append(session)
                case Reply(node, number, answer):
                    self.answers[node, number] = answer

    def register(
        self, session: int, number: int, *, is_head: bool = False, node: int = 0, cluster: str = ""
    ) -> None:
        spec = messages.NodeSpec(f"{number:016x}", "h", {}, ONE, {}, is_head)
        self.do(self.head.register(session, messages.Register(spec, node, cluster), self.now_s, self.now_s))

    def ask(self, node: int, request: requests.Request) -> Any:
        number = self.numbers[node] = self.numbers.get(node, 0) + 1
        self.do(self.head.call(Call(node, number, number, request), self.now_s))
        return self.answers[node, number]

    def tick(self, seconds: float = 0.1) -> None:
        self.now_s += seconds
        self.do(self.head.tick(self.now_s, self.now_s))

    def events(self, session: int, kind: type) -> list[Any]:
        return [event for to, event in self.sent if to == session and isinstance(event, kind)]


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    driver.register(1, 1, is_head=True)
    driver.register(2, 2)
    yield driver
    driver.head.validate()


def test_the_death_of_a_driver_s_node_ends_all_that_was_its_own(driver: Driver) -> None:
    driver.ask(2, requests.StartJob("j", "ns"))
    assert driver.ask(2, requests.ClaimName(requests.Name("actor", "", "a", "i", 2, b"", "j"))) == Done()
    assert driver.ask(1, requests.ClaimName(requests.Name("object", "", "o", "i", 1, b"", "j"))) == Done()
    assert (
        driver.ask(2, requests.CreateGroup(requests.GroupSpec("g", "mine", "", "PACK", (ONE,), "j")))
        == Done()
    )
    driver.ask(2, requests.ClaimName(requests.Name("actor", "", "d", "d", 2, b"", "j", True)))
    driver.tick()
    assert driver.ask(1, requests.DeclareDead(2, "its power is off")) == Done(1)
    assert driver.events(2, messages.MustLeave) and 2 in driver.closed
    assert [event.job for event in driver.events(1, messages.EndJob)] == ["j"]
    assert driver.events(1, messages.ReleaseBundles)
    for kind, name in (("actor", "a"), ("object", "o"), ("group", "mine")):
        assert driver.ask(1, requests.FindName(kind, "", name)).code == "unknown"
    assert driver.ask(1, requests.FindName("actor", "", "d")).home == 2, "a name that is detached stays"
    assert driver.events(1, messages.View)[-1].nodes[0].state == "DEAD"
    assert driver.ask(2, requests.ListJobs()).code == "dead"
    driver.ask(1, requests.JobEnded("j"))
    assert driver.ask(1, requests.ListJobs()).jobs[0].state == "ENDED"


def test_nothing_new_for_a_job_that_has_ended(driver: Driver) -> None:
    driver.ask(1, requests.StartJob("j", "ns"))
    driver.ask(1, requests.FinishJob("j", "done"))
    late = requests.Name("actor", "", "a", "i", 1, b"", "j")
    assert driver.ask(1, requests.ClaimName(late)).code == "invalid"
    assert driver.ask(1, requests.ClaimName(late._replace(detached=True))) == Done()
    assert driver.ask(1, requests.ClaimName(late._replace(job="", name="b", home=9))).code == "invalid"
    group = requests.GroupSpec("g", "", "", "PACK", (ONE,), "j")
    assert driver.ask(1, requests.CreateGroup(group)).code == "invalid"


def test_a_group_that_is_refused_keeps_no_name(driver: Driver) -> None:
    bad = requests.GroupSpec("g", "mine", "", "PACK", ())
    assert driver.ask(1, requests.CreateGroup(bad)).code == "invalid"
    good = bad._replace(bundles=(ONE,))
    assert driver.ask(1, requests.CreateGroup(good)) == Done()
    taken = driver.ask(2, requests.CreateGroup(good._replace(group="h")))
    assert taken.code == "taken" and "taken by g" in taken.text


def test_a_request_that_comes_twice_takes_effect_once_also_over_a_restart(driver: Driver) -> None:
    put = Call(1, 1, 1, requests.PutValue("", b"k", b"v", overwrite=False))
    driver.do(driver.head.call(put, 0.0))
    assert driver.answers.pop((1, 1)) == Done(1)
    driver.do(driver.head.call(put, 0.0))
    assert driver.answers.pop((1, 1)) == Done(1)
    driver.begin()
    driver.do(driver.head.call(put, 0.0))
    assert driver.answers.pop((1, 1)) == Done(1)
    # Once it has been confirmed, a straggler of the network gets nothing.
    driver.do(driver.head.call(Call(1, 2, 2, requests.ListJobs()), 0.0))
    driver.do(driver.head.call(put, 0.0))
    assert (1, 1) not in driver.answers and list(driver.rows["answered"]) == ["1/below"]
    # Nor does it from a head that is started after that, and has never had the answer.
    driver.begin()
    driver.do(driver.head.call(put, 0.0))
    assert (1, 1) not in driver.answers


def test_a_new_session_of_a_node_ends_the_old_one(driver: Driver) -> None:
    driver.register(3, 2, node=2)
    assert 2 in driver.closed and driver.events(3, messages.Registered)[0].node == 2
    # That the old one broke, too, is no news.
    driver.do(driver.head.disconnected(2, 0.0))
    driver.tick()
    record = driver.head.nodes.get(2)
    assert record is not None and record.state.value == "ALIVE"


def test_a_node_of_another_cluster_must_leave(driver: Driver) -> None:
    driver.register(3, 3, node=7, cluster="other")
    assert "belongs to cluster other" in driver.events(3, messages.MustLeave)[0].reason and 3 in driver.closed


def test_a_restarted_head_is_the_same_cluster(driver: Driver) -> None:
    driver.ask(1, requests.ClaimName(requests.Name("actor", "", "a", "i", 1)))
    driver.begin()
    assert driver.head.cluster_id == "c"
    driver.register(5, 2, node=2, cluster="c")
    registered = driver.events(5, messages.Registered)[0]
    assert (registered.node, registered.head_index) == (2, 1)
    (view,) = driver.events(5, messages.View)
    assert view.snapshot and {n.node: n.state for n in view.nodes} == {1: "SUSPECT", 2: "ALIVE"}
    assert driver.ask(2, requests.FindName("actor", "", "a")).id == "i"


def test_draining(driver: Driver) -> None:
    assert driver.ask(1, requests.RequestDrain(2, "it costs too much", 60.0)) == Done()
    assert driver.events(2, messages.DrainNode) == [messages.DrainNode("it costs too much", 60.0)]
    driver.ask(1, requests.CreateGroup(requests.GroupSpec("g", "", "", "STRICT_SPREAD", (ONE, ONE))))
    driver.tick()
    assert not driver.events(1, messages.PrepareBundles), "nothing new for a node that drains"
    driver.do(driver.head.leaving(2, messages.Leaving("drained"), 0.0))
    (node,) = driver.ask(1, requests.ListNodes()).nodes
    assert node.node == 1
    assert [n.cause for n in driver.ask(1, requests.ListNodes(dead_too=True)).nodes if n.node == 2] == [
        "it left: drained"
    ]


def test_who_never_registered_is_told_so(driver: Driver) -> None:
    answer = driver.ask(77, requests.ListJobs())
    assert isinstance(answer, Refused) and answer.code == "dead" and "never registered" in answer.text

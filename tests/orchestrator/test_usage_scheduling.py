"""Where things run and on what: resources, devices, labels, nodes, priorities."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import orchestrator as ray
from orchestrator.exceptions import ActorUnschedulableError, InfeasibleError, TaskUnschedulableError
from orchestrator.util.scheduling_strategies import NodeAffinitySchedulingStrategy

GIB = 1 << 30


@pytest.fixture(scope="module")
def machine() -> Iterator[None]:
    ray.init(
        num_cpus=2,
        num_gpus=2,
        resources={"disk": 1, "accelerator_type:A100": 1},
        labels={"tier": "gold", "disk": "ssd"},
        object_store_memory=256 << 20,
    )
    yield
    ray.shutdown()


@ray.remote
def where() -> str:
    return ray.get_runtime_context().get_node_id()


@ray.remote
class Counter:
    def ping(self) -> str:
        return "pong"


class TestResources:
    def test_quantities_are_exact_to_a_ten_thousandth(self, machine: None) -> None:
        @ray.remote(num_cpus=0, resources={"disk": 0.1})
        class Tenth:
            def ping(self) -> str:
                return "pong"

        tenths = [Tenth.remote() for _ in range(10)]
        assert ray.get([tenth.ping.remote() for tenth in tenths]) == ["pong"] * 10
        assert "disk" not in ray.available_resources()
        one_more = Tenth.remote().ping.remote()
        assert ray.wait([one_more], timeout=0.05)[0] == []
        ray.kill(tenths[0])
        assert ray.get(one_more, timeout=10) == "pong"
        for tenth in tenths[1:]:
            ray.kill(tenth)

    def test_finer_quantities_are_refused(self, machine: None) -> None:
        with pytest.raises(ValueError, match="finer than 1/10000"):
            where.options(num_cpus=0.00001)

    def test_what_can_never_be_is_an_error_with_an_explanation(self, machine: None) -> None:
        with pytest.raises(InfeasibleError, match=r"where can never run: it needs .*CPU: 3.*has .*CPU: 2"):
            ray.get(where.options(num_cpus=3).remote(), timeout=10)
        with pytest.raises(InfeasibleError, match=r"can never be placed: it needs .*nothing: 1"):
            ray.get(Counter.options(resources={"nothing": 1}).remote().ping.remote(), timeout=10)

    def test_memory_is_a_resource_like_others(self, machine: None) -> None:
        total = ray.cluster_resources()["memory"]
        assert total > 0

        @ray.remote(memory=total // 2 + 1, num_cpus=0)
        class Half:
            def ping(self) -> str:
                return "pong"

        first, second = Half.remote(), Half.remote()
        assert ray.get(first.ping.remote()) == "pong"
        waiting = second.ping.remote()
        assert ray.wait([waiting], timeout=0.05)[0] == []
        ray.kill(first)
        assert ray.get(waiting, timeout=10) == "pong"
        ray.kill(second)
        with pytest.raises(InfeasibleError, match="memory"):
            ray.get(where.options(memory=total * 2).remote(), timeout=10)

    def test_the_size_of_the_object_store_is_said(self, machine: None) -> None:
        assert ray.cluster_resources()["object_store_memory"] == 256 << 20
        assert ray.available_resources()["object_store_memory"] == 256 << 20

    def test_every_node_has_resources_of_its_own_names(self, machine: None) -> None:
        here = f"node:{ray.get_runtime_context().get_node_id()}"
        assert ray.cluster_resources()[here] == ray.cluster_resources()["node:__internal_head__"] == 1.0
        assert ray.get(where.options(resources={here: 0.001}).remote())
        assert ray.get(where.options(resources={"node:__internal_head__": 0.001}).remote())


@ray.remote(num_cpus=0)
class GpuHolder:
    def __init__(self) -> None:
        self.seen = os.environ["CUDA_VISIBLE_DEVICES"]

    def gpus(self) -> tuple[str, list[Any], list[str]]:
        return self.seen, list(ray.get_gpu_ids()), ray.get_runtime_context().get_accelerator_ids()["GPU"]


class TestDevices:
    def test_a_task_sees_the_devices_it_was_given_and_no_others(self, machine: None) -> None:
        @ray.remote(num_gpus=1)
        def gpu() -> tuple[str, list[Any]]:
            return os.environ["CUDA_VISIBLE_DEVICES"], list(ray.get_gpu_ids())

        seen, ids = ray.get(gpu.remote())
        assert seen == str(ids[0]) and ids[0] in (0, 1)
        assert sorted(ray.get(gpu.options(num_gpus=2).remote())[1]) == [0, 1]

    def test_without_gpus_none_is_visible(self, machine: None) -> None:
        @ray.remote
        def visible() -> tuple[str | None, list[Any]]:
            return os.environ.get("CUDA_VISIBLE_DEVICES"), list(ray.get_gpu_ids())

        assert ray.get(visible.remote()) == ("", [])
        assert os.environ.get("CUDA_VISIBLE_DEVICES") is None, "the driver's own are left alone"

    def test_a_worker_that_is_used_again_sees_none_again(self, machine: None) -> None:
        @ray.remote(num_cpus=2)
        def seen() -> str:
            return os.environ["CUDA_VISIBLE_DEVICES"]

        assert ray.get(seen.options(num_gpus=1, max_calls=0).remote()) in ("0", "1")
        assert ray.get(seen.remote()) == ""

    def test_actors_get_different_devices_before_their_constructor_runs(self, machine: None) -> None:
        holders = [GpuHolder.options(num_gpus=1).remote() for _ in range(2)]
        answers = ray.get([holder.gpus.remote() for holder in holders])
        assert sorted(answers) == [("0", [0], ["0"]), ("1", [1], ["1"])]
        for holder in holders:
            ray.kill(holder)

    def test_fractions_share_a_device_and_leave_whole_ones_whole(self, machine: None) -> None:
        thirds = [GpuHolder.options(num_gpus=0.3).remote() for _ in range(3)]
        shared = {ray.get(third.gpus.remote())[0] for third in thirds}
        assert len(shared) == 1
        whole = GpuHolder.options(num_gpus=1).remote()
        assert {ray.get(whole.gpus.remote())[0]} | shared == {"0", "1"}
        another = GpuHolder.options(num_gpus=0.3).remote()
        waiting = another.gpus.remote()
        assert ray.wait([waiting], timeout=0.05)[0] == [], "what is left is on no single device"
        for holder in [*thirds, whole]:
            ray.kill(holder)
        assert ray.get(waiting, timeout=10)
        ray.kill(another)

    def test_a_type_of_accelerator(self, machine: None) -> None:
        assert ray.get(where.options(accelerator_type="A100").remote())
        with pytest.raises(InfeasibleError, match="accelerator_type:H100"):
            ray.get(where.options(accelerator_type="H100").remote(), timeout=10)


class TestNodes:
    def test_on_a_node_by_its_id(self, machine: None) -> None:
        here = ray.get_runtime_context().get_node_id()
        on = NodeAffinitySchedulingStrategy(here, soft=False)
        assert ray.get(where.options(scheduling_strategy=on).remote()) == here

    def test_a_node_that_is_not_there(self, machine: None) -> None:
        hard = NodeAffinitySchedulingStrategy("ab" * 8, soft=False)
        soft = NodeAffinitySchedulingStrategy("ab" * 8, soft=True)
        with pytest.raises(TaskUnschedulableError, match="node abababababababab is not in this session"):
            ray.get(where.options(scheduling_strategy=hard).remote(), timeout=10)
        with pytest.raises(ActorUnschedulableError, match="is not in this session"):
            ray.get(Counter.options(scheduling_strategy=hard).remote().ping.remote(), timeout=10)
        assert ray.get(where.options(scheduling_strategy=soft).remote())

    @pytest.mark.parametrize("strategy", ["DEFAULT", "SPREAD", None])
    def test_strategies_that_one_node_always_meets(self, machine: None, strategy: str | None) -> None:
        assert ray.get(where.options(scheduling_strategy=strategy).remote())

    def test_bad_strategies(self, machine: None) -> None:
        with pytest.raises(ValueError, match="'DEFAULT' or 'SPREAD'"):
            where.options(scheduling_strategy="spread")
        with pytest.raises(TypeError, match="NodeAffinitySchedulingStrategy, not 3"):
            where.options(scheduling_strategy=3)
        with pytest.raises(ValueError, match="id of a node, 16 hexadecimal"):
            NodeAffinitySchedulingStrategy("node 7", soft=False)
        with pytest.raises(ValueError, match="id of a node, 16 hexadecimal"):
            NodeAffinitySchedulingStrategy("abc", soft=True)
        with pytest.raises(TypeError, match="soft must be a bool"):
            NodeAffinitySchedulingStrategy("ab" * 8, soft=1)  # type: ignore[arg-type]


class TestLabels:
    @pytest.mark.parametrize(
        "selector",
        [
            {"tier": "gold"},
            {"tier": "!silver", "disk": "ssd"},
            {"tier": "in(gold,silver)"},
            {"tier": "!in(bronze,silver)", "absent": "!anything"},
        ],
    )
    def test_a_selector_that_the_node_meets(self, machine: None, selector: dict[str, str]) -> None:
        assert ray.get(where.options(label_selector=selector).remote())

    @pytest.mark.parametrize(
        "selector", [{"tier": "silver"}, {"tier": "!gold"}, {"absent": "in(a,b)"}, {"tier": "!in(gold)"}]
    )
    def test_one_that_it_does_not_meet(self, machine: None, selector: dict[str, str]) -> None:
        with pytest.raises(TaskUnschedulableError, match=r"no node has labels that match .*'tier': 'gold'"):
            ray.get(where.options(label_selector=selector).remote(), timeout=10)

    def test_fallbacks_are_tried_in_turn(self, machine: None) -> None:
        silver, gold = {"label_selector": {"tier": "silver"}}, {"label_selector": {"tier": "gold"}}
        assert ray.get(where.options(**silver, fallback_strategy=[silver, gold]).remote())
        with pytest.raises(TaskUnschedulableError, match="silver'} or"):
            ray.get(where.options(**silver, fallback_strategy=[silver]).remote(), timeout=10)

    def test_a_label_of_the_node_itself(self, machine: None) -> None:
        here = ray.get_runtime_context().get_node_id()
        assert ray.get(where.options(label_selector={"ray.io/node-id": here}).remote()) == here

    @pytest.mark.parametrize(
        ("selector", "error"),
        [
            ({"tier": "in()"}, ValueError),
            ({"tier": "!!a"}, ValueError),
            ({"a b": "c"}, ValueError),
            (3, TypeError),
        ],
    )
    def test_bad_selectors(self, machine: None, selector: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="label_selector"):
            where.options(label_selector=selector)


class TestPriority:
    def test_children_inherit_it(self, machine: None) -> None:
        @ray.remote
        def priority_of_child() -> int:
            return int(ray.get(priority_here.remote()))

        assert ray.get(priority_of_child.options(priority=3).remote()) == 3
        assert ray.get(priority_of_child.remote()) == 0

    def test_it_is_a_whole_number(self, machine: None) -> None:
        with pytest.raises(TypeError, match="priority must be an int"):
            where.options(priority=1.5)
        with pytest.raises(ValueError, match="32 bits"):
            where.options(priority=2**40)


@ray.remote
def priority_here() -> int:
    from orchestrator.core.current import require

    return require().contexts.current.priority

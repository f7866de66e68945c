from __future__ import annotations

from collections import Counter
from random import Random

from orchestrator.common.scheduling_class import OnNode, SchedulingClass, Spread, WithLabels
from orchestrator.scheduling.cluster.policies import NodeChooser
from orchestrator.scheduling.cluster.view import ClusterView
from tests.orchestrator.scheduling.cluster.nodes import amounts, report, view_of

ONE = SchedulingClass(amounts(CPU=1))
SPREAD = SchedulingClass(amounts(CPU=1), placement=Spread())


def chooser(view: ClusterView, local: int | None = 1, seed: int = 0) -> NodeChooser:
    return NodeChooser(view, local, Random(seed))


class TestHybrid:
    def test_the_own_node_is_filled_up_to_half_then_others_then_the_least_used(self) -> None:
        view = view_of(*[{"CPU": 4}] * 3)
        choose = chooser(view)
        order = [next(iter(choose.place(ONE, 1))) for _ in range(12)]
        assert order[:2] == [1, 1] and order[2] == order[3] and order[4] == order[5]
        assert Counter(order) == {1: 4, 2: 4, 3: 4}
        assert set(order[6:9]) == {1, 2, 3}
        assert choose.place(ONE, 1) == {}

    def test_many_at_once_come_to_the_same_as_one_by_one(self) -> None:
        single, batched = view_of(*[{"CPU": 8}] * 5), view_of(*[{"CPU": 8}] * 5)
        one_by_one: Counter[int] = Counter()
        choose = chooser(single)
        for _ in range(23):
            one_by_one.update(choose.place(ONE, 1))
        at_once = chooser(batched).place(ONE, 23)
        assert sorted(at_once.values()) == sorted(one_by_one.values())

    def test_nodes_with_accelerators_come_last_for_those_who_need_none(self) -> None:
        view = view_of({"CPU": 8, "GPU": 1}, {"CPU": 4}, {"CPU": 4})
        choose = chooser(view, local=None)
        assert choose.place(ONE, 8) == {2: 4, 3: 4}
        assert choose.place(ONE, 2) == {1: 2}
        assert choose.place(SchedulingClass(amounts(CPU=1, GPU=1)), 2) == {1: 1}

    def test_a_draining_node_gets_nothing(self) -> None:
        view = view_of({"CPU": 4}, {"CPU": 4})
        view.report(report(2, {"CPU": 4}, version=2, draining=True))
        assert chooser(view).place(ONE, 8) == {1: 4}

    def test_room_that_appears_is_found(self) -> None:
        view = view_of({"CPU": 1}, {"CPU": 1})
        choose = chooser(view)
        assert choose.place(ONE, 5) == {1: 1, 2: 1}
        assert choose.place(ONE, 1) == {}
        view.promise(2, amounts(CPU=1), -1)
        assert choose.place(ONE, 1) == {2: 1}
        view.report(report(3, {"CPU": 2}))
        assert choose.place(ONE, 3) == {3: 2}

    def test_deciders_do_not_all_begin_with_the_same_node(self) -> None:
        views = [view_of(*[{"CPU": 4}] * 100) for _ in range(30)]
        first = {next(iter(chooser(v, None, seed).place(ONE, 1))) for seed, v in enumerate(views)}
        assert len(first) > 10 and max(first) <= 20

    def test_who_needs_nothing_stays_at_home(self) -> None:
        nothing = SchedulingClass(amounts())
        assert chooser(view_of({"CPU": 1}, {"CPU": 1}), 2).place(nothing, 100) == {2: 100}

    def test_large_clusters_are_filled_completely(self) -> None:
        view = view_of(*[{"CPU": 2}] * 1000)
        choose = chooser(view)
        total: Counter[int] = Counter()
        while placed := choose.place(ONE, 7):
            total.update(placed)
        assert len(total) == 1000 and set(total.values()) == {2}


class TestLocality:
    def test_the_node_with_the_bytes_first(self) -> None:
        view = view_of(*[{"CPU": 2}] * 4)
        assert chooser(view).place(ONE, 3, near=3) == {3: 2, 1: 1}

    def test_a_node_that_is_gone_or_full(self) -> None:
        view = view_of({"CPU": 1}, {"CPU": 1})
        assert chooser(view).place(ONE, 1, near=9) == {1: 1}
        assert chooser(view).place(ONE, 1, near=1) == {2: 1}

    def test_another_strategy_comes_before(self) -> None:
        view = view_of(*[{"CPU": 4}] * 3)
        assert chooser(view).place(SPREAD, 3, near=3) == {1: 1, 2: 1, 3: 1}

    def test_what_waits_waits_there(self) -> None:
        view = view_of(*[{"CPU": 2}] * 4)
        places = chooser(view).waiting_places(ONE, 5, 4, near=3)
        assert list(places)[:2] == [3, 1] and list(places.values()) == [2, 2, 1]
        assert next(iter(chooser(view).waiting_places(ONE, 5, 4, near=9))) == 1


class TestSpread:
    def test_three_nodes_get_the_same(self) -> None:
        view = view_of(*[{"CPU": 200}] * 3)
        choose = chooser(view)
        total: Counter[int] = Counter()
        for _ in range(300):
            total.update(choose.place(SPREAD, 1))
        assert total == {1: 100, 2: 100, 3: 100}

    def test_classes_share_the_turns(self) -> None:
        view = view_of(*[{"CPU": 8}] * 4)
        choose = chooser(view)
        kinds = [SchedulingClass(amounts(CPU=1 + n / 10), placement=Spread()) for n in range(4)]
        assert [choose.place(kind, 1) for kind in kinds] == [{1: 1}, {2: 1}, {3: 1}, {4: 1}]

    def test_full_nodes_are_passed_over(self) -> None:
        view = view_of({"CPU": 1}, {"CPU": 3}, {"CPU": 1}, {"CPU": 2})
        choose = chooser(view)
        assert choose.place(SPREAD, 10) == {1: 1, 2: 3, 3: 1, 4: 2}
        view.promise(3, amounts(CPU=1), -1)
        assert choose.place(SPREAD, 10) == {3: 1}

    def test_a_large_cluster_in_turn(self) -> None:
        view = view_of(*[{"CPU": 3}] * 700)
        choose = chooser(view)
        total: Counter[int] = Counter()
        for _ in range(1400):
            total.update(choose.place(SPREAD, 1))
        assert set(total.values()) == {2}
        assert sum(choose.place(SPREAD, 10_000).values()) == 700


class TestPlaces:
    def test_one_node(self) -> None:
        view = view_of({"CPU": 1}, {"CPU": 2})
        hard = SchedulingClass(amounts(CPU=1), placement=OnNode(f"{2:016x}"))
        assert chooser(view).place(hard, 5) == {2: 2}

    def test_one_node_if_possible(self) -> None:
        view = view_of({"CPU": 1}, {"CPU": 2})
        choose = chooser(view)
        soft = SchedulingClass(amounts(CPU=1), placement=OnNode(f"{1:016x}", soft=True))
        assert choose.place(soft, 5) == {1: 1}
        assert choose.waiting_places(soft, 5, 9) == {1: 1}  # busy is no reason to go elsewhere
        view.remove(1)
        assert choose.place(soft, 5) == {2: 2}
        too_much = SchedulingClass(amounts(CPU=2), placement=OnNode(f"{3:016x}", soft=True))
        view.report(report(3, {"CPU": 1}))
        view.report(report(2, {"CPU": 2}, version=2))
        view.promise(2, amounts(CPU=1), -2)
        assert choose.place(too_much, 5) == {2: 1}

    def test_labels_with_a_fallback(self) -> None:
        view = ClusterView()
        view.report(report(1, {"CPU": 4}, labels={"zone": "a"}))
        view.report(report(2, {"CPU": 4}, labels={"zone": "b"}))
        first_b = WithLabels(((("zone", "b"),), (("zone", "a"),)))
        choose = chooser(view)
        assert choose.place(SchedulingClass(amounts(CPU=1), placement=first_b), 6) == {2: 4}
        view.remove(2)
        assert choose.place(SchedulingClass(amounts(CPU=1), placement=first_b), 6) == {1: 4}

    def test_where_to_wait(self) -> None:
        view = view_of({"CPU": 2}, {"CPU": 4}, {"CPU": 1})
        choose = chooser(view)
        choose.place(ONE, 7)
        places = choose.waiting_places(ONE, 5, 9)
        assert next(iter(places)) == 1 and places[1] == 2 and sum(places.values()) == 5
        assert choose.waiting_places(SchedulingClass(amounts(CPU=3)), 5, 9) == {2: 1}
        assert choose.waiting_places(SchedulingClass(amounts(CPU=30)), 5, 9) == {}

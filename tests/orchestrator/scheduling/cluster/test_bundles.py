from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.cluster.bundles import STRATEGIES, Refusal, choose
from orchestrator.scheduling.cluster.view import ClusterView
from tests.orchestrator.scheduling.cluster.nodes import amounts, report, view_of

ONE = amounts(CPU=1)


class TestPack:
    def test_one_node_if_there_is_one(self) -> None:
        assert choose([ONE] * 4, "PACK", view_of({"CPU": 2}, {"CPU": 8}, {"CPU": 4})) == [3] * 4

    def test_few_nodes_otherwise(self) -> None:
        chosen = choose([ONE] * 5, "PACK", view_of({"CPU": 1}, {"CPU": 4}, {"CPU": 1}, {"CPU": 3}))
        assert Counter(chosen) == {2: 4, 1: 1} or Counter(chosen) == {2: 4, 3: 1}

    def test_large_bundles_find_their_place_first(self) -> None:
        bundles = [ONE, ONE, amounts(CPU=3), amounts(CPU=1, GPU=1)]
        assert choose(bundles, "PACK", view_of({"CPU": 1, "GPU": 1}, {"CPU": 5})) == [2, 2, 2, 1]

    def test_devices_are_left_to_those_who_need_them(self) -> None:
        assert choose([ONE], "PACK", view_of({"CPU": 1, "GPU": 8}, {"CPU": 16})) == [2]

    def test_a_repaired_group_goes_on_where_it_is(self) -> None:
        assert choose([ONE], "PACK", view_of(*[{"CPU": 2}] * 5), occupied=[4]) == [4]


class TestStrictPack:
    def test_all_on_one(self) -> None:
        assert choose([ONE] * 3, "STRICT_PACK", view_of({"CPU": 2}, {"CPU": 3})) == [2] * 3

    def test_not_now_and_never(self) -> None:
        view = view_of({"CPU": 2}, {"CPU": 3})
        view.promise(2, ONE, 1)
        assert choose([ONE] * 3, "STRICT_PACK", view) == Refusal(
            "its bundles need {CPU: 1}, {CPU: 1}, {CPU: 1} (STRICT_PACK), and there is no room for that now"
        )
        assert choose([ONE] * 4, "STRICT_PACK", view) == Refusal(
            "its bundles need {CPU: 4} on one node (STRICT_PACK), and none of 2 has that", never=True
        )


class TestSpread:
    def test_a_node_each_while_there_are_enough(self) -> None:
        view = view_of(*[{"CPU": 4}] * 3)
        assert sorted(choose([ONE] * 3, "SPREAD", view)) == [1, 2, 3]  # type: ignore[arg-type]
        assert sorted(Counter(choose([ONE] * 7, "SPREAD", view)).values()) == [2, 2, 3]

    def test_strict(self) -> None:
        view = view_of(*[{"CPU": 4}] * 3)
        assert sorted(choose([ONE] * 3, "STRICT_SPREAD", view)) == [1, 2, 3]  # type: ignore[arg-type]
        refused = choose([ONE] * 4, "STRICT_SPREAD", view)
        assert isinstance(refused, Refusal) and refused.never
        assert "4 bundles need a node each (STRICT_SPREAD), and the 3 nodes cannot" in refused.cause

    def test_a_repaired_group_avoids_the_nodes_that_it_has(self) -> None:
        view = view_of(*[{"CPU": 4}] * 3)
        assert choose([ONE], "STRICT_SPREAD", view, occupied=[1, 3]) == [2]
        assert isinstance(choose([ONE, ONE], "STRICT_SPREAD", view, occupied=[1, 3]), Refusal)

    def test_the_one_with_the_least_choice_gets_it(self) -> None:
        view = view_of({"CPU": 9, "GPU": 1}, {"CPU": 1})
        assert choose([ONE, amounts(GPU=1)], "STRICT_SPREAD", view) == [2, 1]


def test_labels_of_bundles() -> None:
    view = ClusterView()
    for number, zone in enumerate("aabb", 1):
        view.report(report(number, {"CPU": 2}, labels={"zone": zone}))
    selectors = [[("zone", "b")], [("zone", "a")]]
    first, second, _third = choose([ONE] * 3, "PACK", view, selectors)  # type: ignore[misc]
    assert first in (3, 4) and second in (1, 2)
    refused = choose([ONE] * 2, "STRICT_PACK", view, selectors)
    assert isinstance(refused, Refusal) and refused.never
    refused = choose([ONE], "PACK", view, [[("zone", "c")]])
    assert isinstance(refused, Refusal)
    assert refused.cause.startswith("its bundle 0 needs {CPU: 1}, and no node whose labels match has that")


def test_what_is_missing_is_said() -> None:
    refused = choose([ONE, amounts(CPU=1, GPU=4)], "PACK", view_of({"CPU": 4, "GPU": 2}, {"CPU": 8}))
    assert refused == Refusal(
        "its bundle 1 needs {CPU: 1, GPU: 4}, and no node has that; "
        "the most of each on any node: {CPU: 8, GPU: 2}",
        never=True,
    )


def test_nonsense() -> None:
    with pytest.raises(ValueError, match="at least one bundle"):
        choose([], "PACK", view_of({"CPU": 1}))
    with pytest.raises(ValueError, match="not 'PACKED'"):
        choose([ONE], "PACKED", view_of({"CPU": 1}))


def test_no_nodes_at_all() -> None:
    for strategy in STRATEGIES:
        refused = choose([ONE], strategy, ClusterView())
        assert isinstance(refused, Refusal) and refused.never


def is_valid(chosen: list[int], bundles: list[ResourceSet], view: ClusterView, strategy: str) -> bool:
    used: dict[int, ResourceSet] = {}
    for node, bundle in zip(chosen, bundles, strict=True):
        used[node] = used.get(node, ResourceSet()).add(bundle)
    fits = all(total.fits(view.free(node)) for node, total in used.items())
    distinct = strategy != "STRICT_SPREAD" or len(used) == len(bundles)
    return fits and distinct and (strategy != "STRICT_PACK" or len(used) == 1)


quantities = st.fixed_dictionaries({"CPU": st.integers(0, 3), "GPU": st.integers(0, 1)}).filter(
    lambda q: any(q.values())
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(quantities, min_size=1, max_size=4),
    st.lists(quantities, min_size=1, max_size=4),
    st.sampled_from(STRATEGIES),
)
def test_what_is_chosen_fits_and_strict_ones_are_found_if_there_are_any(
    nodes: list[dict[str, float]], wanted: list[dict[str, float]], strategy: str
) -> None:
    view, bundles = view_of(*nodes), [amounts(**one) for one in wanted]
    chosen = choose(bundles, strategy, view)
    if not isinstance(chosen, Refusal):
        assert is_valid(chosen, bundles, view, strategy)
        return
    if strategy == "STRICT_PACK":
        assert not any(
            is_valid([node] * len(bundles), bundles, view, strategy) for node in range(1, 5) if node in view
        )
    if strategy == "STRICT_SPREAD":
        everyone = range(1, len(nodes) + 1)
        assert not any(
            is_valid(list(some), bundles, view, strategy) for some in permutations(everyone, len(bundles))
        )

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.scheduling.cluster.view import ACCELERATED, ClusterView, NodeType
from tests.orchestrator.scheduling.cluster.nodes import amounts, report, view_of


def rows(view: ClusterView, mask: np.ndarray) -> list[int]:  # type: ignore[type-arg]
    return [view.index_at(row) for row in np.flatnonzero(mask).tolist()]


class TestReports:
    def test_a_report_is_the_whole_truth_and_an_older_one_changes_nothing(self) -> None:
        view = view_of({"CPU": 4})
        assert view.report(report(1, {"CPU": 4}, {"CPU": 1}, version=5))
        assert not view.report(report(1, {"CPU": 4}, version=4))
        assert view.free(1) == amounts(CPU=1)

    def test_what_was_promised_counts_until_it_is_settled(self) -> None:
        view = view_of({"CPU": 4})
        view.promise(1, amounts(CPU=1), 3)
        assert view.free(1) == amounts(CPU=1)
        view.report(report(1, {"CPU": 4}, version=2))
        assert view.free(1) == amounts(CPU=1)
        view.promise(1, amounts(CPU=1), -3)
        assert view.free(1) == amounts(CPU=4)

    def test_what_was_granted_counts_until_the_next_report(self) -> None:
        view = view_of({"CPU": 4})
        view.promise(1, amounts(CPU=1), 2)
        view.settle(1, amounts(CPU=1), 2)
        assert view.free(1) == amounts(CPU=2) and not view.promised(1)
        view.report(report(1, {"CPU": 4}, {"CPU": 3}, version=2))
        assert view.free(1) == amounts(CPU=3)

    def test_a_refusal_says_that_nothing_is_free_until_the_next_report(self) -> None:
        view = view_of({"CPU": 4, "disk": 1})
        view.exhaust(1, amounts(CPU=1.5))
        assert view.free(1) == amounts(CPU=1, disk=1)
        view.forgive(1)
        assert view.free(1) == amounts(CPU=4, disk=1)

    def test_a_row_is_used_again_and_remembers_nothing(self) -> None:
        view = view_of({"CPU": 4, "GPU": 1}, {"CPU": 1}, labels={"zone": "a"})
        view.remove(1)
        view.report(report(3, {"CPU": 2}))
        view.validate()
        assert view.row_of(3) == 0 and view.index_of(f"{1:016x}") is None
        assert rows(view, view.fitting(amounts(GPU=1), view.open_rows())) == []
        assert rows(view, view.matching([("zone", "a")], view.open_rows())) == [2]

    def test_a_kind_of_resource_nobody_has(self) -> None:
        view = view_of({"CPU": 4})
        assert rows(view, view.fitting(amounts(tape=1), view.open_rows())) == []
        assert view.room(0, amounts(tape=1)) == 0

    def test_a_draining_node_takes_nothing_new(self) -> None:
        view = view_of({"CPU": 4}, {"CPU": 4})
        view.report(report(2, {"CPU": 4}, version=2, draining=True))
        assert rows(view, view.open_rows()) == [1]

    def test_epochs_and_gains_say_when_an_answer_may_be_another(self) -> None:
        view = view_of({"CPU": 4})
        epoch, gains = view.epoch, view.gains
        view.promise(1, amounts(CPU=1), 1)
        assert (view.epoch, view.gains) == (epoch, gains)
        view.promise(1, amounts(CPU=1), -1)
        assert view.epoch == epoch and view.gains > gains
        view.potential = [NodeType("large", amounts(CPU=64))]
        assert view.epoch > epoch


class TestLevels:
    def test_a_node_is_as_full_as_its_most_used_resource(self) -> None:
        view = view_of({"CPU": 4, "memory": 100})
        assert view.level(0) == 0
        view.promise(1, amounts(memory=49), 1)
        assert view.level(0) == 0
        view.promise(1, amounts(memory=26), 1)
        assert view.level(0) == 501

    def test_nodes_with_accelerators_are_apart(self) -> None:
        view = view_of({"CPU": 4, "GPU": 1})
        assert view.level(0) == ACCELERATED


def test_labels() -> None:
    view = ClusterView()
    for number, zone in enumerate(["a", "b", None, "c"], 1):
        view.report(report(number, {"CPU": 1}, labels={} if zone is None else {"zone": zone}))
    found = {
        condition: rows(view, view.matching([("zone", condition)], view.open_rows()))
        for condition in ("a", "!a", "in(a,c)", "!in(a,c)", "x", "!x")
    }
    assert found == {
        "a": [1],
        "!a": [2, 3, 4],
        "in(a,c)": [1, 4],
        "!in(a,c)": [2, 3],
        "x": [],
        "!x": [1, 2, 3, 4],
    }
    assert rows(view, view.matching([("zone", "a"), ("rack", "1")], view.open_rows())) == []


def test_one_machine_never_imports_numpy_for_this() -> None:
    code = "import sys, orchestrator.node.daemon; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["report", "remove", "promise", "take back", "settle", "exhaust", "forgive"]),
            st.integers(1, 90),
            st.sampled_from([{"CPU": 1.0}, {"CPU": 0.5, "GPU": 1.0}, {"disk": 2.0}]),
        ),
        max_size=60,
    )
)
def test_the_columns_always_say_what_the_accounts_say(steps: list[tuple[str, int, dict[str, float]]]) -> None:
    view = ClusterView()
    for version, (what, number, quantities) in enumerate(steps, 1):
        resources = amounts(**quantities)
        if what == "report":
            view.report(report(number, {**quantities, "CPU": 8}, version=version, labels={"n": str(number)}))
        elif what == "remove":
            view.remove(number)
        elif number in view:
            if what == "promise":
                view.promise(number, resources, 2)
            elif what == "take back":
                view.promise(number, resources, -1)
            elif what == "settle":
                view.settle(number, resources, 1)
            elif what == "exhaust":
                view.exhaust(number, resources)
            else:
                view.forgive(number)
        view.validate()

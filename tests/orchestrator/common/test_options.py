"""Options are checked once, where they are given."""

from __future__ import annotations

import pytest

from orchestrator.common import options
from orchestrator.common.options import ACTOR, METHOD, STREAMING, TASK


def test_later_options_win_and_the_first_stay_as_they_are():
    first = options.merge(TASK, {}, {"num_cpus": 2, "max_retries": 1})
    second = options.merge(TASK, first, {"num_cpus": 4})
    assert (first["num_cpus"], second["num_cpus"], second["max_retries"]) == (2, 4, 1)


def test_an_unknown_option_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="'nmu_cpus' is not an option of a task") as caught:
        options.merge(TASK, {}, {"nmu_cpus": 1})
    assert "Did you mean 'num_cpus'?" in str(caught.value)
    assert all(name in str(caught.value) for name in options.valid_names(TASK))


@pytest.mark.parametrize(
    ("target", "name"), [(TASK, "lifetime"), (METHOD, "num_cpus"), (ACTOR, "num_returns")]
)
def test_options_belong_to_their_targets(target, name):
    with pytest.raises(ValueError, match="not an option"):
        options.merge(target, {}, {name: 1})


def test_streaming_has_a_number():
    assert options.merge(TASK, {}, {"num_returns": "streaming"})["num_returns"] == STREAMING


def test_get_if_exists_needs_a_name():
    with pytest.raises(ValueError, match="needs a name"):
        options.merge(ACTOR, {}, {"get_if_exists": True})


class TestResources:
    def test_a_task_holds_one_cpu_unless_it_says_otherwise(self):
        assert options.task_resources({}).to_floats() == {"CPU": 1.0}
        assert options.task_resources({"num_cpus": 0}).to_floats() == {}
        assert options.task_resources({"num_cpus": 0.5, "resources": {"disk": 2}}).to_floats() == {
            "CPU": 0.5,
            "disk": 2.0,
        }

    def test_an_actor_needs_a_cpu_to_be_placed_and_holds_none(self):
        placement, held = options.actor_resources({})
        assert placement.to_floats() == {"CPU": 1.0} and not held

    def test_an_actor_with_explicit_resources_holds_them_and_a_cpu(self):
        placement, held = options.actor_resources({"num_gpus": 1})
        assert placement == held and held.to_floats() == {"CPU": 1.0, "GPU": 1.0}


def test_a_task_with_a_gpu_ends_its_worker():
    """The device's memory is free only when the process that used it is gone."""
    merged = options.merge(options.TASK, {}, {"num_gpus": 0.5})
    assert options.max_calls(merged) == 1
    assert options.max_calls(options.merge(options.TASK, merged, {"max_calls": 0})) == 0
    assert options.max_calls(options.merge(options.TASK, {}, {"num_cpus": 2})) == 0

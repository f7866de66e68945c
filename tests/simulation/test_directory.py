"""No object goes while somebody refers to it, and none stays: whatever the order of events, and whoever
dies."""

from __future__ import annotations

import pytest

from tests.simulation.directory_sim import Sim

SEEDS = 150


@pytest.mark.parametrize("deaths", [False, True])
def test_references_across_nodes(deaths):
    for seed in range(SEEDS):
        try:
            Sim(seed, deaths=deaths).run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_a_node_that_drains_holds_nothing_in_the_end_that_others_need():
    for seed in range(SEEDS):
        try:
            Sim(seed, deaths=False).run_drain()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error

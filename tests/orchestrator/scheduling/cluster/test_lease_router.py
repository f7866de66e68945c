"""The router alone, and several of them with real schedulers behind a network that is late."""

from __future__ import annotations

from orchestrator.common.resources import ResourceSet
from orchestrator.common.scheduling_class import InBundle, OnNode, SchedulingClass
from orchestrator.scheduling import events as local
from orchestrator.scheduling.cluster import lease_events as ev
from tests.simulation.leases_world import Jobs, Sim, everything_is_back, plain

ONE = plain(1)


class TestOneCluster:
    def test_what_fits_at_home_stays_at_home(self) -> None:
        sim = Sim(1)
        home = sim.add(CPU=4)
        sim.add(CPU=4)
        jobs = Jobs(sim)
        jobs.submit(home, 1, "a", ONE, 2)
        sim.run_until(jobs.is_done)
        assert set(jobs.ran_on) == {1} and sim.asked == 0

    def test_what_does_not_fit_goes_to_another_node(self) -> None:
        sim = Sim(2)
        home = sim.add(CPU=2)
        for _ in range(3):
            sim.add(CPU=2)
        jobs = Jobs(sim, length_s=5)
        jobs.submit(home, 1, "a", ONE, 8)
        sim.run_until(lambda: jobs.running[1, 1, "a"] == 8, limit_s=3)
        sim.run_until(jobs.is_done)
        assert jobs.ran_on == {1: 2, 2: 2, 3: 2, 4: 2}
        everything_is_back(sim)

    def test_a_device_that_only_another_node_has(self) -> None:
        sim = Sim(3)
        home = sim.add(CPU=2)
        sim.add(CPU=2, GPU=1)
        jobs = Jobs(sim)
        jobs.submit(home, 1, "a", plain(1, GPU=1), 5)
        sim.run_until(jobs.is_done)
        assert jobs.ran_on == {2: 5}

    def test_a_full_cluster_serves_everybody_in_the_end(self) -> None:
        sim = Sim(4)
        nodes = [sim.add(CPU=2) for _ in range(3)]
        jobs = Jobs(sim)
        for node in nodes:
            for client in (1, 2):
                jobs.submit(node, client, "a", ONE, 40)
        sim.run_until(jobs.is_done, limit_s=200)
        everything_is_back(sim)

    def test_what_waits_moves_to_where_room_appears(self) -> None:
        sim = Sim(5)
        home, other = sim.add(CPU=1), sim.add(CPU=1)
        jobs = Jobs(sim, length_s=1000)
        jobs.submit(home, 1, "long", ONE, 1)
        sim.run(0.5)
        sim.on_lease = lambda *_: None
        other.route(ev.Demand(1, "b", ONE, 1))
        sim.run(0.5)
        assert other.leases[1, "b"]
        home.route(ev.Demand(2, "c", ONE, 1))
        sim.run(3)
        assert not home.leases.get((2, "c"))
        other.give_back(1, "b", *other.leases[1, "b"][0])
        sim.run(3)
        assert home.leases[2, "c"][0][0] == other.number

    def test_a_demand_that_no_node_can_serve_waits_and_is_explained_again_and_again(self) -> None:
        sim = Sim(6)
        home = sim.add(CPU=2)
        sim.add(CPU=8)
        home.route(ev.Demand(1, "a", plain(100), 1))
        sim.run(2)
        (explained,) = home.explained
        assert explained.text == (
            "waits for a node to join: it needs {CPU: 100}: none of the 2 nodes has that; "
            "0000000000000002 comes nearest with CPU 8 of 100 in total"
        )
        sim.run(15)
        assert len(home.explained) == 3, "after 1, 4 and 16 s"
        assert not home.infeasible
        sim.add(CPU=100)
        sim.run(2)
        assert home.leases[1, "a"][0][0] == 3

    def test_a_demand_that_no_node_can_serve_is_refused_when_its_time_is_over(self) -> None:
        sim = Sim(6, refuse_after_s=5.0)
        home = sim.add(CPU=2)
        home.route(ev.Demand(1, "a", plain(100), 1))
        sim.run(4)
        assert not home.infeasible
        sim.run(2)
        (refused,) = home.infeasible
        assert refused.verdict == "infeasible"
        assert refused.cause.endswith("in total (no such node joined within 5 s)")
        assert not home.router.waiting()

    def test_a_node_that_joins_in_time_serves_it(self) -> None:
        sim = Sim(7)
        home = sim.add(CPU=2)
        home.route(ev.Demand(1, "a", plain(4), 1))
        sim.add(CPU=8)
        sim.run(2)
        assert not home.infeasible and home.leases[1, "a"][0][0] == 2

    def test_affinity_to_a_node_that_is_gone(self) -> None:
        sim = Sim(8)
        home, other = sim.add(CPU=2), sim.add(CPU=2)
        sim.kill(other)
        sim.run(2)
        home.route(ev.Demand(1, "a", SchedulingClass(ONE.resources, placement=OnNode(other.node_id)), 1))
        home.route(
            ev.Demand(1, "b", SchedulingClass(ONE.resources, placement=OnNode(other.node_id, True)), 1)
        )
        sim.run(2)
        assert [one.verdict for one in home.infeasible] == ["unschedulable"]
        assert "has left, or never was" in home.infeasible[0].cause
        assert home.leases[1, "b"][0][0] == 1

    def test_a_wait_is_explained_once(self) -> None:
        sim = Sim(9)
        home = sim.add(CPU=1)
        sim.add(CPU=1)
        home.route(ev.Demand(1, "a", ONE, 3))
        sim.run(30)
        (explained,) = home.explained
        assert explained.text == (
            "has waited 10 s for {CPU: 1}: 2 of 2 nodes could serve it; "
            "0000000000000001 comes nearest, with {} free"
        )

    def test_bundles_are_tried_on_all_nodes_of_a_group(self) -> None:
        sim = Sim(10)
        home, other = sim.add(CPU=4), sim.add(CPU=4)
        scheduling = SchedulingClass(ONE.resources, placement=InBundle("g"))
        home.route(ev.Demand(1, "a", scheduling, 3))
        sim.run(1)
        assert not home.leases
        bundle = ResourceSet.from_floats({"CPU": 1})
        for node, count in ((home, 1), (other, 2)):
            node.schedule(local.BundlesWanted("g", (bundle,) * count))
        home.route(ev.GroupPlaced("g", (1, 2, 2)))
        sim.run(5)
        assert sorted(node for node, _ in home.leases[1, "a"]) == [1, 2, 2]
        home.route(ev.Demand(1, "b", scheduling, 1))
        sim.run(3)
        assert (1, "b") not in home.leases
        home.give_back(1, "a", *next(one for one in home.leases[1, "a"] if one[0] == 2))
        sim.run(5)
        assert home.leases[1, "b"][0][0] == 2
        home.route(ev.GroupGone("g"))
        home.route(ev.Demand(1, "b", scheduling, 1))
        assert home.infeasible[-1].verdict == "group_removed"

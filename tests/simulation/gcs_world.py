"""A head, nodes, users who want things, and all that can go wrong; and what must hold all the same."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.common.resources import ResourceSet
from orchestrator.gcs import messages, requests
from orchestrator.gcs.bundle_choice import BundleChoice
from orchestrator.gcs.messages import NodeView
from orchestrator.gcs.nodes import HealthPolicy
from orchestrator.gcs.placement_groups import NoRoom, Wish
from orchestrator.gcs.requests import Answer, Done, Refused
from orchestrator.gcs.storage.memory import MemoryStorage
from orchestrator.testing.sim_clock import SimClock
from orchestrator.testing.sim_gcs import SimHead, SimNode
from orchestrator.testing.sim_network import Faults, SimNetwork

POLICY = HealthPolicy(suspect_s=2.0, dead_s=6.0, lost_s=3.0, restart_s=8.0)
REFUSE_AFTER_S = 8.0
TROUBLE_S = 20.0
#: Longer than anything may take once nothing goes wrong any more.
PEACE_S = 30.0


def first_fit(
    wish: Wish, nodes: Sequence[NodeView], promised: Mapping[int, ResourceSet]
) -> list[int] | NoRoom:
    """Choose nodes as simply as can be."""
    spread = wish.spec.strategy == "STRICT_SPREAD"
    together = wish.spec.strategy == "STRICT_PACK"
    room = {}
    for node in nodes:
        free, taken = node.available, promised.get(node.node, ResourceSet())
        room[node.node] = ResourceSet({name: max(free[name] - taken[name], 0) for name in free})
    chosen: list[int] = []
    for bundle in wish.bundles:
        want = wish.spec.bundles[bundle]
        for node, free in room.items():
            bad = (
                (node in wish.occupied or node in chosen)
                if spread
                else (together and chosen and node != chosen[0])
            )
            if not bad and want.fits(free):
                room[node] = free.subtract(want)
                chosen.append(node)
                break
        else:
            never = not any(want.fits(node.total) for node in nodes)
            return NoRoom(f"no room for bundle {bundle}", never)
    return chosen


class World:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.clock = SimClock()
        bad = rng.random()
        self.network = SimNetwork(
            self.clock,
            rng,
            Faults(
                loss=0.1 * bad, repetition=0.1 * bad, stray=0.05 * bad, keepalive_s=rng.choice([1.0, 5.0])
            ),
        )
        self.storage = MemoryStorage()
        self.choose = BundleChoice() if rng.random() < 0.1 else first_fit
        self.epochs = 0
        self.nodes: list[SimNode] = []
        self.names_used = 0
        #: (node name, key) to the last value that was acknowledged, and the last that was asked for.
        self.acked: dict[tuple[str, bytes], int] = {}
        self.asked: dict[tuple[str, bytes], int] = {}
        #: Names to the ids whose claim was acknowledged and who have not begun to give it back.
        self.holders: dict[str, requests.Name] = {}
        self.jobs: dict[str, SimNode] = {}
        self.finished_jobs: set[str] = set()
        self.wanted_groups: dict[str, requests.GroupSpec] = {}
        self.removed_groups: set[str] = set()
        self.indices: dict[int, str] = {}
        self.checked_at: tuple[int, ...] = ()
        self.head = self.start_head()
        for number in range(rng.randint(2, 5)):
            self.start_node(is_head=number == 0)

    # ------------------------------------------------------------ processes

    def start_head(self) -> SimHead:
        self.epochs += 1
        return SimHead(
            self.clock, self.network, self.rng, self.storage, self.choose,
            epoch=self.epochs, policy=POLICY, refuse_after_s=REFUSE_AFTER_S,
        )  # fmt: skip

    def start_node(self, *, is_head: bool = False) -> SimNode:
        self.names_used += 1
        name = f"{self.names_used:016x}"
        total = ResourceSet.from_floats({"CPU": self.rng.choice([2, 4, 8])})
        spec = messages.NodeSpec(name, f"host-{name}", {}, total, {}, is_head)
        node = SimNode(self.clock, self.network, self.rng, name, spec)
        self.nodes.append(node)
        return node

    def living(self) -> list[SimNode]:
        return [node for node in self.nodes if not node.ended]

    def somebody(self) -> SimNode | None:
        candidates = [node for node in self.living() if node.index]
        return self.rng.choice(candidates) if candidates else None

    # ------------------------------------------------------------ what users do

    def act(self) -> None:
        node = self.somebody()
        if node is None:
            return
        what = self.rng.choice([self.put, self.put_once, self.claim, self.free, self.group, self.group,
                                self.ungroup, self.start_job, self.finish_job])  # fmt: skip
        what(node)

    def put(self, node: SimNode) -> None:
        key = (node.name, bytes([self.rng.randrange(3)]))
        if self.asked.get(key, 0) != self.acked.get(key, 0):
            return  # one at a time: requests of one node may overtake each other
        value = self.asked[key] = self.asked.get(key, 0) + 1

        def answered(answer: Answer) -> None:
            if isinstance(answer, Done):
                self.acked[key] = value

        node.submit(requests.PutValue(node.name, key[1], str(value).encode()), answered)

    def put_once(self, node: SimNode) -> None:
        key = self.rng.getrandbits(64).to_bytes(8, "big")

        def answered(answer: Answer) -> None:
            assert answer == Done(1) or isinstance(answer, Refused), f"{key!r} was there before it was put"

        node.submit(requests.PutValue("once", key, b"x", overwrite=False), answered)

    def claim(self, node: SimNode) -> None:
        text = f"name-{self.rng.randrange(6)}"
        job = self.rng.choice([None, *[job for job, owner in self.jobs.items() if owner is node]])
        name = requests.Name(
            "object", "", text, f"{self.rng.getrandbits(64):x}", node.index, b"x", job or "",
            self.rng.random() < 0.2,
        )  # fmt: skip

        def answered(answer: Answer) -> None:
            if isinstance(answer, Done):
                if not self.must_hold(name):
                    return  # the news is old: it may have been freed, and somebody else's, since
                other = self.holders.get(text)
                assert other is None or not self.must_hold(other), f"{text} has two holders: {other}, {name}"
                self.holders[text] = name
            else:
                assert isinstance(answer, Refused) and answer.code in ("taken", "dead", "invalid"), answer
                assert name.id not in answer.text, f"{name.id} was refused because it had the name already"

        node.submit(requests.ClaimName(name), answered)

    def free(self, node: SimNode) -> None:
        if self.holders:
            text = self.rng.choice(sorted(self.holders))
            name = self.holders.pop(text)
            node.submit(requests.FreeName("object", "", text, name.id))

    def must_hold(self, name: requests.Name) -> bool:
        """Whether nothing has happened by which this holder could have lost the name."""
        if name.detached:
            return True
        owner = next(node for node in self.nodes if node.index == name.home)
        record = self.head.head.nodes.get(name.home)
        lives = not owner.ended and record is not None and record.is_member
        return lives and (not name.job or name.job not in self.finished_jobs)

    def group(self, node: SimNode) -> None:
        group = f"{self.rng.getrandbits(64):x}"
        jobs = sorted(job for job in self.jobs if job not in self.finished_jobs)
        job = self.rng.choice(jobs) if jobs and self.rng.random() < 0.5 else ""
        bundles = tuple(
            ResourceSet.from_floats(
                {"CPU": self.rng.choice([1, 1, 2, 3, 20 if self.rng.random() < 0.05 else 1])}
            )
            for _ in range(self.rng.randint(1, 4))
        )
        strategy = self.rng.choice(["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"])
        name = f"group-{self.rng.randrange(4)}" if self.rng.random() < 0.3 else ""
        spec = requests.GroupSpec(group, name, "", strategy, bundles, job)

        def answered(answer: Answer) -> None:
            if isinstance(answer, Done):
                self.wanted_groups[group] = spec

        node.submit(requests.CreateGroup(spec), answered)

    def ungroup(self, node: SimNode) -> None:
        left = sorted(self.wanted_groups.keys() - self.removed_groups)
        if left:
            group = self.rng.choice(left)
            node.submit(requests.RemoveGroup(group))
            self.removed_groups.add(group)

    def start_job(self, node: SimNode) -> None:
        job = f"job-{len(self.jobs)}-{self.rng.getrandbits(32):x}"

        def answered(answer: Answer) -> None:
            if isinstance(answer, Done):
                self.jobs[job] = node

        node.submit(requests.StartJob(job, "ns"), answered)

    def finish_job(self, node: SimNode) -> None:
        mine = [job for job, owner in self.jobs.items() if owner is node and job not in self.finished_jobs]
        if mine:
            self.finished_jobs.add(mine[0])
            node.submit(requests.FinishJob(mine[0], "done"))

    # ------------------------------------------------------------ what goes wrong

    def trouble(self) -> None:
        rng = self.rng
        living = self.living()
        kind = rng.random()
        if kind < 0.3 and not self.head.is_dead:
            self.head.kill()
            self.clock.after(rng.choice([0.01, 0.5, 3.0]), self.restart_head)
        elif kind < 0.45 and len(living) > 1:
            rng.choice(living).die("killed")
        elif kind < 0.6 and len(living) < 7:
            self.start_node(is_head=not any(node.spec.is_head for node in living))
        elif kind < 0.8 and living:
            self.network.cut(rng.choice(living).name, "head", both_ways=rng.random() < 0.7)
        elif kind < 0.85:
            node, victim = self.somebody(), self.somebody()
            if node is not None and victim is not None and len(living) > 2:
                node.submit(requests.RequestDrain(victim.index, "less is enough", 5.0))
        else:
            self.network.heal()

    def restart_head(self) -> None:
        if self.head.is_dead:
            self.head = self.start_head()

    # ------------------------------------------------------------ what must hold

    def check(self) -> None:
        """After each step that may have changed what is looked at here."""
        changes = (self.epochs, self.head.changes_count, sum(node.changes_count for node in self.nodes))
        if changes == self.checked_at:
            return
        self.checked_at = changes
        head = self.head.head
        head.validate()
        if not self.head.is_dead:
            self.check_what_was_acknowledged()
        self.check_bundles()
        for node in self.nodes:
            if node.index:
                assert self.indices.setdefault(node.index, node.name) == node.name, "an index was used twice"
            assert all(free >= 0 for free in node.available().to_floats().values()), (
                f"{node.name} gave too much"
            )

    def check_what_was_acknowledged(self) -> None:
        head = self.head.head
        for (name, key), value in self.acked.items():
            stored = head.kv.get(requests.GetValue(name, key)).value  # type: ignore[union-attr]
            assert stored is not None and int(stored) >= value, (
                f"{name} {key!r}: {value} was acknowledged, {stored}"
            )
        for text, name in self.holders.items():
            if self.must_hold(name):
                found = head.names.find(requests.FindName("object", "", text))
                assert found == name, f"{text} was acknowledged to {name.id}, and is {found}"

    def check_bundles(self) -> None:
        """No bundle may be used in two places, unless one is a node that was buried and does not know."""
        places: dict[tuple[str, int], str] = {}
        for node in self.living():
            if not self.head.head.nodes.is_member(node.index):
                continue
            for (group, attempt), reservation in node.reservations.items():
                if not reservation.is_committed:
                    continue
                record = self.head.head.groups._records.get(group)
                part = record.parts.get((node.index, attempt)) if record is not None else None
                if part is not None and part.state.value == "RELEASING":
                    continue
                for bundle in reservation.bundles:
                    other = places.setdefault((group, bundle.bundle), node.name)
                    assert other == node.name, (
                        f"bundle {bundle.bundle} of {group} is on {other} and {node.name}"
                    )

    def check_the_end(self) -> None:
        """After the peace: everybody has what he was promised."""
        head = self.head.head
        living = self.living()
        members = {record.index for record in head.nodes.members()}
        assert {node.index for node in living} == members, "the head and the nodes do not agree on who lives"
        for node in living:
            assert node.unanswered_count == 0, f"{node.name} waits for {node.unanswered_count} answers"
            assert set(node.view.nodes) == members, f"{node.name} sees {set(node.view.nodes)} of {members}"
            assert node.view.nodes == {r.index: r.view() for r in head.nodes.members()}
        self.check_groups_at_the_end(living)
        for job in head.jobs.jobs().jobs:  # type: ignore[union-attr]
            assert job.state in ("RUNNING", "ENDED"), job
            assert job.state == "ENDED" or job.node in members, job
            assert job.job not in self.finished_jobs or job.state == "ENDED" or self.jobs[job.job].ended, job
        assert not head.answered._answers or all(len(kept) < 100 for kept in head.answered._answers.values())

    def check_groups_at_the_end(self, living: list[SimNode]) -> None:
        held = {
            (group, bundle.bundle): node.index
            for node in living
            for (group, _), reservation in node.reservations.items()
            for bundle in reservation.bundles
        }
        known: dict[str, Any] = {g.spec.group: g for g in self.head.head.groups.groups().groups}  # type: ignore[union-attr]
        for group, description in known.items():
            state = description.state
            assert state in ("CREATED", "PENDING", "RESCHEDULING"), f"{group} is {state}, and not gone"
            assert state == "CREATED" or description.cause, f"{group} waits and does not say why"
            for bundle, node in enumerate(description.nodes):
                if node:
                    assert held.pop((group, bundle), None) == node, f"{group} {bundle} should be on {node}"
        assert not held, f"reserved for nobody: {held}"
        for group in self.wanted_groups.keys() - known.keys():
            assert group not in self.head.head.groups._wanting


def run(seed: int) -> None:
    """Run one seed.

    Raises:
        AssertionError: something that must hold did not.
    """
    world = World(seed)
    rng, clock = world.rng, world.clock

    def users() -> None:
        if clock() < 1000.0 + TROUBLE_S:
            world.act()
            clock.after(rng.expovariate(6.0), users)

    def faults() -> None:
        if clock() < 1000.0 + TROUBLE_S:
            world.trouble()
            clock.after(rng.expovariate(0.8), faults)

    clock.after(0.5, users)
    clock.after(rng.uniform(1.0, 5.0), faults)
    clock.run(TROUBLE_S, world.check)
    world.network.heal()
    world.network.faults = Faults()
    clock.run(5.0, world.check)
    world.restart_head()
    clock.run(PEACE_S)
    world.check()
    world.check_the_end()

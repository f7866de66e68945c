"""Several nodes with real directories; stores, processes and links are models; everything follows from the
seed.

Processes make objects, pass references on, read, drop, and die; nodes die. Links keep their order and take
any time. At every moment an object that a living process refers to must exist somewhere or be reported lost
for a reason; at the end, when all have dropped everything, nothing may be left anywhere.
"""

from __future__ import annotations

from collections import deque
from random import Random

from orchestrator.common.ids import home_of, object_id
from orchestrator.gateway import directory as d
from tests.simulation.directory_model import NO_ROOM, Proc, SimNode, proc_prefix, size_of


class Sim:
    """The cluster."""

    def __init__(self, seed: int, nodes: int = 3, *, deaths: bool = True) -> None:
        self.rng = Random(seed)
        self.deaths = deaths
        self.nodes = {index: SimNode(self, index) for index in range(1, nodes + 1)}
        self.links: dict[tuple[int, int], deque] = {}
        self.todo: list = []
        #: objects that may be gone though somebody refers to them, with the reason
        self.excused: set[bytes] = set()
        #: results that are not made yet, and the node that is to make them
        self.tasks: dict[bytes, int] = {}
        #: who waits for the bytes of what
        self.reads: set[tuple[Proc, bytes]] = set()

    # ---- links

    def send(self, source: SimNode, target: int, message: dict) -> None:
        if self.nodes[target].alive and source.alive:
            self.links.setdefault((source.index, target), deque()).append(("news", message))

    def post(self, source: SimNode, target: SimNode, action) -> None:
        if target is source:
            self.later(action)
        elif target.alive and source.alive:
            self.links.setdefault((source.index, target.index), deque()).append(("post", action))

    def later(self, action) -> None:
        self.todo.append(action)

    def say(self, proc: Proc, target: SimNode, action) -> None:
        """A message of a process: held back while its node waits for acknowledgements."""
        node = proc.node
        held = node.held.get(proc.address)
        if held is not None:
            held.append((target, action))
        elif target is not node and node.directory.is_held(proc.address):
            node.held[proc.address] = deque([(target, action)])
        else:
            self.post(node, target, action)

    # ---- what processes do

    def make(self, proc: Proc) -> None:
        """A value of its own, or the result of a task on another node."""
        identity = object_id(proc_prefix(proc), next(proc.number))
        proc.refs[identity] = 1
        node = proc.node
        if self.rng.random() < 0.5:
            node.use(proc, identity)
            node.entry(identity).state = d.SEALED
            if self.rng.random() < 0.5:
                proc.can_make.add(identity)
            return
        proc.can_make.add(identity)
        other = self.rng.choice([one for one in self.nodes.values() if one.alive])
        if other is node:
            node.use(proc, identity)
            node.entry(identity).state = d.SEALED
            return
        promoted = self.rng.random() < 0.5
        if promoted:
            node.use(proc, identity)

        def run() -> None:
            # A worker over there stores the result for the stand-in of this process, and says so.
            if not proc.alive:
                return
            agent = proc.node.index * 1000 + proc.address
            entry = other.entry(identity)
            if entry.state != d.SEALED:
                entry.state = d.SEALED
            entry.agents.add(agent)
            other.perform(other.directory.gave(identity, agent, size_of(identity), node.index))

        self.tasks[identity] = other.index
        self.post(node, other, run)

    def give(self, proc: Proc) -> None:
        """Pass a reference to another process, holding it until the answer."""
        known = [one for one in proc.refs if self.exists_at(proc, one)]
        if not known:
            return
        identity = self.rng.choice(known)
        target = self.rng.choice([p for n in self.nodes.values() if n.alive for p in n.procs if p.alive])
        if target is proc:
            return
        self.take(proc, identity)
        proc.lent[identity] = proc.lent.get(identity, 0) + 1

        def answered() -> None:
            proc.lent[identity] -= 1
            self.drop(proc, identity)

        def arrive() -> None:
            if target.alive and target.node.alive:
                self.receive(target, identity)
                self.say(target, proc.node, answered)
            else:
                self.later(answered)

        self.say(proc, target.node, arrive)

    def exists_at(self, proc: Proc, identity: bytes) -> bool:
        return proc.node.state(identity) != d.ABSENT

    def take(self, proc: Proc, identity: bytes) -> None:
        proc.refs[identity] = proc.refs.get(identity, 0) + 1
        proc.node.use(proc, identity)

    def receive(self, proc: Proc, identity: bytes) -> None:
        self.take(proc, identity)
        if home_of(identity) != proc.node.index:
            proc.node.spares.pop(identity, None)
            proc.node.perform(proc.node.directory.borrow(proc.address, identity))

    def drop(self, proc: Proc, identity: bytes) -> None:
        if not proc.alive or not proc.node.alive or identity not in proc.refs:
            return
        proc.refs[identity] -= 1
        if not proc.refs[identity]:
            del proc.refs[identity]
            self.reads.discard((proc, identity))
        proc.node.unuse(proc, identity)

    def read(self, proc: Proc) -> None:
        if not proc.refs:
            return
        identity = self.rng.choice(list(proc.refs))
        procs = [proc]
        if self.rng.random() < 0.3:  # all at once
            procs = [
                p for n in self.nodes.values() if n.alive for p in n.procs if p.alive and identity in p.refs
            ]
        for one in procs:
            node = one.node
            if node.state(identity) == d.PENDING:
                self.reads.add((one, identity))
                node.perform(node.directory.want(identity, node.state(identity)))

    # ---- deaths

    def kill_proc(self, proc: Proc) -> None:
        if not proc.alive:
            return
        proc.alive = False
        node = proc.node
        # What it passed on, and was not answered, it holds no longer.
        self.excused |= {one for one, count in proc.lent.items() if count}
        for identity in list(proc.refs):
            entry = node.table.get(identity)
            if entry is not None and entry.users.pop(proc, None):
                node.settle(identity, entry)
        proc.refs.clear()
        prefix = proc_prefix(proc)
        self.excused |= {one for n in self.nodes.values() for one in n.table if one.startswith(prefix)}
        node.perform(node.directory.owner_died(lambda one: one.startswith(prefix), node.state))
        agent = node.index * 1000 + proc.address
        for other in self.nodes.values():
            if other is not node and other.alive:
                self.post(node, other, lambda other=other: self.agent_gone(other, agent, node.index))

    def agent_gone(self, other: SimNode, agent: int, node: int) -> None:
        for identity, entry in list(other.table.items()):
            if agent in entry.agents:
                entry.agents.discard(agent)
                if not entry.kept:
                    other.settle(identity, entry)
        other.perform(other.directory.stand_in_gone(agent, node))

    def kill_node(self, node: SimNode) -> None:
        if not node.alive or sum(n.alive for n in self.nodes.values()) <= 2:
            return
        node.alive = False
        for proc in node.procs:
            proc.alive = False
            proc.refs.clear()
            self.excused |= {one for one, count in proc.lent.items() if count}
        for identity in {one for n in self.nodes.values() for one in n.table}:
            if home_of(identity) == node.index or not any(
                n.alive and n.state(identity) == d.SEALED for n in self.nodes.values()
            ):
                self.excused.add(identity)
        for link in [link for link in self.links if node.index in link]:
            self.links[link] = deque()
        for other in self.nodes.values():
            if other.alive:
                self.later(lambda other=other: self.node_died(other, node.index))

    def node_died(self, other: SimNode, dead: int) -> None:
        if not other.alive:
            return
        for address in (100, 101):
            self.agent_gone(other, dead * 1000 + address, dead)
        for identity, sources in list(other.pulls.items()):
            if dead in sources:
                left = tuple(one for one in sources if one != dead)
                if left:
                    other.pulls[identity] = left
                else:
                    del other.pulls[identity]
                    other.perform(other.directory.pull_failed(identity, sources, "dead"))
        other.perform(other.directory.node_died(dead))
        for identity in [one for one, at in self.tasks.items() if at == dead]:
            if home_of(identity) == other.index:
                del self.tasks[identity]
                other.seal(identity)  # who wanted the result has the task run again

    # ---- checks

    def freed(self, node: SimNode, identity: bytes) -> None:
        if home_of(identity) != node.index:
            return
        users = [
            (n.index, p)
            for n in self.nodes.values()
            if n.alive
            for p in n.procs
            if identity in p.refs and p.alive
        ]
        if users and identity not in self.excused:
            own = {p for _, p in users if p.node is node and node.state(identity) == d.ABSENT}
            others = [user for user in users if user[1] not in own]
            assert not others, f"freed at home while {others} refer to it"

    def unknown(self, node: SimNode, identity: bytes) -> None:
        assert identity in self.excused, f"node {node.index} could not borrow {identity.hex()}"

    def lost(self, node: SimNode, identity: bytes, verdict: str) -> None:
        owner_can = any(
            identity in p.can_make for n in self.nodes.values() if n.alive for p in n.procs if p.alive
        )
        is_excused = identity in self.excused or verdict == NO_ROOM
        assert is_excused or not owner_can, f"{identity.hex()} lost at {node.index}: {verdict}"

    # ---- running

    def step(self) -> bool:
        """One thing that was under way happens; False when nothing is."""
        choices: list = [link for link, queue in self.links.items() if queue]
        choices += ["todo"] if self.todo else []
        choices += [("pull", n, one) for n in self.nodes.values() if n.alive for one in n.pulls]
        choices += [("look", n) for n in self.nodes.values() if n.alive and n.news]
        if not choices:
            return False
        match self.rng.choice(choices):
            case "todo":
                self.todo.pop(self.rng.randrange(len(self.todo)))()
            case ("pull", node, identity):
                node.finish_pull(identity)
            case ("look", node):
                node.look()
            case link:
                kind, what = self.links[link].popleft()
                target = self.nodes[link[1]]
                if target.alive:
                    if kind == "news":
                        target.hear(link[0], what)
                    else:
                        what()
        return True

    def act(self) -> None:
        procs = [p for n in self.nodes.values() if n.alive for p in n.procs if p.alive]
        if not procs:
            return
        proc = self.rng.choice(procs)
        if self.rng.random() < 0.02:
            proc.node.drop_spares()
        roll = self.rng.random()
        if roll < 0.25:
            self.make(proc)
        elif roll < 0.6:
            self.give(proc)
        elif roll < 0.75:
            self.read(proc)
        elif roll < 0.97 or not self.deaths:
            own = [one for one, count in proc.refs.items() if count > proc.lent.get(one, 0)]
            if own:
                self.drop(proc, self.rng.choice(own))
        elif roll < 0.985:
            self.kill_proc(proc)
        elif roll < 0.99:
            self.drain_node(proc.node)
        else:
            self.kill_node(proc.node)

    def drain_node(self, node: SimNode) -> None:
        """A node is about to leave; the others hear it one after the other."""
        for other in self.nodes.values():
            if other is not node:
                self.later(lambda other=other: self.node_drains(other, node))

    def node_drains(self, other: SimNode, node: SimNode) -> None:
        if other.alive and node.alive:
            other.perform(other.directory.node_drains(node.index, other.state))

    def be_busy(self, acts: int) -> None:
        """Do things at random, in the middle of all that comes of the others; then let everything arrive."""
        for _ in range(acts):
            self.act()
            for _ in range(self.rng.randrange(6)):
                self.step()
        while self.step():
            pass
        for proc, identity in self.reads:
            if proc.alive and identity in proc.refs:
                # Of what a dead process had passed on, who waits asks the owner.
                is_told = proc.node.state(identity) != d.PENDING or identity in self.excused
                assert is_told, f"{proc} waits for {identity.hex()} for ever"

    def run_drain(self, acts: int = 100) -> None:
        """Have a node drain while all are busy: in the end it holds nothing that anybody else would miss."""
        leaver = self.rng.choice(list(self.nodes.values()))
        self.later(lambda: self.drain_node(leaver))
        self.be_busy(acts)
        assert not leaver.directory.holds_for_others()
        others = [node for node in self.nodes.values() if node is not leaver]
        for proc in (proc for node in others for proc in node.procs):
            for identity in proc.refs:
                assert any(node.state(identity) in d.HERE for node in others), (proc, identity.hex())

    def run(self, acts: int = 150) -> None:
        self.be_busy(acts)
        # Everybody lets go of everything: nothing may be left.
        for node in self.nodes.values():
            for proc in node.procs:
                for identity, count in list(proc.refs.items()):
                    for _ in range(count):
                        self.drop(proc, identity)
        while self.step():
            pass
        for node in self.nodes.values():
            if node.alive:
                node.look()
        while self.step():
            pass
        for node in self.nodes.values():
            if node.alive:
                assert not node.held, node.held
                assert not node.table, {i.hex(): vars(e) for i, e in node.table.items()}
                assert not len(node.directory), node.directory.counts()


def run(seed: int) -> None:
    """Run one cluster with deaths, one without, and one that a node leaves.

    Raises:
        AssertionError: an object went while somebody referred to it, or something was left.
    """
    nodes = 3 + seed % 3
    Sim(seed, nodes, deaths=True).run()
    Sim(seed, nodes, deaths=False).run()
    Sim(seed, nodes, deaths=False).run_drain()

"""Nodes of a cluster seen from outside: their processes, and what their stores hold."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil

from orchestrator.common.processes import process_of_name
from orchestrator.node.attaching import knock
from orchestrator.node.standing import Standing
from plasma import Store

#: How long what was told to end may take to be gone.
SETTLE_S = 60.0
POLL_S = 0.05


def until(condition: Callable[[], Any], what: str, timeout_s: float = SETTLE_S) -> Any:
    """Wait until a condition holds; return what it returned.

    Raises:
        AssertionError: it does not within `timeout_s`.
    """
    pause = threading.Event()
    for _ in range(int(timeout_s / POLL_S)):
        found = condition()
        if found:
            return found
        pause.wait(POLL_S)
    raise AssertionError(f"in vain for {timeout_s:g} s: {what}")


class Held(NamedTuple):
    """What a node holds."""

    #: Ids and states of objects.
    objects: tuple[str, ...]
    #: Clients that stand for processes of other nodes.
    stand_ins: tuple[str, ...]
    #: Descriptors of the node process that aren't sockets: one for each stand-in, worker, segment, ...
    descriptors: tuple[str, ...]
    workers_count: int
    problems: tuple[str, ...]

    def beyond(self, before: Held) -> list[str]:
        """Return what is held now and was not before, for people."""
        return [
            *(f"object {one}" for one in self.objects if one not in before.objects),
            *(f"stand-in {one}" for one in self.stand_ins if one not in before.stand_ins),
            *(
                [f"descriptors {self.descriptors} instead of {before.descriptors}"]
                if len(self.descriptors) > len(before.descriptors)
                else []
            ),
            *(
                [f"{self.workers_count} workers instead of {before.workers_count}"]
                if self.workers_count > before.workers_count
                else []
            ),
            *self.problems,
        ]


@contextmanager
def store_of(standing: Standing) -> Iterator[Store]:
    """Attach a node's store for a moment."""
    node, fd = knock(standing.path)
    try:
        store = Store.attach(fd, name="test")
    finally:
        os.close(fd)
    try:
        yield store
    finally:
        store.close()
        node.hang_up()


def held_by(standing: Standing) -> Held:
    """Look into a node."""
    with store_of(standing) as store:
        objects = tuple(sorted(f"{one.object_id.hex()} {one!r:.200}" for one in store.list()))
        names = [str(client["name"]) for client in store.clients()]
        audit = store.audit()
    return Held(
        objects,
        tuple(sorted(name for name in names if process_of_name(name) is not None)),
        tuple(sorted(descriptors_of(standing.node_pid))),
        len(workers_of(standing.node_pid)),
        () if audit.ok else tuple(map(str, audit.problems)),
    )


def clients_of(standing: Standing) -> list[str]:
    """Return who takes part in a node's store; a stand-in's name is index and address of its process."""
    with store_of(standing) as store:
        return [f"{one['name']} {one['address']:x} pid {one['pid']}" for one in store.clients()]


def descriptors_of(pid: int) -> list[str]:
    """Return what the descriptors of a process are, sockets left out."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        # The directory of what is spilled is opened when that is first needed, and kept.
        if not target.startswith("socket:") and os.path.basename(target) != "spilled":
            found.append(target.partition(":")[0] if target.startswith("pipe:") else target)
    return found


def workers_of(node_pid: int) -> list[psutil.Process]:
    """Return the workers of a node: what its zygote has forked."""
    try:
        return [worker for zygote in psutil.Process(node_pid).children() for worker in zygote.children()]
    except psutil.NoSuchProcess:
        return []


def head_process(supervisor_pid: int) -> psutil.Process | None:
    """Return the head's process below a supervisor, while there is one."""
    for child in psutil.Process(supervisor_pid).children():
        try:
            if any("orchestrator.gcs.main" in word for word in child.cmdline()):
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def assert_nothing_more(before: Iterable[tuple[Standing, Held]]) -> None:
    """Each of these nodes comes to hold what it held before, and nothing else."""
    before = list(before)
    for standing, held in before:
        found: list[str] = []

        def is_clean(standing: Standing = standing, held: Held = held, found: list[str] = found) -> bool:
            found[:] = held_by(standing).beyond(held)
            return not found

        try:
            until(is_clean, "", SETTLE_S)
        except AssertionError:
            clients = "".join(f"\n{one.path}: {clients_of(one)}" for one, _ in before)
            raise AssertionError(
                f"node {standing.path} still holds: {'; '.join(found)}\nclients of the nodes: {clients}"
            ) from None

"""The state of a session, collected by asking each of its processes.

Nothing is reported until somebody asks. The question goes to every client of the store on lane CONTROL,
which is read even while a task computes; whoever does not answer in time is counted as missing. Which
processes there are on other nodes of a cluster, the node knows; they are asked like all others, by their
stand-ins. In answers a process is a number that no other of the cluster has (`Elsewhere.number_of`).
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.common import config
from orchestrator.common.clock import monotonic
from orchestrator.common.ids import object_id, process_of_number, process_prefix
from orchestrator.core.entry import BLOB, STATE_NAMES, STORED, Entry, Waiter
from orchestrator.core.history import running_in, runs_of, type_of
from orchestrator.core.messages import LONG, PROTOCOL
from orchestrator.core.part import Part
from orchestrator.core.task import QUEUED, WAITING, Task, walk_held
from orchestrator.objects.plasma_adapter import Hold, handles

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

#: Messages, on lane CONTROL.
QUESTION = "question"  # number, topic
ANSWER = "answer"  # number, what is to say
LEGACY = "legacy"  # what a process that ends has to say about tasks

#: A process that dies never answers: how often to look who is left.
LOOK_S = 0.1

Answer = dict[str, Any]
#: The pids of processes that did not answer, and the names of nodes.
Missing = list[int | str]


class Census(Part):
    """Asks, and answers for this process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._next_number = itertools.count(1).__next__
        self._asked: dict[int, tuple[dict[int, Answer], Waiter]] = {}
        self._topics: dict[str, Callable[[], Answer]] = {
            "process": self.describe_process,
            "tasks": self.describe_tasks,
            "references": self.describe_references,
            "objects": self.describe_objects,
        }
        #: where references were made, if that is to be recorded; see call_sites.py
        self.call_site_of: Callable[[Entry], str | None] = lambda entry: None
        #: what processes that have ended left to this one
        self._departed: deque[Answer] = deque()
        #: when this process became part of the session
        self._joined_ms = time.time_ns() / 1e6
        runtime.handlers[LEGACY] = self._on_legacy
        runtime.handlers[QUESTION] = self._on_question
        runtime.handlers[ANSWER] = self._on_answer

    # -- asking

    def clients(self) -> dict[int, dict[str, Any]]:
        """Return the living processes of the session that run user code, by address."""
        return {
            client["address"]: client
            for client in self._runtime.store.clients()
            if client["state"] == "active" and str(client["name"]).startswith(("driver", "worker"))
        }

    def ask_all(self, topic: str, timeout_s: float) -> tuple[list[Answer], Missing]:
        """Return what all processes say about a topic, and who did not answer in time."""
        runtime = self._runtime
        here = runtime.store.address
        deadline = monotonic() + timeout_s
        others = {address: client["pid"] for address, client in self.clients().items() if address != here}
        silent = self._processes_elsewhere(others, timeout_s)
        answers: dict[int, Answer] = {here: self._topics[topic]()}
        number = self._next_number()
        waiter = Waiter(len(others), stop_at_error=False)
        self._asked[number] = (answers, waiter)
        try:
            for address in others:
                runtime.send_control(address, (QUESTION, number, topic))
            while not runtime.pump.wait(waiter, min(deadline, monotonic() + LOOK_S)):
                alive = {client["address"] for client in runtime.store.clients()}
                others = {address: pid for address, pid in others.items() if address in alive}
                if monotonic() >= deadline or answers.keys() >= others.keys():
                    break
        finally:
            del self._asked[number]
        missing = [pid for address, pid in others.items() if address not in answers]
        return [answer for answer in answers.values() if "error" not in answer], [*missing, *silent]

    def _processes_elsewhere(self, others: dict[int, int], timeout_s: float) -> list[str]:
        """Add the processes of other nodes; return the names of nodes that did not say which they have."""
        runtime = self._runtime
        if not runtime.here:
            return []
        # Half of the time is left for the processes themselves.
        question = {"op": "processes", "timeout_s": timeout_s / 2}
        answer = runtime.node.ask(question, timeout_s + config.NODE_ANSWER_TIMEOUT_S)
        others.update(answer["processes"])
        left_out = answer.get("left_out")
        return [f"node {name}" for name in answer["silent"]] + (
            [f"{left_out} processes beyond the first {len(answer['processes'])}"] if left_out else []
        )

    def _on_answer(self, sender: int, number: int, answer: Answer) -> None:
        asked = self._asked.get(number)
        if asked is not None and sender not in asked[0]:
            asked[0][sender] = answer
            asked[1](_ARRIVED)

    def _on_question(self, sender: int, number: int, topic: str) -> None:
        try:
            answer = self._topics[topic]()
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        message = (ANSWER, number, answer)
        self._send(sender, message)

    def _send(self, address: int, message: tuple[Any, ...]) -> None:
        payload = pickle.dumps(message, PROTOCOL)
        if len(payload) > config.MESSAGE_BYTES_MAX:
            message = (LONG, self._runtime.elsewhere.store_message(address, payload))
        self._runtime.send_control(address, message)

    # -- leaving

    def hand_over(self) -> None:
        """This process ends in good order: leave what it remembers to the driver."""
        answer = self.describe_tasks()
        answer["unfinished"], answer["running"] = [], []
        if answer["runs"] or answer["failures"]:
            self._send(self._runtime.info["driver_address"], (LEGACY, answer))

    def _on_legacy(self, sender: int, answer: Answer) -> None:
        self._departed.append(answer)
        while sum(len(one["runs"]) for one in self._departed) > config.HISTORY_MAX:
            self._departed.popleft()

    # -- answering

    def describe_process(self) -> Answer:
        """Say which process this is."""
        executor = self._runtime.executor
        actor = executor.actor if executor is not None else None
        info = self._runtime.info
        return {
            "pid": os.getpid(),
            "address": self._number_of(self._runtime.store.address),
            "node": self._runtime.node_id,
            "type": "WORKER" if executor is not None else "OBSERVER" if info.get("observes") else "DRIVER",
            "job": info.get("job", self._runtime.session),
            "actor": actor.actor_id.hex() if actor is not None else None,
            "argv": list(sys.argv) if executor is None else [],
            "joined_ms": self._joined_ms,
            # Added to a time of `perf_counter_ns` it gives the time of day.
            "clock_ns": time.time_ns() - time.perf_counter_ns(),
            "deaths": list(self._runtime.history.deaths),
        }

    def describe_tasks(self) -> Answer:
        """Say what ran, runs and waits here."""
        runtime = self._runtime
        history = runtime.history
        answer = self.describe_process()
        answer["failures"] = list(history.failures)
        answer["departed"] = list(self._departed)
        answer["unfinished"] = [
            self._describe_task(task) for task in [*runtime.tasks.unfinished(), *runtime.actors.unfinished()]
        ]
        number_of = self._number_of
        answer["runs"] = [(number_of(one[0]), *one[1:]) for one in runs_of(runtime.executor, history)]
        running, answer["blocked"] = running_in(runtime.executor)
        answer["running"] = [(number_of(submitter), seq) for submitter, seq in running]
        return answer

    def _number_of(self, address: int) -> int:
        return self._runtime.elsewhere.number_of(address)

    def _describe_task(self, task: Task) -> Answer:
        parent = task.parent
        actor = task.actor
        worker = self._runtime.address_of(task)
        place = "PENDING_ARGS_AVAIL" if task.place == WAITING else "SUBMITTED_TO_WORKER"
        if task.place == QUEUED:
            place = "PENDING_NODE_ASSIGNMENT"
        return {
            "seq": task.seq,
            "name": task.template.name,
            "type": type_of(task),
            "state": place,
            "attempts": task.attempts,
            "parent": task_id(self._runtime.session, self._number_of(parent[0]), parent[1])
            if parent
            else None,
            "actor": actor.actor_id.hex() if actor is not None else None,
            "worker": self._number_of(worker) if worker else None,
            **(
                task.template.queue.scheduling.described()
                if task.template.queue is not None
                else {"resources": {}}
            ),
        }

    def describe_references(self) -> Answer:
        """Say which objects this process refers to, and what for."""
        runtime = self._runtime
        id_of = runtime.id_of
        answer = self.describe_process()
        found: dict[bytes, Answer] = {}

        def row(entry: Entry) -> Answer:
            identity = id_of(entry)
            known = found.get(identity)
            if known is None:
                known = found[identity] = {
                    "local": 0,
                    "pending_tasks": 0,
                    "state": STATE_NAMES[entry.state],
                    "size_bytes": len(entry.value) if entry.state == BLOB else 0,
                    "call_site": self.call_site_of(entry),
                    "task_status": _status_of(entry),
                }
            return known

        for ref in handles():
            if ref._runtime is runtime:
                row(ref._entry)["local"] += 1
        for task in [*runtime.tasks.unfinished(), *runtime.actors.unfinished()]:
            used = [item for item, _ in walk_held(task.held)]
            if task.packed is not None:
                used += [entry for _, entry in task.packed[1]]
            for item in used:
                if type(item) is Entry:
                    row(item)["pending_tasks"] += 1
                elif type(item) is Hold:  # arguments that were too large for a message
                    row(Entry(item.object_id, STORED))["pending_tasks"] += 1
        answer["references"] = found
        answer["functions"] = runtime.functions.known()
        return answer

    def describe_objects(self) -> Answer:
        """Say which objects this process refers to, and what its node's store has and who holds it."""
        answer = self.describe_references()
        store, number_of = self._runtime.store, self._number_of
        if self._speaks_for_node():
            listed = [info for info in store.list() if info.state != "deleted"]
            answer["infos"] = [(info.object_id, info.size_bytes, info.state) for info in listed]
            answer["holds"] = [
                (hold.object_id, number_of(hold.holder), hold.parent, hold.pins, hold.refs)
                for hold in store.holds()
                if not hold.keeps
            ]
            answer["clients"] = {number_of(one["address"]): one["pid"] for one in store.clients()}
        return answer

    def _speaks_for_node(self) -> bool:
        """Tell whether this process is the one of its node that says what the store has."""
        here = self._runtime.store.address
        return here == min(self.clients(), default=here)


_ARRIVED = Entry(0)


def _status_of(entry: Entry) -> str:
    task = entry.task
    if entry.state:
        return "FINISHED"
    if task is None:
        return "NIL"
    return {WAITING: "PENDING_ARGS_AVAIL", QUEUED: "PENDING_NODE_ASSIGNMENT"}.get(
        task.place, "SUBMITTED_TO_WORKER"
    )


def task_id(session: str, submitter: int, seq: int) -> str:
    """Return the id of a task, which is the id of its first result; `submitter` is a process's number."""
    process = process_of_number(submitter)
    return object_id(process_prefix(session, process.address, process.node), seq).hex()

"""The state of a session, collected by asking each of its processes.

Nothing is reported until somebody asks. The question goes to every client of the store on lane CONTROL,
which is read even while a task computes; whoever does not answer in time is counted as missing.
"""

from __future__ import annotations

import gc
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
from orchestrator.common.ids import object_id, process_prefix
from orchestrator.core.entry import BLOB, STATE_NAMES, STORED, Entry, Hold, Waiter
from orchestrator.core.history import running_in, runs_of, type_of
from orchestrator.core.lineage import walk_held
from orchestrator.core.messages import LONG, PROTOCOL
from orchestrator.core.object_ref import ObjectRef
from orchestrator.core.part import Part
from orchestrator.core.task import QUEUED, WAITING, Task

if TYPE_CHECKING:
    from orchestrator.core.runtime import Runtime

#: Messages, on lane CONTROL.
QUESTION = "question"  # number, topic
ANSWER = "answer"  # number, what is to say
LEGACY = "legacy"  # what a process that ends has to say about tasks

#: A process that dies never answers: how often to look who is left.
LOOK_S = 0.1

Answer = dict[str, Any]


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
        }
        #: where references were made, if that is to be recorded; see call_sites.py
        self.call_site_of: Callable[[Entry], str | None] = lambda entry: None
        #: what processes that have ended left to this one
        self._departed: deque[Answer] = deque()
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

    def ask_all(self, topic: str, timeout_s: float) -> tuple[list[Answer], list[int]]:
        """Return what all processes say about a topic, and the pids of those that did not answer in time."""
        runtime = self._runtime
        here = runtime.store.address
        others = {address: client for address, client in self.clients().items() if address != here}
        answers: dict[int, Answer] = {here: self._topics[topic]()}
        number = self._next_number()
        waiter = Waiter(len(others), stop_at_error=False)
        self._asked[number] = (answers, waiter)
        deadline = monotonic() + timeout_s
        try:
            for address in others:
                runtime.send_control(address, (QUESTION, number, topic))
            while not runtime.pump.wait(waiter, min(deadline, monotonic() + LOOK_S)):
                alive = self.clients()
                others = {address: client for address, client in others.items() if address in alive}
                if monotonic() >= deadline or answers.keys() >= others.keys():
                    break
        finally:
            del self._asked[number]
        missing = [client["pid"] for address, client in others.items() if address not in answers]
        return [answer for answer in answers.values() if "error" not in answer], missing

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
            "address": self._runtime.store.address,
            "type": "WORKER" if executor is not None else "OBSERVER" if info.get("observes") else "DRIVER",
            "job": info.get("job", self._runtime.session),
            "actor": actor.actor_id.hex() if actor is not None else None,
            "argv": list(sys.argv) if executor is None else [],
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
        answer["runs"] = runs_of(runtime.executor, history)
        answer["running"], answer["blocked"] = running_in(runtime.executor)
        return answer

    def _describe_task(self, task: Task) -> Answer:
        parent = task.parent
        actor = task.actor
        place = "PENDING_ARGS_AVAIL" if task.place == WAITING else "SUBMITTED_TO_WORKER"
        if task.place == QUEUED:
            place = "PENDING_NODE_ASSIGNMENT"
        return {
            "seq": task.seq,
            "name": task.template.name,
            "type": type_of(task),
            "state": place,
            "attempts": task.attempts,
            "parent": task_id(self._runtime.session, *parent) if parent is not None else None,
            "actor": actor.actor_id.hex() if actor is not None else None,
            "worker": self._runtime.address_of(task),
            "resources": task.template.queue.scheduling.resources.to_floats()
            if task.template.queue is not None
            else {},
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

        # No list of references is kept, as that would cost each of them: the collector has one.
        for ref in [item for item in gc.get_objects() if type(item) is ObjectRef]:
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
    """Return the id of a task, which is the id of its first result."""
    return object_id(process_prefix(session, submitter), seq).hex()

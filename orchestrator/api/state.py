"""What is going on in the session, as rows: tasks, actors, objects, workers.

`util.state` gives them types, filters and limits.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from orchestrator import exceptions
from orchestrator.common.ids import ADDRESS_BITS, process_of_number, process_prefix
from orchestrator.core.census import Missing, task_id
from orchestrator.core.runtime import Runtime, require

Row = dict[str, Any]

#: Rows, and who did not answer in time.
Found = tuple[list[Row], Missing]

LANGUAGE = "PYTHON"


class _NoAnswer(Exception):
    """A node did not answer."""


class View:
    """One look at the session; the processes are asked when rows are wanted."""

    def __init__(self, timeout_s: float) -> None:
        self.runtime: Runtime = require()
        self.timeout_s = timeout_s
        self.node_id = self.runtime.node_id
        self.job_id = self.runtime.session

    def tasks(self) -> Found:
        """Return a row for each attempt of each task that is known."""
        answers, missing = self._histories()
        where_is = {answer["address"]: (answer["node"], answer["pid"]) for answer in answers}
        session = self.runtime.session
        attempts: dict[str, list[Row]] = {}
        for answer in answers:
            for submitter, seq, name, kind, began, ended, error in answer["runs"]:
                row = self._task_row(task_id(session, submitter, seq), name, kind, answer)
                row |= self._where(answer) | self._times(answer, began, ended) | _outcome(error)
                row["actor_id"] = answer["actor"] if kind != "NORMAL_TASK" else None
                attempts.setdefault(row["task_id"], []).append(row)
            for seq, name, kind, actor, *error, when in answer["failures"]:
                row = self._task_row(task_id(session, answer["address"], seq), name, kind, answer)
                row |= {"actor_id": actor, **self._times(answer, None, when), **_outcome(error)}
                attempts.setdefault(row["task_id"], []).append(row)
        for rows in attempts.values():
            rows.sort(key=lambda row: row["end_time_ms"])
            for number, row in enumerate(rows):
                row["attempt_number"] = number
        running = {
            task_id(session, *run): (answer, answer["blocked"])
            for answer in answers
            for run in answer["running"]
        }
        for answer in answers:
            for task in answer["unfinished"]:
                identity = task_id(session, answer["address"], task["seq"])
                over = attempts.setdefault(identity, [])
                if len(over) > task["attempts"]:
                    continue  # its reply is on the way
                row = self._task_row(identity, task["name"], task["type"], answer)
                row |= {
                    "state": task["state"],
                    "attempt_number": task["attempts"],
                    "actor_id": task["actor"],
                    "parent_task_id": task["parent"] or "",
                    **_asked_for(task),
                }
                if task["worker"]:
                    node, pid = where_is.get(task["worker"], (None, None))
                    row |= {"worker_id": f"{task['worker']:016x}", "worker_pid": pid, "node_id": node}
                if identity in running:
                    where, blocked = running[identity]
                    row |= self._where(where) | {"state": "RUNNING_IN_RAY_GET" if blocked else "RUNNING"}
                over.append(row)
        return [row for rows in attempts.values() for row in rows], missing

    def _histories(self) -> tuple[list[Row], Missing]:
        """Return what the processes remember, and what those that have ended left behind."""
        answers, missing = self.runtime.census.ask_all("tasks", self.timeout_s)
        return answers + [left for answer in answers for left in answer["departed"]], missing

    def _task_row(self, identity: str, name: str, kind: str, answer: Row) -> Row:
        return {
            "task_id": identity,
            "attempt_number": 0,
            "name": name,
            "state": "NIL",
            "job_id": answer["job"],
            "actor_id": None,
            "type": kind,
            "func_or_class_name": name.removesuffix(".__init__") if kind == "ACTOR_CREATION_TASK" else name,
            "parent_task_id": "",
            "node_id": None,
            "worker_id": None,
            "worker_pid": None,
            "error_type": None,
            "language": LANGUAGE,
        }

    def _where(self, answer: Row) -> Row:
        worker = f"{answer['address']:016x}"
        return {"node_id": answer["node"], "worker_id": worker, "worker_pid": answer["pid"]}

    @staticmethod
    def _times(answer: Row, began_ns: int | None, ended_ns: int) -> Row:
        clock_ns = answer["clock_ns"]
        start = None if began_ns is None else (began_ns + clock_ns) / 1e6
        return {"start_time_ms": start, "end_time_ms": (ended_ns + clock_ns) / 1e6}

    def actors(self) -> Found:
        """Return a row for each actor its home knows: the living, and the last ten thousand dead."""
        processes, missing = self.runtime.census.ask_all("process", self.timeout_s)
        pids = {answer["address"]: answer["pid"] for answer in processes}
        nodes = self._nodes()
        ids = {node["index"]: node["node"] for node in nodes}
        found: list[Row] = []
        for node in nodes:
            try:
                found += self._ask_for_all("list_actors", "actors", node["node"])
            except _NoAnswer:
                missing.append(f"node {node['node']}")
        for actor in found:
            index, address = actor.get("process") or (0, actor["worker"] or 0)
            actor["pid"] = pids.get(index << ADDRESS_BITS | address, 0)
            actor["node"] = ids.get(index) if address else None
        return [
            {
                "actor_id": actor["actor"],
                "class_name": actor["class_name"],
                "state": _ACTOR_STATES.get(actor["state"], actor["state"].upper()),
                "job_id": actor.get("job") or self.job_id,
                "name": actor["name"] or "",
                "node_id": actor["node"],
                "pid": actor["pid"],
                "ray_namespace": actor["namespace"],
                **_asked_for(actor),
                "death_cause": {"reason": actor["cause"]} if actor["state"] == "dead" else None,
                "is_detached": actor["detached"],
                "num_restarts": actor.get("restarts", 0),
            }
            for actor in sorted(found, key=lambda actor: bool(actor["state"] == "dead"))
        ], missing

    def _nodes(self) -> list[Row]:
        """Return what the node knows of each node of the cluster; without one, of itself."""
        answer = self.runtime.node.ask({"op": "resources"}, self.timeout_s)
        return answer.get("nodes") or [
            {
                "node": self.node_id,
                "index": 0,
                "host": LOCALHOST,
                "hostname": socket.gethostname(),
                "total": answer["total"],
                "labels": answer.get("labels") or {},
                "is_head": True,
            }
        ]

    def workers(self) -> Found:
        """Return a row for each process that runs user code; after them the dead, the latest first."""
        answers, missing = self.runtime.census.ask_all("process", self.timeout_s)
        rows: list[Row] = []
        dead: dict[int, Row] = {}
        for answer in answers:
            if answer["type"] != "OBSERVER":
                rows.append(self._worker_row(answer["address"], answer["pid"], answer["type"], alive=True))
                rows[-1]["node_id"] = answer["node"]
                rows[-1]["job_id"] = answer["job"]
                rows[-1]["start_time_ms"] = answer["joined_ms"]
            for report in answer["deaths"]:
                if report.get("observed"):
                    continue
                row = self._worker_row(report["worker"], report.get("pid", 0), "WORKER", alive=False)
                row["exit_detail"] = report.get("reason", "")
                row["node_id"] = report["node"] if type(report.get("node")) is str else None
                row["end_time_ms"] = report.get("ended_ms")
                row["exit_type"] = "INTENDED_SYSTEM_EXIT" if report.get("exit_code") == 0 else "SYSTEM_ERROR"
                dead[report["worker"]] = row
        return rows + list(dead.values())[::-1], missing

    def _worker_row(self, address: int, pid: int, kind: str, *, alive: bool) -> Row:
        return {
            "worker_id": f"{address:016x}",
            "is_alive": alive,
            "worker_type": kind,
            "exit_type": None,
            "node_id": None,
            "ip": LOCALHOST,
            "pid": pid,
            "job_id": None,
            "exit_detail": None,
            "start_time_ms": None,
            "end_time_ms": None,
        }

    def placement_groups(self) -> Found:
        """Return a row for each placement group."""
        answer = self.runtime.node.ask({"op": "list_groups", "group": None}, self.timeout_s)
        return [
            {
                "placement_group_id": group["group"],
                "name": group["name"] or "",
                "creator_job_id": group.get("job") or self.job_id,
                "state": group["state"],
                "bundles": group.get("bundles"),
                "is_detached": bool(group.get("detached")),
                "stats": {key: group[key] for key in ("strategy", "cause") if group.get(key)},
            }
            for group in answer["groups"]
        ], []

    def nodes(self) -> Found:
        """Return a row for each node."""
        return [
            {
                "node_id": node["node"],
                "node_ip": node["host"],
                "is_head_node": node["is_head"],
                "state": "ALIVE",
                "state_message": "it takes no new work" if node.get("draining") else None,
                "node_name": node["hostname"],
                "resources_total": node["total"],
                "labels": node["labels"],
            }
            for node in self._nodes()
        ], []

    def jobs(self) -> Found:
        """Return a row for each driver's program: those that run, and after them those that have ended."""
        answers, missing = self.runtime.census.ask_all("process", self.timeout_s)
        rows = [
            self._job_row(answer["job"], "RUNNING", " ".join(answer["argv"]), answer["pid"])
            | {"start_time": int(answer["joined_ms"]), "driver_node_id": answer["node"]}
            for answer in answers
            if answer["type"] == "DRIVER"
        ]
        known = {row["job_id"] for row in rows}
        for job in self._ask_for_all("list_jobs", "jobs"):
            if job["job"] and job["job"] not in known:
                status = "RUNNING" if job["running"] else "SUCCEEDED"
                rows.append(self._job_row(job["job"], status, job["argv"], job["pid"]))
        return rows, missing

    @staticmethod
    def _job_row(job: str, status: str, entrypoint: str, pid: int) -> Row:
        return {
            "job_id": job,
            "type": "DRIVER",
            "status": status,
            "entrypoint": entrypoint,
            "driver_info": {"id": job, "pid": str(pid), "node_ip_address": LOCALHOST},
        }

    def _ask_for_all(self, op: str, what: str, node: str = "") -> list[Row]:
        """Return a list of a node's that comes in pages.

        Raises:
            _NoAnswer: the node has none.
        """
        found: list[Row] = []
        while True:
            question = {"op": op, "skip": len(found), "node": node}
            try:
                answer = self.runtime.node.ask(question, self.timeout_s)
            except exceptions.GetTimeoutError:
                raise _NoAnswer from None
            if answer.get("error"):
                raise _NoAnswer
            found += answer[what]
            if not answer[what] or len(found) >= answer["count"]:
                return found

    def objects(self) -> Found:
        """Return a row for each process and reason that keep an object alive."""
        answers, missing = self.runtime.census.ask_all("objects", self.timeout_s)
        return _ReferenceTable(self, answers).rows(), missing

    def events(self) -> list[dict[str, Any]]:
        """Return what ran, as events of the Chrome trace format."""
        answers, _ = self._histories()
        events: list[dict[str, Any]] = []
        for answer in answers:
            if not answer["runs"]:
                continue
            pid = answer["pid"]
            label = f"{answer['type'].lower()} {pid}"
            events.append({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": label}})
            #: when the last run of each lane ended: calls of an actor may overlap
            lanes: list[int] = []
            for run in sorted(answer["runs"], key=lambda run: run[4]):
                submitter, seq, name, kind, began, ended, error = run
                lane = next((i for i, until in enumerate(lanes) if until <= began), len(lanes))
                lanes[lane : lane + 1] = [ended]
                events.append(
                    {
                        "cat": "task" if kind == "NORMAL_TASK" else "actor",
                        "name": name,
                        "ph": "X",
                        "pid": pid,
                        "tid": lane,
                        "ts": (began + answer["clock_ns"]) / 1000,
                        "dur": (ended - began) / 1000,
                        "args": {
                            "task_id": task_id(self.runtime.session, submitter, seq),
                            "actor_id": answer["actor"] if kind != "NORMAL_TASK" else None,
                            "error": error[1] if error else None,
                        },
                    }
                )
        return events


class _ReferenceTable:
    """Joins what the store's ledger says with what the processes say."""

    def __init__(self, view: View, answers: list[Row]) -> None:
        self._view = view
        self._answers = answers
        self._actors = {bytes.fromhex(row["actor_id"]) for row in view.actors()[0]}
        self._functions = {key for answer in answers for key in answer["functions"]}
        speakers = [answer for answer in answers if "infos" in answer]
        #: of each object: size in bytes, and state, where it lies
        self._infos: dict[bytes, tuple[int, str]] = {}
        for answer in speakers:
            for identity, size_bytes, state in answer["infos"]:
                if identity not in self._infos or state in ("sealed", "spilled"):
                    self._infos[identity] = (size_bytes, state)
        self._holds = [hold for answer in speakers for hold in answer["holds"]]
        pids = {number: pid for answer in speakers for number, pid in answer["clients"].items()}
        session = view.runtime.session
        self._owners = {
            process_prefix(session, process.address, process.node): pid
            for number, pid in pids.items()
            for process in [process_of_number(number)]
        }
        #: what the processes say of an object, whichever says it
        self._said: dict[bytes, Row] = {}

    def rows(self) -> list[Row]:
        found: list[Row] = []
        listed: set[tuple[bytes, int]] = set()
        for answer in self._answers:
            for identity, said in answer["references"].items():
                if said["call_site"] or identity not in self._said:
                    self._said[identity] = said
        for answer in self._answers:
            for identity, said in answer["references"].items():
                for count, reason in (
                    (said["local"], "LOCAL_REFERENCE"),
                    (said["pending_tasks"], "USED_BY_PENDING_TASK"),
                ):
                    if count:
                        listed.add((identity, answer["address"]))
                        found.append(self._row(identity, reason, answer))
        by_address = {answer["address"]: answer for answer in self._answers}
        held: set[bytes] = {identity for identity, _ in listed}
        for identity, number, parent, pins, refs in self._holds:
            if identity in self._functions or identity not in self._infos:
                continue
            holder = by_address.get(number)
            held.add(identity)
            if parent is not None:
                if parent not in self._functions or identity not in self._actors:
                    found.append(
                        self._row(identity, "CAPTURED_IN_OBJECT", None) | {"contained_in": parent.hex()}
                    )
                continue
            if pins:
                found.append(self._row(identity, "PINNED_IN_MEMORY", holder))
            if refs and (identity, number) not in listed:
                reason = "ACTOR_HANDLE" if identity in self._actors else "LOCAL_REFERENCE"
                found.append(self._row(identity, reason, holder))
        return found

    def _row(self, identity: bytes, reason: str, holder: Row | None) -> Row:
        size_bytes, state = self._infos.get(identity, (0, ""))
        said = self._said.get(identity) or {}
        owner = self._owners.get(identity[:8])
        return {
            "object_id": identity.hex(),
            "object_size": size_bytes or said.get("size_bytes", 0),
            "task_status": said.get("task_status", "NIL"),
            "reference_type": reason,
            "call_site": said.get("call_site") or "",
            "type": holder["type"] if holder is not None else "",
            "pid": holder["pid"] if holder is not None else (owner or 0),
            "ip": LOCALHOST,
            "owner_pid": owner,
            "contained_in": None,
            "place": state or said.get("state", ""),
        }


def resources_of_session(timeout_s: float = 30.0) -> Row:
    """Return what the node has (`total`, `available`), who holds it (`workers`) and who waits (`waiting`)."""
    return require().node.ask({"op": "resources"}, timeout_s)


def instances_of_autoscaler(timeout_s: float = 30.0) -> Row:
    """Return the nodes that the autoscaler starts (`instances`) and their `count`; None where there is none.

    Raises:
        GetTimeoutError: the head, which knows it, did not answer in time.
    """
    return require().node.ask({"op": "instances"}, timeout_s)


def drain_node(node: str, grace_s: float) -> str:
    """Have a node end when nothing runs on it any more; return why that is not possible, or "".

    Args:
        node: its id.
        grace_s: seconds until it ends in any case.
    """
    answer = require().node.ask({"op": "drain", "node": node, "grace_s": grace_s})
    return str(answer.get("error") or "")


def _asked_for(said: Row) -> Row:
    """Return what a task or an actor needs, and where it may run, of what its process or node says."""
    selectors = said.get("labels") or []
    return {
        "required_resources": said.get("resources"),
        "placement_group_id": said.get("group"),
        "label_selector": selectors[0] if selectors else None,
        "fallback_strategy": [{"label_selector": one} for one in selectors[1:]] or None,
    }


def _outcome(error: Any) -> Row:
    if not error:
        return {"state": "FINISHED"}
    kind, text = error
    return {"state": "FAILED", "error_type": kind, "error_message": text}


#: One machine, and nothing of it listens on a network.
LOCALHOST = "127.0.0.1"

_ACTOR_STATES = {"pending": "PENDING_CREATION", "starting": "PENDING_CREATION"}


def timeline(filename: str | os.PathLike[str] | None = None) -> list[dict[str, Any]] | None:
    """Return what ran in which process and when, in the Chrome trace format; or write it to a file.

    Open the file in https://ui.perfetto.dev or chrome://tracing. Each process remembers its last ten
    thousand runs. A process that has died takes its own with it.

    Args:
        filename: where to write it as JSON; the events are returned if it is None.

    Raises:
        SessionError: no session is running.
    """
    import json

    events = View(TIMELINE_TIMEOUT_S).events()
    if filename is None:
        return events
    with open(filename, "w") as file:
        json.dump(events, file)
    return None


TIMELINE_TIMEOUT_S = 30.0

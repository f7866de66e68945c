"""Commands that look at a session: what stands in `util.state`, as text."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import click

from orchestrator.cli.common import NO_SESSION, address_option, fail, observing
from orchestrator.cli.tables import print_rows, size_text
from orchestrator.common.resources import BYTES
from orchestrator.exceptions import GetTimeoutError
from orchestrator.util import state as states
from orchestrator.util.state.listing import rows_of

#: How long `status` waits for what only the head knows.
HEAD_TIMEOUT_S = 3.0
_KINDS: dict[str, type[Any]] = {
    "tasks": states.TaskState,
    "actors": states.ActorState,
    "objects": states.ObjectState,
    "workers": states.WorkerState,
    "nodes": states.NodeState,
    "placement-groups": states.PlacementGroupState,
    "jobs": states.JobState,
}
#: The columns that a table shows unless --detail is given.
_COLUMNS = {
    "tasks": ("task_id", "name", "state", "job_id", "worker_pid", "error_type"),
    "actors": ("actor_id", "class_name", "state", "name", "ray_namespace", "job_id", "pid"),
    "objects": ("object_id", "object_size", "reference_type", "task_status", "type", "pid", "place"),
    "workers": ("worker_id", "worker_type", "is_alive", "job_id", "pid", "exit_detail"),
    "nodes": ("node_id", "state", "is_head_node", "node_name", "resources_total"),
    "placement-groups": ("placement_group_id", "name", "state", "creator_job_id", "is_detached"),
    "jobs": ("job_id", "status", "entrypoint", "driver_info"),
}


class Condition(click.ParamType):
    """A filter: FIELD=VALUE or FIELD!=VALUE."""

    name = "field=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return (field, predicate, value)."""
        if isinstance(value, tuple):
            return value
        for predicate in ("!=", "="):
            field, found, text = value.partition(predicate)
            if found and field:
                return field.strip(), predicate, text.strip()
        return self.fail(f"{value!r} is neither FIELD=VALUE nor FIELD!=VALUE", param, ctx)


@click.command("list")
@click.argument("kind", type=click.Choice(list(_KINDS)))
@click.option(
    "--filter",
    "-f",
    "filters",
    type=Condition(),
    multiple=True,
    help="state=RUNNING, name!=f; all must hold.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Rows at most.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, help="Seconds."
)
@click.option("--detail", is_flag=True, help="All that is known of each, as JSON.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@address_option
def list_(
    kind: str,
    filters: Sequence[tuple[str, str, str]],
    limit: int,
    timeout: float,
    detail: bool,
    form: str,
    address: str,
) -> None:
    """Show what there is of one kind."""
    with observing(address):
        try:
            rows = rows_of(_KINDS[kind], list(filters), limit, timeout, detail, False)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    if detail or form == "json":
        click.echo(json.dumps([row.asdict() for row in rows], indent=2, default=str))
        return
    print_rows(_COLUMNS[kind], [[row.get(name) for name in _COLUMNS[kind]] for row in rows])
    if len(rows) == limit:
        click.echo(f"only the first {limit} are shown; see --limit", err=True)


@click.command()
@click.argument("kind", type=click.Choice(["tasks", "actors", "objects"]), default="tasks")
@address_option
def summary(kind: str, address: str) -> None:
    """Show how many tasks, actors or objects there are in which state."""
    ask = {
        "tasks": states.summarize_tasks,
        "actors": states.summarize_actors,
        "objects": states.summarize_objects,
    }[kind]
    with observing(address):
        found = ask(raise_on_missing_output=False)
    click.echo(json.dumps(found, indent=2, default=str))


@click.command()
@click.option("--group-by", type=click.Choice(["NODE_ADDRESS", "STACK_TRACE"]), default="NODE_ADDRESS")
@click.option("--sort-by", type=click.Choice(["OBJECT_SIZE", "PID", "REFERENCE_TYPE"]), default="OBJECT_SIZE")
@click.option("--units", type=click.Choice(["B", "KB", "MB", "GB"]), default="B")
@click.option("--stats-only", is_flag=True, help="Only the sums.")
@click.option("--num-entries", type=click.IntRange(1), help="Rows at most, of each group.")
@address_option
def memory(
    group_by: str, sort_by: str, units: str, stats_only: bool, num_entries: int | None, address: str
) -> None:
    """Show each object, how large it is, and what keeps it alive."""
    with observing(address):
        text = states.memory_summary(group_by, sort_by, units, stats_only, num_entries)
    click.echo(text, nl=False)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, writable=True), default="timeline.json")
@address_option
def timeline(file: str, address: str) -> None:
    """Write what ran in which process and when to FILE, for https://ui.perfetto.dev."""
    from orchestrator.api.state import timeline as events_of

    with observing(address):
        events = events_of() or []
    try:
        with open(file, "w", encoding="utf-8") as target:
            json.dump(events, target)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}")
    click.echo(f"{len(events)} events are in {file}")


@click.command()
@click.option("--verbose", "-v", is_flag=True, help="Each worker, and who waits for what.")
@address_option
def status(verbose: bool, address: str) -> None:
    """Show the session on this machine: its processes, what it has, who uses it, who waits."""
    from orchestrator.api.state import instances_of_autoscaler, resources_of_session
    from orchestrator.node import standing

    try:
        session = standing.find(address)
    except ConnectionError as error:
        why = standing.last_failure() if address == "auto" else ""
        fail(f"{error}" + (f"\nthe last one ended by itself: {why}" if why else ""), NO_SESSION)
    with observing(session.path):
        resources = resources_of_session()
        jobs = [job for job in states.list_jobs(raise_on_missing_output=False) if job.status == "RUNNING"]
        try:
            scaled = instances_of_autoscaler(HEAD_TIMEOUT_S)
        except GetTimeoutError:
            scaled = {"count": "not known, the head does not answer", "instances": []}
    facts = session.facts
    lived_s = int(time.time() - facts.get("began_s", time.time()))
    click.echo(
        f"session   {facts.get('session', '?')[:16]}, version {facts.get('version', '?')}, up {lived_s} s"
    )
    click.echo(f"place     {session.path}")
    click.echo(f"processes supervisor {session.supervisor_pid or 'gone'}, node {session.node_pid or 'gone'}")
    click.echo(f"jobs      {len(jobs)}" + "".join(f"\n    {job.job_id}  {job.entrypoint}" for job in jobs))
    nodes = resources["nodes"]
    if nodes:
        click.echo(f"nodes     {len(nodes)}")
        rows = [[one["node"], one["host"], _state(one), _use(one)] for one in nodes]
        print_rows(("node", "host", "state", "used / total"), rows)
    if scaled["count"] is not None:
        click.echo(f"started by the autoscaler: {scaled['count']}")
        rows = [[one["type"], one["state"], one["node"], one["cause"]] for one in scaled["instances"]]
        print_rows(("type", "state", "node", "cause"), rows)
    click.echo("resources of this node, used / total" if nodes else "resources used / total")
    total, free = resources["total"], resources["available"]
    for name in sorted(total):
        if verbose or not name.startswith("node:"):
            used = total[name] - free.get(name, 0.0)
            click.echo(f"    {name:<20} {_amount(name, used)} / {_amount(name, total[name])}")
    waiting = resources["waiting"]
    click.echo(f"waiting   {sum(one['want'] for one in waiting)} for workers, in {len(waiting)} demands")
    if verbose:
        for one in waiting:
            whom = f"actor {one['actor']}" if one["actor"] else f"{one['want']} tasks"
            click.echo(f"    {whom} of client {one['client']:016x}: {one['resources']}")
        rows = [[one["pid"], one["state"], one["job"], one["holds"]] for one in resources["workers"]]
        click.echo(f"workers   {len(rows)}")
        print_rows(("pid", "state", "job", "holds"), rows)


def _state(node: dict[str, Any]) -> str:
    return ("head" if node["is_head"] else "node") + (", takes no new work" if node["draining"] else "")


def _use(node: dict[str, Any]) -> str:
    """Return what a node has of each resource that a person declares or counts, and how much is used."""
    shown = sorted(name for name in node["total"] if not name.startswith("node:") and name not in BYTES)
    free = node["available"]
    return ", ".join(
        f"{name} {node['total'][name] - free.get(name, 0.0):g}/{node['total'][name]:g}" for name in shown
    )


def _amount(name: str, amount: float) -> str:
    return size_text(amount) if name in BYTES else f"{amount:g}"

"""Commands that begin and end sessions, and show their logs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from orchestrator.api import init_options
from orchestrator.cli.common import FAILED, NO_SESSION, address_option, fail, observing
from orchestrator.common.labels import check_labels
from orchestrator.node.founding import PORT, ClusterOptions

#: The variable that may hold the join string: it is a secret, and a command line is none.
JOIN_VARIABLE = "ORCHESTRATOR_JOIN"


class JsonObject(click.ParamType):
    """An option whose value is a JSON object."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the object."""
        if isinstance(value, dict):
            return value
        try:
            parsed = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f"{value!r} is not a JSON object", param, ctx)
        return parsed


@click.command()
@click.option("--head", is_flag=True, help="Begin a cluster; this machine's node is its first.")
@click.option("--join", metavar="STRING", help="Be a node of the cluster that printed this join string.")
@click.option("--local", is_flag=True, help="Begin a session of this machine alone: no port is opened.")
@click.option("--host", default="", help="By what others reach this machine [found out; a head: 127.0.0.1].")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, help="Where a head listens; 0: any.")
@click.option(
    "--gcs-storage", default="", metavar="URL", help="sqlite:///PATH, redis://HOST:PORT/DB, memory."
)
@click.option(
    "--autoscaling-config",
    metavar="FILE",
    help="With --head: start and end nodes as they are needed; YAML or JSON, see docs/cluster.md.",
)
@click.option("--trusted-network", is_flag=True, help="Nobody else listens here: data goes in the clear.")
@click.option("--num-cpus", type=float, help="CPUs to give to tasks [default: those of this process].")
@click.option("--num-gpus", type=float, help="GPUs to give to tasks [default: those that are found].")
@click.option("--resources", type=JsonObject(), default="{}", help="Further resources: '{\"slots\": 4}'.")
@click.option("--labels", type=JsonObject(), default="{}", help='Labels of the node: \'{"zone": "a"}\'.')
@click.option("--object-store-memory", type=int, help="Bytes of the object store [default: 30 % of memory].")
@click.option("--object-spilling-directory", help="Where objects go that the store has no room for.")
@click.option("--temp-dir", help="Where the session's directory is made, instead of the usual place.")
@click.option("--block", is_flag=True, help="Stay in the foreground; end with SIGTERM or Ctrl-C.")
def start(
    head: bool,
    join: str | None,
    local: bool,
    host: str,
    port: int,
    gcs_storage: str,
    autoscaling_config: str | None,
    trusted_network: bool,
    num_cpus: float | None,
    num_gpus: float | None,
    resources: Mapping[str, float],
    labels: Mapping[str, str],
    object_store_memory: int | None,
    object_spilling_directory: str | None,
    temp_dir: str | None,
    block: bool,
) -> None:
    """Start a node that stands by itself; drivers attach with init(address="auto").

    Without --block it returns as soon as the session answers.
    """
    from orchestrator.node import standing

    join = join or os.environ.get(JOIN_VARIABLE) if not (head or local) else join
    if sum((head, local, bool(join))) != 1:
        raise click.UsageError("say what to start: --head, --join STRING or --local")
    if autoscaling_config is not None and not head:
        raise click.UsageError("--autoscaling-config is for the head: say --head, too")
    autoscaling = None if autoscaling_config is None else _autoscaling(autoscaling_config)
    cluster = ClusterOptions(join or "", host, port, gcs_storage, trusted_network, autoscaling)
    given = {
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "resources": resources or None,
        "labels": labels or None,
        "object_store_memory": object_store_memory,
        "object_spilling_directory": object_spilling_directory,
        "_temp_dir": temp_dir,
    }
    try:
        init_options.check(given)
        checked_labels = check_labels(labels, "--labels")
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    quantities = {"CPU": float(len(os.sched_getaffinity(0)) if num_cpus is None else num_cpus), **resources}
    if num_gpus is not None:
        quantities["GPU"] = num_gpus
    options = standing.Options(
        resources=quantities,
        labels=dict(checked_labels),
        store_bytes=object_store_memory,
        root=temp_dir,
        spill_root=object_spilling_directory,
        cluster=None if local else cluster._asdict(),
    )
    if temp_dir is not None:
        os.makedirs(temp_dir, exist_ok=True)
    if block:
        standing.run(options)
    try:
        facts = standing.start(options)
    except standing.StartError as error:
        fail(error)
    path = facts["session_dir"]
    address = "auto" if temp_dir is None else os.path.abspath(temp_dir)
    click.echo(f"A session stands at {path} (supervisor pid {facts['pid']}).")
    click.echo(f"  attach   orchestrator.init(address={address!r})")
    # A node that has joined may stand beside others, the head among them, and "auto" is the head then.
    at = f" --address {path}" if join else "" if temp_dir is None else f" --address {address}"
    click.echo(f"  look     orchestrator status{at}")
    click.echo(f"  end      orchestrator stop{at}")
    if facts.get("join") and head:
        click.echo(f"  join     orchestrator start --join {facts['join']}")


def _autoscaling(path: str) -> Any:
    """Return what a configuration of the autoscaler holds; exit if it makes no sense."""
    from orchestrator.autoscaler.config import ConfigError
    from orchestrator.autoscaler.files import check, read_file

    try:
        found = read_file(path)
        check(found)
    except ConfigError as error:
        raise click.UsageError(f"--autoscaling-config: {error}") from None
    return found


@click.command()
@click.option("--force", is_flag=True, help="End it at once: no time for tasks and actors.")
@click.option("--all", "everything", is_flag=True, help="End all of yours on this machine, the head's last.")
@address_option
def stop(force: bool, everything: bool, address: str) -> None:
    """End the session on this machine. Only its own processes are signalled, no others.

    Tasks that run get some seconds to end. Where no session stands there is nothing to do, and that is fine.
    """
    from orchestrator.node import standing

    if everything:
        _stop_all(None if address == "auto" else address, force)
        return
    try:
        session = standing.find(address)
    except standing.SeveralSessionsError as error:
        fail(error)
    except ConnectionError as error:
        click.echo(f"nothing to stop: {error}", err=True)
        return
    try:
        session.stop(force=force)
    except standing.StopError as error:
        fail(error)
    click.echo(f"The session at {session.path} has ended.")


def _stop_all(root: str | None, force: bool) -> None:
    """End what stands at a place, one after the other; those after one that can't be ended, too."""
    from orchestrator.node import standing

    sessions = standing.find_all(root)
    if not sessions:
        click.echo("nothing to stop: no session stands here", err=True)
    errors = []
    for session in sessions:
        try:
            session.stop(force=force)
            click.echo(f"The session at {session.path} has ended.")
        except standing.StopError as error:
            errors.append(str(error))
    if errors:
        fail("; ".join(errors))


@click.command()
@click.argument("node")
@click.option(
    "--grace", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds for what runs."
)
@address_option
def drain(node: str, grace: float, address: str) -> None:
    """Have NODE (an id as `list nodes` shows it) end when nothing runs on it any more.

    It takes no more drivers; what runs and waits may go on until it is done, or the grace is over. On one
    machine the session ends with its node.
    """
    from orchestrator.api.state import drain_node

    with observing(address):
        error = drain_node(node, grace)
    if error:
        fail(error)
    click.echo(f"Node {node} ends when nothing runs on it any more, in {grace:g} s at the latest.")


@click.command()
@click.argument("name", required=False)
@click.option("--tail", type=click.IntRange(1), default=100, show_default=True, help="Lines from the end.")
@address_option
def logs(name: str | None, tail: int, address: str) -> None:
    """Show the names of the session's logs, or the last lines of the one called NAME ('node', 'worker-3')."""
    from orchestrator.node import standing

    try:
        session = standing.find(address)
    except ConnectionError as error:
        fail(error, NO_SESSION)
    files = session.log_files()
    if name is None:
        for path in files:
            click.echo(f"{os.path.getsize(path):>10}  {os.path.basename(path)}")
        return
    for path in files:
        if name in (os.path.basename(path), os.path.basename(path).removesuffix(".log")):
            with open(path, errors="replace") as file:
                sys.stdout.writelines(file.readlines()[-tail:])
            return
    fail(f"there is no log {name!r}; there are: {', '.join(map(os.path.basename, files)) or 'none'}", FAILED)


@click.command("join-string")
@address_option
def join_string(address: str) -> None:
    """Print the join string of the cluster whose head stands on this machine. It is a secret."""
    from orchestrator.node import standing

    try:
        session = standing.find(address)
    except ConnectionError as error:
        fail(error, NO_SESSION)
    text = session.join_string()
    if not text:
        fail(f"the session at {session.path} has no head: ask on the machine where the cluster was begun")
    click.echo(text)

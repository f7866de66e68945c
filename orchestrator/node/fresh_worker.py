"""Workers with an interpreter of their own, for environments that a fork cannot have.

The zygote forks as ever, and the child becomes the other interpreter. So it has the same parent, pipes and
process group as its siblings, and is reaped as they are. What it has to know it reads from a file in memory.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn

from orchestrator.environments.applying import enter, variables_of
from orchestrator.environments.resolved import Resolved

#: Runs in the other interpreter, before anything of ours can be imported there.
_BOOTSTRAP = """
import json, os, sys
with os.fdopen({fd}) as file:
    facts = json.load(file)
ours = sys.version_info[:2]
if list(ours) != facts["python_version"]:
    sys.exit("the interpreter %s is Python %d.%d, and the session runs Python %d.%d: they must be of the "
             "same minor version" % (sys.executable, *ours, *facts["python_version"]))
places = facts["info"]["driver_sys_path"]
standard = [place for place in sys.path if place]
# As in the driver: what stands before the standard library there stands before it here.
first = next((i for i, place in enumerate(places) if place.endswith(".zip")), 0)
sys.path[:] = [place for place in places[:first] if place not in standard] + standard
sys.path += [place for place in places + facts["roots"] if place not in sys.path]
from orchestrator.node.fresh_worker import main
main(facts)
"""


def become(
    command: list[str],
    resolved: Resolved,
    *,
    entry: str,
    store_fd: int,
    node_address: int,
    token: int,
    info: dict[str, Any],
    roots: list[str],
) -> NoReturn:
    """In the forked child: become a worker with this interpreter."""
    facts = {
        "entry": entry,
        "store_fd": store_fd,
        "node_address": node_address,
        "token": token,
        "info": info,
        "resolved": resolved,
        "roots": roots,
        "python_version": list(sys.version_info[:2]),
    }
    fd = os.memfd_create("worker")
    with os.fdopen(fd, "wb", closefd=False) as file:
        file.write(json.dumps(facts).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    for inherited in (fd, store_fd):
        os.set_inheritable(inherited, True)
    environment = {**os.environ, **variables_of(resolved, os.environ)}
    try:
        os.execvpe(command[0], [*command, "-c", _BOOTSTRAP.format(fd=fd)], environment)
    except OSError as error:
        print(f"the interpreter {command[0]!r} cannot be started: {error}", file=sys.stderr, flush=True)
        os._exit(127)


def main(facts: dict[str, Any]) -> None:
    """Be a worker, in the other interpreter."""
    from orchestrator.node import zygote

    os.set_inheritable(facts["store_fd"], False)
    info = enter(facts["resolved"], facts["info"])
    zygote.open_output()
    zygote.run_entry(
        zygote.load_entry(facts["entry"]), facts["store_fd"], facts["node_address"], facts["token"], info
    )

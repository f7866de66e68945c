"""A driver to be killed: it starts a session, lets a worker start processes, says who they are, and waits."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from tests.orchestrator.node.conftest import Driver

PROGRAM = """
import os, subprocess
started = [subprocess.Popen(["sleep", "1000"], start_new_session=own).pid for own in (False, True)]
reply({"pids": [os.getpid(), *started]})
"""


def main(started_from: str) -> None:
    """Print what there is to end, as JSON, and wait for ever."""
    said: dict[str, Any] = {}

    def start() -> None:
        driver = Driver()
        grants = driver.lease(want=2)
        driver.run(grants[0]["worker"], PROGRAM)
        pids = driver.expect("program")["pids"]
        said.update(
            node=driver.node.pid, pids=[driver.node.pid, *pids], session_dir=driver.session_dir, it=driver
        )

    if started_from == "thread":
        # The thread ends at once: a parent-death signal that is tied to it would end the session.
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    else:
        start()
    driver: Driver = said.pop("it")
    said["pids"] += driver.processes() - set(said["pids"])
    print(json.dumps(said), flush=True)
    for line in sys.stdin:
        if line == "is it alive\n":
            print(json.dumps(driver.node.alive()), flush=True)
        elif line == "stop\n":
            driver.close()
            print(json.dumps("stopped"), flush=True)


main(sys.argv[1])

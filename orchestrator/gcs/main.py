"""The head's process: `python -m orchestrator.gcs.main --listen HOST:PORT --storage URL --session-dir DIR`.

Started by a supervisor. It writes one line of JSON to its standard output when it serves, or when it cannot:

    {"serving": "host:port", "join": "orc1:...", "cluster": "...", "pid": 123}
    {"error": "port 6379 of 10.0.0.1 is taken: ..."}

and ends with its parent, however that ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from orchestrator.common.descriptor_limit import raise_descriptor_limit
from orchestrator.common.parent_death import die_with_parent

if TYPE_CHECKING:
    from orchestrator.gcs.starting import RunningHead


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end; return the exit status."""
    options = _parser().parse_args(arguments)
    raise_descriptor_limit()
    if options.parent:
        die_with_parent(options.parent)
    try:
        return asyncio.run(_serve(options))
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.gcs.main", description=__doc__)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="port 0: any that is free")
    parser.add_argument(
        "--advertise", default="", metavar="HOST", help="what the join string names; as --listen"
    )
    parser.add_argument(
        "--storage", required=True, metavar="URL", help="memory, sqlite:///PATH, redis://HOST:PORT/DB"
    )
    parser.add_argument("--session-dir", required=True, metavar="DIR", help="private: keys lie there")
    parser.add_argument("--cluster-id", default="", metavar="HEX", help="of a new cluster; random by default")
    parser.add_argument(
        "--refuse-groups-after",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long a placement group may want what no node has; 0: for ever, as nodes may be added",
    )
    parser.add_argument("--autoscaler", default="", metavar="FILE", help="start nodes as that says")
    parser.add_argument("--trusted-network", action="store_true", help="what nodes that it starts are told")
    parser.add_argument("--announce", default="", metavar="FILE", help="also write the line of JSON there")
    parser.add_argument("--parent", type=int, default=0, metavar="PID", help="end with this parent")
    return parser


async def _serve(options: argparse.Namespace) -> int:
    from orchestrator.gcs.starting import HeadOptions, StartError, start_head

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        wanted = HeadOptions(
            listen=options.listen,
            storage_url=options.storage,
            session_dir=options.session_dir,
            advertise=options.advertise,
            cluster_id=options.cluster_id,
            refuse_after_s=options.refuse_groups_after or None,
        )
        running = await start_head(wanted, _complain)
        autoscaling = await _begin_autoscaling(options, running)
    except StartError as exc:
        _say(options.announce, {"error": str(exc)})
        _complain(f"not started: {exc}")
        return 1
    _say(
        options.announce,
        {
            "serving": running.address,
            "join": running.join_string.text(),
            "cluster": running.cluster_id,
            "pid": os.getpid(),
        },
    )
    failed = loop.create_task(running.server.run())
    stopped = loop.create_task(stop.wait())
    await asyncio.wait([failed, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    status = 0
    if failed.done() and failed.exception() is not None:
        _complain(f"the head ends: {failed.exception()}")
        _say(options.announce, {"error": str(failed.exception())})
        status = 1
    for task in (failed, *autoscaling):
        task.cancel()
    await asyncio.gather(*autoscaling, return_exceptions=True)
    await running.close()
    return status


async def _begin_autoscaling(options: argparse.Namespace, running: RunningHead) -> list[asyncio.Task[None]]:
    """Have nodes started as they are needed, if that was asked for; return the task that does it.

    Raises:
        StartError: it makes no sense what it was told.
    """
    from orchestrator.autoscaler.beside_head import Autoscaler, forget
    from orchestrator.autoscaler.config import ConfigError
    from orchestrator.autoscaler.files import check, read_file
    from orchestrator.autoscaler.providers import ClusterFacts
    from orchestrator.gcs.starting import StartError

    if not options.autoscaler:
        await forget(running.server)
        return []
    join = running.join_string.text()
    facts = ClusterFacts(join, options.session_dir, os.getppid(), options.trusted_network)
    try:
        autoscaler = Autoscaler(running.server, check(read_file(options.autoscaler)), facts, _complain)
    except ConfigError as exc:
        await running.close()
        raise StartError(f"the autoscaler can't be started: {exc}") from None
    await autoscaler.announce()
    return [asyncio.get_running_loop().create_task(autoscaler.run())]


def _say(announce: str, message: dict[str, object]) -> None:
    if announce:
        with open(f"{announce}.new", "w", encoding="utf-8") as file:
            json.dump(message, file)
        os.replace(file.name, announce)
    try:
        print(json.dumps(message), flush=True)
    except OSError:
        pass  # whoever started it is gone, or does not listen


def _complain(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text[:2000]}", file=sys.stderr, flush=True)


def _run() -> NoReturn:
    sys.exit(main())


if __name__ == "__main__":
    _run()

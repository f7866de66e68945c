"""The command line: ``python -m plasma serve PATH`` and ``python -m plasma inspect PATH``."""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
from collections.abc import Sequence

from plasma.errors import PlasmaError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes from ``"4096"``, ``"512M"``, ``"2GiB"``; units are powers of 1024.

    Raises ValueError for other text.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if match is None:
        raise ValueError(f"not a size: {text!r} (examples: 4096, 512M, 2G)")
    return int(float(match[1]) * _UNITS[match[2]])


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m plasma", description="A shared-memory object store.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="keep a store at PATH until interrupted")
    serve.add_argument("path", metavar="PATH", help="the socket to listen at, in a directory of mode 0700")
    serve.add_argument(
        "--size", type=_size, metavar="BYTES", help="such as 512M or 4G (default: a share of the RAM)"
    )
    serve.add_argument("-v", "--verbose", action="store_true", help="log dead clients, too")
    serve.set_defaults(run=_serve)

    inspect = commands.add_parser(
        "inspect", help="show what is in the store at PATH, and whether it is sound"
    )
    inspect.add_argument(
        "path", metavar="PATH", help="a server's socket, or /proc/PID/fd/N of a process that has it"
    )
    inspect.add_argument(
        "--largest", type=int, default=10, metavar="N", help="how many objects to list (default: 10)"
    )
    inspect.add_argument("--plain", action="store_true", help="plain text, even on a terminal")
    inspect.set_defaults(run=_inspect)
    return parser


def _serve(options: argparse.Namespace) -> int:
    from plasma.server import serve

    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="plasma: %(message)s"
    )
    with serve(options.path, options.size) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: server.stop())
        print(f"serving {server.store.size_bytes / (1 << 20):.0f} MiB at {server.path}", flush=True)
        server.run()
    server.store.close()
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from plasma.client import connect
    from plasma.inspect import report, show

    store = connect(options.path)
    try:
        result = report(store, largest_count=options.largest)
    finally:
        store.close()
    show(result, plain=options.plain)
    return 0 if result.sound else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status.

    1: the store is damaged; 2: the arguments are wrong or there is no store.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except PlasmaError as error:
        print(f"plasma: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())

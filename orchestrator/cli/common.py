"""What commands have in common: the address, and how they fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click

#: Exit codes beside 0, and click's 2 for a command that is wrong.
FAILED, NO_SESSION = 1, 3

F = TypeVar("F", bound=Callable[..., Any])


def address_option(function: F) -> F:
    """Give a command the option --address."""
    return click.option(
        "--address",
        default=lambda: os.environ.get("ORCHESTRATOR_ADDRESS") or "auto",
        show_default="ORCHESTRATOR_ADDRESS, or auto",
        help="The session: 'auto' for the one on this machine, or its directory.",
    )(function)


def fail(text: object, code: int = FAILED) -> NoReturn:
    """End the command, with its reason on stderr."""
    click.echo(f"error: {text}", err=True)
    sys.exit(code)


@contextmanager
def observing(address: str) -> Iterator[None]:
    """Look at a session, for the time of a command."""
    from orchestrator.api.attached import observe
    from orchestrator.api.session import shutdown
    from orchestrator.exceptions import OrchestratorError

    try:
        observe(address)
    except ConnectionError as error:
        fail(error, NO_SESSION)
    try:
        yield
    except OrchestratorError as error:
        fail(error)
    finally:
        shutdown()

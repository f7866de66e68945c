"""All commands, as one group."""

from __future__ import annotations

import click

from orchestrator import __version__
from orchestrator.cli.sessions import drain, join_string, logs, start, stop
from orchestrator.cli.state import list_, memory, status, summary, timeline


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Sessions that stand on this machine, and clusters of them: begin, look at, end them.

    Exit codes: 0 done; 1 it failed, and stderr says why; 2 the command is wrong; 3 there is no such session.
    """


@cli.command()
def version() -> None:
    """Show the version of this package."""
    click.echo(__version__)


for command in (start, join_string, stop, drain, status, list_, summary, memory, timeline, logs):
    cli.add_command(command)

"""`python -m orchestrator`, and the console script `orchestrator`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        sys.exit(
            f"orchestrator: the command line needs the package {error.name!r}: "
            "pip install 'plasma-orchestrator[cli]'"
        )
    from orchestrator.cli.main import cli

    cli(prog_name="orchestrator")


if __name__ == "__main__":
    main()

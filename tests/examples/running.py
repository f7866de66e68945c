"""How examples are run: as a user would start them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(directory: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs an example in a directory of its own, and expects it to succeed without a word on stderr."""
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stdout
    return finished

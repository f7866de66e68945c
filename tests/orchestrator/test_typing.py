"""Types, as a user's type checker sees them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orchestrator

PROGRAM = Path(__file__).with_name("typed_program.py")

CONFIGURATION = """
[mypy]
strict = true
plugins = orchestrator.mypy_plugin

# The package has its own check, with its own configuration.
[mypy-orchestrator.*,plasma.*,cloudpickle.*]
ignore_errors = true
ignore_missing_imports = true
"""


def test_mypy_understands_a_program(tmp_path: Path) -> None:
    (tmp_path / "mypy.ini").write_text(CONFIGURATION)
    (tmp_path / "program.py").write_text(PROGRAM.read_text())
    environment = dict(os.environ)
    home = Path(orchestrator.__file__).parent.parent
    if home.name != "site-packages":
        environment["MYPYPATH"] = environment["PYTHONPATH"] = str(home)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "program.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr

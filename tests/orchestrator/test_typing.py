"""Types, as a user's type checker sees them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator

HERE = Path(__file__).parent
HOME = Path(orchestrator.__file__).parent.parent

CONFIGURATION = """
[mypy]
strict = true
plugins = orchestrator.mypy_plugin

# The package has its own check, with its own configuration.
[mypy-orchestrator.*,plasma.*,cloudpickle.*]
ignore_errors = true
ignore_missing_imports = true
"""


@pytest.mark.parametrize("program", ["typed_program.py", "typed_actors.py"])
def test_mypy_understands_a_program(program: str, tmp_path: Path) -> None:
    (tmp_path / "mypy.ini").write_text(CONFIGURATION)
    (tmp_path / "program.py").write_text((HERE / program).read_text())
    environment = dict(os.environ)
    if HOME.name != "site-packages":
        environment["MYPYPATH"] = environment["PYTHONPATH"] = str(HOME)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "program.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def test_pyright_understands_a_program(tmp_path: Path) -> None:
    # It was installed beside the interpreter, which need not be on the path.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    pyright = shutil.which("basedpyright", path=path) or shutil.which("pyright", path=path)
    if pyright is None:
        pytest.skip("pyright is not installed")
    program = (HERE / "typed_program.py").read_text().replace("# type: ignore[", "# pyright: ignore[")
    for mypy_s, pyright_s in (
        ("arg-type", "reportArgumentType, reportCallIssue"),
        ("call-overload", "reportArgumentType, reportCallIssue"),
    ):
        program = program.replace(f"pyright: ignore[{mypy_s}]", f"pyright: ignore[{pyright_s}]")
    (tmp_path / "program.py").write_text(program)
    settings = {
        "include": ["program.py"],
        "extraPaths": [str(HOME)],
        "typeCheckingMode": "standard",
        "reportUnnecessaryTypeIgnoreComment": False,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [pyright, "--project", str(tmp_path), "--pythonpath", sys.executable]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr

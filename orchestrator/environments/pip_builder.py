"""The program that builds an environment with packages, on top of the session's interpreter.

    python -m orchestrator.environments.pip_builder ENVIRONMENT.json

It exits with 0 when the environment is there. What it, and the installer, have to say goes to its output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from orchestrator.environments.cache import CachedEnvironment, make_room
from orchestrator.environments.resolved import Resolved, cached_of

_REQUIREMENTS = "requirements.txt"


def build(resolved: Resolved) -> None:
    """Build what is not there yet; of several builders one works, and the others wait for it.

    Raises:
        subprocess.CalledProcessError: the installer failed.
        OSError: no room, no rights.
    """
    cached = cached_of(resolved)
    assert cached is not None
    if cached.complete:
        return
    lock_fd = cached.lock_to_build()
    try:
        if cached.complete:
            return
        cached.clear()
        try:
            _install(cached, resolved["pip"])
        except BaseException:
            cached.clear()
            raise
        cached.mark_complete()
        make_room(os.path.dirname(cached.path), keep=cached.path)
    finally:
        os.close(lock_fd)


def _install(cached: CachedEnvironment, pip: dict) -> None:  # type: ignore[type-arg]
    python = pip["python"]["executable"]
    _run([python, "-m", "venv", "--without-pip", cached.path])
    _let_import(cached, pip["python"]["packages"])
    installer = _installer(python, cached)
    if pip["pip_version"]:
        _run([*installer, "install", "--ignore-installed", f"pip{pip['pip_version']}"])
        installer = [cached.python, "-m", "pip"]
    requirements = os.path.join(cached.path, _REQUIREMENTS)
    with open(requirements, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in pip["lines"])
    _run([*installer, "install", *pip["options"], "-r", requirements])
    if pip["check"]:
        _run([*installer, "check"])


def _let_import(cached: CachedEnvironment, places: list[str]) -> None:
    """What the session's interpreter can import, this one can too, behind its own packages."""
    found = subprocess.run(
        [cached.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    with open(os.path.join(found.stdout.strip(), "zz_session.pth"), "w", encoding="utf-8") as file:
        file.writelines(f"import site; site.addsitedir({place!r})\n" for place in places)


def _installer(python: str, cached: CachedEnvironment) -> list[str]:
    """Return the command of a pip that installs into the new environment."""
    found = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, text=True)
    if found.returncode == 0:
        version = found.stdout.split()[1].split(".")
        if (int(version[0]), int(version[1])) >= (22, 3):
            return [python, "-m", "pip", "--python", cached.python]
    _run([cached.python, "-m", "ensurepip"])
    return [cached.python, "-m", "pip"]


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    for name in ("PYTHONPATH", "PYTHONHOME"):
        environment.pop(name, None)
    print("$", *command, flush=True)
    subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)


def main(path: str) -> int:
    """Build the environment that a file describes; return the exit code."""
    with open(path, encoding="utf-8") as file:
        resolved = json.load(file)
    try:
        build(resolved)
    except subprocess.CalledProcessError as error:
        print(f"{os.path.basename(error.cmd[0])} ended with {error.returncode}", flush=True)
        return 1
    except OSError as error:
        print(f"the environment cannot be built: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

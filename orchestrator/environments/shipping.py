"""What of an environment has to be brought to another node, and the environment as it is there.

A resolved environment names files and directories of one session's directory. On another node the same things
lie in another directory, under the same names, which are those of their content. Wheels that a user has named
lie anywhere; where the same file is not there, they are brought too.

A directory travels as a tar archive.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tarfile
import tempfile

from orchestrator.environments.packages import PACKAGE_BYTES_MAX
from orchestrator.environments.resolved import Resolved, directory_of

#: Of what travels as one: a package, with what an archive takes beside its files.
SHIPPED_BYTES_MAX = 2 * PACKAGE_BYTES_MAX
#: Things that one environment may name.
SHIPPED_COUNT_MAX = 1000

_NAME = re.compile(r"package-[0-9a-f]{32}|[0-9a-f]{32}\.hook|wheel-[0-9a-f]{32}/[^/\0]{1,255}")


def named_in(resolved: Resolved) -> dict[str, str]:
    """Return the names of what an environment needs, and the path of each on this node."""
    paths = [*resolved.get("py_modules", ())]
    if "working_dir" in resolved:
        paths.append(resolved["working_dir"])
    if os.path.isabs(resolved.get("hook", "")):
        paths.append(resolved["hook"])
    named = {os.path.basename(path): path for path in paths}
    for path, digest in (resolved.get("pip") or {}).get("files", {}).items():
        named[f"wheel-{digest[:32]}/{os.path.basename(path)}"] = path
    return named


def is_name(name: str) -> bool:
    """Tell whether this may be the name of something that is brought: it comes from another machine."""
    return _NAME.fullmatch(name) is not None and not name.endswith(("/.", "/.."))


def place_of(name: str, session_dir: str) -> str:
    """Return where something that was brought is on this node."""
    return os.path.join(directory_of(session_dir), name)


def localized(resolved: Resolved, session_dir: str) -> tuple[Resolved, list[str]]:
    """Return an environment of another node as it is on this one, and the names of what is not here yet.

    Raises:
        ValueError: it names what can't be brought.
    """
    here = dict(resolved)
    names = {path: name for name, path in named_in(resolved).items()}
    if len(names) > SHIPPED_COUNT_MAX or not all(map(is_name, names.values())):
        raise ValueError(f"it names {len(names)} files, or names that are none")
    places = {path: place_of(name, session_dir) for path, name in names.items()}
    pip = resolved.get("pip")
    if pip is not None:
        same = {path for path, digest in pip["files"].items() if _digest_of(path) == digest}
        places.update({path: path for path in same})
        pip = {**pip, "lines": [places.get(line, line) for line in pip["lines"]]}
        pip["files"] = {places[path]: digest for path, digest in pip["files"].items()}
        if not os.path.exists(pip["python"]["executable"]):
            libraries = [path for path in sys.path if os.path.basename(path).endswith("-packages")]
            pip["python"] = {"executable": sys.executable, "version": sys.version, "packages": libraries}
        here["pip"] = pip
    if "working_dir" in here:
        here["working_dir"] = places[here["working_dir"]]
    if "py_modules" in here:
        here["py_modules"] = [places[path] for path in here["py_modules"]]
    if here.get("hook") in places:
        here["hook"] = places[here["hook"]]
    missing = [names[path] for path, place in places.items() if not os.path.exists(place)]
    return here, missing


def _digest_of(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def pack(path: str) -> int:
    """Return a descriptor of a file's bytes, or of an archive of a directory, from the beginning.

    The archive has no name: it is gone with the descriptor.

    Raises:
        OSError: it can't be read, or there is no room for the archive.
    """
    if not os.path.isdir(path):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    os.unlink(temporary)
    try:
        with open(fd, "wb", closefd=False) as file, tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(path, "")
    except BaseException:
        os.close(fd)
        raise
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def unpack(arrived: str, name: str, session_dir: str) -> None:
    """Put what has arrived in a file to where it belongs; the file is gone afterwards.

    Raises:
        OSError: there is no room, or the like.
        ValueError: the archive has something that does not belong into one.
    """
    place = place_of(name, session_dir)
    try:
        if not name.startswith("package-"):
            os.makedirs(os.path.dirname(place), 0o700, exist_ok=True)
            os.rename(arrived, place)
            return
        workplace = tempfile.mkdtemp(prefix="copying-", dir=directory_of(session_dir))
        try:
            _extract(arrived, workplace)
            os.rename(workplace, place)
        except OSError:
            if not os.path.isdir(place):  # else somebody was faster
                raise
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
    finally:
        if os.path.exists(arrived):
            os.unlink(arrived)


def _extract(arrived: str, target: str) -> None:
    links = []
    total_bytes = 0
    with tarfile.open(arrived) as archive:
        for member in archive:
            parts = member.name.split("/")
            total_bytes += member.size
            if member.name.startswith("/") or ".." in parts or total_bytes > SHIPPED_BYTES_MAX:
                raise ValueError(f"the archive of a package has {member.name!r:.200}, or is too large")
            path = os.path.join(target, member.name)
            if member.isdir():
                os.makedirs(path, exist_ok=True)
            elif member.issym():
                links.append((path, member.linkname))
            elif member.isreg():
                source = archive.extractfile(member)
                assert source is not None
                with source, open(path, "xb") as file:
                    shutil.copyfileobj(source, file)
                os.chmod(path, 0o755 if member.mode & 0o100 else 0o644)
            else:
                raise ValueError(f"the archive of a package has {member.name!r:.200}, which is no file")
    for path, goal in links:  # last: nothing is written through a link
        os.symlink(goal, path)

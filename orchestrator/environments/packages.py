"""Directories and files as they are at this moment, copied to where workers find them.

A copy has the name of its content: the same content is copied once a session, however often and by whomever
it is named, and what is changed in the directory later is not seen by workers that stand in the copy. It is
complete as soon as it has its name, so that two processes may copy at the same time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile

from orchestrator.environments.ignore import Ignore

#: The most that is copied. A session's directory is often in memory.
PACKAGE_BYTES_MAX = 500 * 1024 * 1024
#: Paths named in the error for more than that.
_NAMED = 10


def copy_directory(source: str, root: str, excludes: list[str], name: str = "") -> str:
    """Copy a directory, or what is in a zip file, below `root`; return where it is.

    With a `name` the content is in a directory of that name below what is returned.

    Raises:
        ValueError: there is no such directory, or it is larger than `PACKAGE_BYTES_MAX`.
    """
    os.makedirs(root, 0o700, exist_ok=True)
    workplace = tempfile.mkdtemp(prefix="copying-", dir=root)
    try:
        target = os.path.join(workplace, name) if name else workplace
        os.makedirs(target, exist_ok=True)
        if zipfile.is_zipfile(source):
            _extract(source, target)
            digest = _digest_of_file(source)
        elif os.path.isdir(source):
            digest = _copy_tree(source, target, excludes)
        else:
            raise ValueError(f"{source} is neither a directory nor a zip file")
        return _name(workplace, root, digest, name)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def copy_module(source: str, root: str, excludes: list[str]) -> str:
    """Copy what a module is made of below `root`; return the directory to import from.

    Raises:
        ValueError: it is no directory, no `.py` file, no wheel and no zip file, or is too large.
    """
    base = os.path.basename(os.path.normpath(source))
    if os.path.isdir(source):
        return copy_directory(source, root, excludes, base)
    if source.endswith((".whl", ".zip")) and os.path.isfile(source):
        return copy_directory(source, root, excludes)
    if not (source.endswith(".py") and os.path.isfile(source)):
        raise ValueError(f"py_modules: {source} is not a directory, a .py file, a wheel or a zip file")
    os.makedirs(root, 0o700, exist_ok=True)
    workplace = tempfile.mkdtemp(prefix="copying-", dir=root)
    try:
        shutil.copyfile(source, os.path.join(workplace, base))
        return _name(workplace, root, _digest_of_file(source), base)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _name(workplace: str, root: str, digest: str, name: str) -> str:
    """Give a complete copy its name, unless somebody else was first."""
    content = hashlib.sha256(f"{digest}\0{name}".encode()).hexdigest()[:32]
    path = os.path.join(root, f"package-{content}")
    os.chmod(workplace, 0o700)
    try:
        os.rename(workplace, path)
    except OSError:
        if not os.path.isdir(path):
            raise
    return path


def _copy_tree(source: str, target: str, excludes: list[str]) -> str:
    """Copy what is not left out; return a digest of names, modes and contents."""
    files, links, directories = _walk(source, excludes)
    total_bytes = sum(size for _, size in files)
    if total_bytes > PACKAGE_BYTES_MAX:
        raise ValueError(_too_large(source, files, total_bytes))
    digest = hashlib.sha256()
    for path in directories:
        os.makedirs(os.path.join(target, path), exist_ok=True)
        digest.update(f"directory {path}\0".encode(errors="surrogateescape"))
    for path, goal in links:
        os.symlink(goal, os.path.join(target, path))
        digest.update(f"link {path}\0{goal}\0".encode(errors="surrogateescape"))
    for path, size in files:
        copied = os.path.join(target, path)
        shutil.copyfile(os.path.join(source, path), copied)
        executable = os.stat(os.path.join(source, path)).st_mode & stat.S_IXUSR
        os.chmod(copied, 0o755 if executable else 0o644)
        digest.update(f"file {path}\0{size} {executable}\0".encode(errors="surrogateescape"))
        digest.update(_digest_of_file(copied).encode())
    return digest.hexdigest()


def _walk(source: str, excludes: list[str]) -> tuple[list[tuple[str, int]], list[tuple[str, str]], list[str]]:
    """Return (files with sizes, links with their goals, directories), relative and in order."""
    ignore = Ignore()
    files, links, directories = [], [], []

    def visit(folder: str) -> None:
        place = os.path.join(source, folder)
        try:
            with open(os.path.join(place, ".gitignore"), encoding="utf-8", errors="replace") as file:
                ignore.add(file.readlines(), folder)
        except OSError:
            pass
        if not folder:
            ignore.add(excludes)  # after the file of the root, so that they have the last word
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if ignore.matches(path, entry.is_dir(follow_symlinks=False)):
                continue
            if entry.is_symlink():
                links.append((path, _goal(source, entry.path)))
            elif entry.is_dir():
                directories.append(path)
                visit(path)
            elif entry.is_file():
                files.append((path, entry.stat().st_size))

    visit("")
    return files, links, directories


def _goal(source: str, link: str) -> str:
    """Return what a link points at: as it is within the directory, by its whole path outside."""
    goal = os.readlink(link)
    whole = os.path.normpath(os.path.join(os.path.dirname(link), goal))
    within = whole == source or whole.startswith(source + os.sep)
    return goal if within and not os.path.isabs(goal) else whole


def _extract(source: str, target: str) -> None:
    with zipfile.ZipFile(source) as archive:
        total_bytes = sum(info.file_size for info in archive.infolist())
        if total_bytes > PACKAGE_BYTES_MAX:
            sizes = [(info.filename, info.file_size) for info in archive.infolist()]
            raise ValueError(_too_large(source, sizes, total_bytes))
        archive.extractall(target)
    # An archive of one directory stands for what is in it, unless it is a package to import.
    entries = os.listdir(target)
    only = os.path.join(target, entries[0]) if len(entries) == 1 else ""
    if os.path.isdir(only) and not os.path.exists(os.path.join(only, "__init__.py")):
        for entry in os.listdir(only):
            os.rename(os.path.join(only, entry), os.path.join(target, entry + "~"))
        os.rmdir(only)
        for entry in os.listdir(target):
            os.rename(os.path.join(target, entry), os.path.join(target, entry.removesuffix("~")))


def _too_large(source: str, files: list[tuple[str, int]], total_bytes: int) -> str:
    largest = sorted(files, key=lambda item: -item[1])[:_NAMED]
    shown = "\n".join(f"    {size >> 20:6d} MiB  {path}" for path, size in largest)
    return (
        f"{source} has {total_bytes >> 20} MiB, more than {PACKAGE_BYTES_MAX >> 20}; leave out what workers "
        f'do not need, by "excludes" or a .gitignore. The largest files:\n{shown}'
    )


def _digest_of_file(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()

"""Where objects go that memory has no room for: a directory on a disk, gone with the session.

It is `spilled` in the session's directory. That often lies in memory itself (`/run/user`, and `/tmp` on
some systems), where nothing would be gained; then, and when the user has chosen a directory, `spilled` is a
link to a directory of the session's own elsewhere. So whoever removes the session's directory, be it the next
session of this user, finds the files as well.
"""

from __future__ import annotations

import os

#: its name in the session's directory
SPILLED = "spilled"
#: filesystems whose files are in memory
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def choose_path(
    session_path: str, chosen: str | None, *, mountinfo_path: str = "/proc/self/mountinfo"
) -> str:
    """Return the path of the session's spill directory, which need not exist yet.

    Args:
        session_path: the session's directory, which need not exist either.
        chosen: the directory that the user wants it in; it is made if need be.

    Raises:
        OSError: the chosen directory cannot be made or written to.
    """
    name = f"orchestrator-{SPILLED}-{os.path.basename(session_path)}"
    if chosen is not None:
        try:
            os.makedirs(chosen, exist_ok=True)
            if not os.access(chosen, os.W_OK | os.X_OK):
                raise PermissionError(13, "not writable")
        except OSError as error:
            raise type(error)(
                error.errno, f"init(object_spilling_directory={chosen!r}): {error.strerror}"
            ) from None
        return os.path.join(os.path.abspath(chosen), name)
    if not is_in_memory(session_path, mountinfo_path):
        return os.path.join(session_path, SPILLED)
    for parent in (os.environ.get("TMPDIR") or "/tmp", "/var/tmp"):
        if os.access(parent, os.W_OK | os.X_OK) and not is_in_memory(parent, mountinfo_path):
            return os.path.join(parent, name)
    return os.path.join(session_path, SPILLED)


def is_in_memory(path: str, mountinfo_path: str = "/proc/self/mountinfo") -> bool:
    """Tell whether files at this path, which need not exist, take up memory."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(mountinfo_path) as file:
            for line in file:
                mount, _, filesystem = line.partition(" - ")
                if mount.split()[2] == wanted:
                    return filesystem.split()[0] in _IN_MEMORY
    except (OSError, IndexError):
        pass
    return False


def link(session_path: str, path: str) -> None:
    """Have the session's directory, which exists by now, lead to the spill directory."""
    place = os.path.join(session_path, SPILLED)
    if path != place:
        os.symlink(path, place)


def remove_linked(session_path: str) -> None:
    """Remove what `link` has pointed to. Never fails."""
    try:
        path = os.readlink(os.path.join(session_path, SPILLED))
    except OSError:
        return
    # Not whatever somebody may have made it point to.
    if not os.path.basename(path).startswith(f"orchestrator-{SPILLED}-"):
        return
    try:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)
    except OSError:
        pass

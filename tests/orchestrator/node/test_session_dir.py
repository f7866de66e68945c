"""The directory of a session belongs to one user, and is gone with the session."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from orchestrator.node import session_dir
from orchestrator.node.session_dir import (
    new_session_path,
    open_session_dir,
    remove_session_dir,
    runtime_root,
    sweep_dead_sessions,
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of our own; sessions live in `orchestrator` below it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "orchestrator"


def test_it_is_private(root: Path) -> None:
    path = new_session_path()
    lock_fd = open_session_dir(path)
    assert Path(path).parent == root
    for directory in (root, Path(path), Path(path, "logs")):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    remove_session_dir(path)
    assert not root.exists(), "the last one takes the parent along"
    os.close(lock_fd)


def test_two_sessions_do_not_meet(root: Path) -> None:
    paths = [new_session_path() for _ in range(2)]
    fds = [open_session_dir(path) for path in paths]
    remove_session_dir(paths[0])
    assert not Path(paths[0]).exists() and Path(paths[1], "logs").exists()
    for fd in fds:
        os.close(fd)


def test_without_a_runtime_directory_it_is_one_per_user_in_tmp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert runtime_root() == str(tmp_path / f"orchestrator-{os.getuid()}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "does not exist"))
    assert runtime_root() == str(tmp_path / f"orchestrator-{os.getuid()}")


def test_a_directory_of_somebody_else_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    monkeypatch.setattr(session_dir.os, "getuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="belongs to user"):
        open_session_dir(str(root / "session-1-ab"))


def test_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="is not a directory"):
        open_session_dir(str(root / "session-1-ab"))


def test_an_open_directory_of_ones_own_is_closed(root: Path) -> None:
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    os.close(open_session_dir(str(root / "session-1-ab")))
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_only_directories_that_nobody_holds_are_swept(root: Path) -> None:
    living, dead = (str(root / f"session-1-{name}") for name in ("living", "dead"))
    lock_fd = open_session_dir(living)
    os.close(open_session_dir(dead))
    (root / "not ours").mkdir()
    now_s = os.stat(dead).st_mtime
    assert sweep_dead_sessions(str(root), now_s=now_s) == [], "it may be about to be locked"
    assert sweep_dead_sessions(str(root), now_s=now_s + 3600) == [dead]
    assert sorted(path.name for path in root.iterdir()) == ["not ours", "session-1-living"]
    os.close(lock_fd)


def test_those_of_dead_makers_are_swept_at_once(root: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, unborn = (str(root / f"session-{pid}-ab") for pid in (ended.pid, os.getpid()))
    for path in (dead, unborn):
        os.close(open_session_dir(path))
    assert sweep_dead_sessions(str(root)) == [dead]
    assert os.path.exists(unborn)


def test_removing_follows_no_links(root: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    path = str(root / "session-1-ab")
    os.close(open_session_dir(path))
    os.symlink(precious, os.path.join(path, "link"))
    remove_session_dir(path)
    assert not os.path.exists(path) and (precious / "file").read_text() == "keep"

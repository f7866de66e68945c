"""The node process from its first instruction to its last."""

from __future__ import annotations

import gc
import json
import os
import socket
from typing import Any, NoReturn

from orchestrator.node import system
from orchestrator.node.zygote_link import ZygoteLink


def main(launcher_fd: int) -> NoReturn:
    """Entry point of the process that `launch.spawn` starts."""
    gc.disable()  # while what is made is to stay
    launcher = socket.socket(fileno=launcher_fd)
    config = _read_config(launcher)
    if config is None:
        # Whoever started this was killed meanwhile, and has made a directory that nobody else knows of.
        from orchestrator.node.session_dir import MARK, remove_session_dir

        remove_session_dir(os.environ[MARK])
        os._exit(1)
    status = 1
    try:
        cluster = config.get("cluster")
        ours = [config["lock_fd"], launcher_fd, *([cluster["listen_fd"]] if cluster else [])]
        system.unblock_signals()
        zygote = ZygoteLink(config["store_fd"], config["info"])
        # Before anything else, the imports below too: its own take the longest, and go on beside all that
        # follows.
        zygote.start_by_fork(close_fds=ours)

        from orchestrator.node.daemon import Daemon
        from orchestrator.node.logs import note
        from orchestrator.node.session_dir import sweep_dead_sessions

        system.adopt_orphans()
        system.raise_descriptor_limit()
        daemon = Daemon(config, launcher, zygote)
        gc.freeze()
        gc.enable()
        try:
            reason = daemon.run()
            note(f"ended: {reason}")
            _tell_end(launcher, reason)
            sweep_dead_sessions(os.path.dirname(config["session_dir"]))
            status = 0
        finally:
            daemon.close()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        system.kill_children_until_none(timeout_s=0.5)
        if status == 0 or os.getppid() != config["parent_pid"]:
            from orchestrator.node.session_dir import remove_session_dir

            remove_session_dir(config["session_dir"])  # else the driver reads the log first
        os._exit(status)


def _tell_end(launcher: socket.socket, reason: str) -> None:
    try:
        launcher.sendall(json.dumps({"ended": reason}).encode() + b"\n")
    except OSError:
        pass  # the driver is gone, or has closed its end


def _read_config(launcher: socket.socket) -> dict[str, Any] | None:
    """Return what the launcher says, and with it the descriptors that it has sent; None if it hung up."""
    data, fds, _, _ = socket.recv_fds(launcher, 65536, 3)
    while data and not data.endswith(b"\n"):
        piece = launcher.recv(65536)
        if not piece:
            return None
        data += piece
    if not data:
        return None
    config: dict[str, Any] = json.loads(data)
    config["store_fd"], config["lock_fd"], *rest = fds
    if rest:
        config["cluster"]["listen_fd"] = rest[0]
    for fd in (*fds, launcher.fileno()):
        os.set_inheritable(fd, False)
    return config

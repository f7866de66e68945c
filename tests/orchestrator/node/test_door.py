"""The door of a standing session: who is let in, and who is told why not."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.node import door as doors
from orchestrator.node.door import HELLO_BYTES_MAX, HELLO_TIMEOUT_S, Door
from orchestrator.node.reactor import Reactor

HELLO = {"op": "hello", "version": "1.0", "python": list(sys.version_info[:2]), "pid": 1}


class House:
    """A door in a loop that the test turns."""

    def __init__(self, path: Path, callers_max: int = 8) -> None:
        self.path = str(path / "node.sock")
        self.reactor = Reactor()
        self.gone: list[str] = []
        self.complaints: list[str] = []
        self.segment_fd = os.memfd_create("segment")
        self.door = Door(
            self.path,
            self.reactor,
            version="1.0",
            segment_fd=self.segment_fd,
            facts=lambda: {"session": "s"},
            on_gone=self.gone.append,
            complain=self.complaints.append,
            callers_max=callers_max,
        )
        self.socks: list[socket.socket] = []

    def call(self) -> socket.socket:
        """Connect, and have the door open."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socks.append(sock)
        sock.settimeout(30.0)
        sock.connect(self.path)
        self.reactor.run_once(30.0)
        return sock

    def say(self, sock: socket.socket, data: bytes) -> tuple[dict[str, Any], list[int]]:
        """Say something and return the answer."""
        sock.sendall(data)
        self.reactor.run_once(30.0)
        answer, fds, _, _ = socket.recv_fds(sock, 65536, 4)
        return json.loads(answer), fds

    def greet(self, **changes: Any) -> tuple[socket.socket, dict[str, Any], list[int]]:
        sock = self.call()
        return sock, *self.say(sock, json.dumps({**HELLO, **changes}).encode() + b"\n")

    def close(self) -> None:
        self.door.close()
        self.reactor.close()
        os.close(self.segment_fd)
        for sock in self.socks:
            sock.close()


@pytest.fixture
def house(no_leaks: None, tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path)
    yield built
    built.close()


def test_a_driver_gets_a_ticket_and_the_segment(house: House) -> None:
    _, answer, fds = house.greet()
    assert answer["op"] == "welcome" and answer["session"] == "s"
    caller = house.door.caller(answer["ticket"])
    assert caller is not None and caller.pid == os.getpid()
    assert os.fstat(fds[0]).st_ino == os.fstat(house.segment_fd).st_ino
    os.close(fds[0])
    assert not house.complaints


def test_a_hello_may_come_in_pieces(house: House) -> None:
    sock = house.call()
    line = json.dumps(HELLO).encode() + b"\n"
    sock.sendall(line[:10])
    house.reactor.run_once(30.0)
    answer, fds = house.say(sock, line[10:])
    assert answer["op"] == "welcome"
    os.close(fds[0])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "one line of at most"),
        (b"\x00\xff\xfe\n", "no hello"),
        (b"[1, 2]\n", "no hello"),
        (b'{"op": "welcome"}\n', "no hello"),
        (b"[" * 4000 + b"\n", "no hello"),
        (b"x" * (HELLO_BYTES_MAX + 1), "one line of at most"),
        (json.dumps({**HELLO, "version": "0.9"}).encode() + b"\n", "version 1.0 .* the driver 0.9"),
        (json.dumps({**HELLO, "version": ["x"] * 900}).encode()[:4000] + b"\n", "no hello"),
        (json.dumps({**HELLO, "python": [2, 7]}).encode() + b"\n", r"Python 3.*\[2, 7\]"),
        (json.dumps({**HELLO, "python": None}).encode() + b"\n", "same minor version"),
    ],
)
def test_whoever_says_something_else_is_told_so_and_counted(house: House, data: bytes, text: str) -> None:
    answer, fds = house.say(house.call(), data)
    assert answer["op"] == "refused" and not fds
    assert re.search(text, answer["error"], re.DOTALL), answer["error"]
    assert house.door.refused_count == 1 and len(house.complaints) == 1
    _, answer, fds = house.greet()
    assert answer["op"] == "welcome", "the next one is let in"
    os.close(fds[0])


def test_whoever_says_nothing_is_turned_away_after_a_while(house: House) -> None:
    sock = house.call()
    house.door.tick(time.monotonic())
    assert house.door.refused_count == 0
    house.door.tick(time.monotonic() + HELLO_TIMEOUT_S)
    assert house.door.refused_count == 1
    assert b"said nothing sensible" in sock.recv(65536)
    assert sock.recv(1) == b""


def test_too_many(no_leaks: None, tmp_path: Path) -> None:
    house = House(tmp_path, callers_max=2)
    fds = [house.greet()[2][0] for _ in range(2)]
    sock = house.call()
    assert b"takes no more" in sock.recv(65536)
    house.socks[0].close()
    house.reactor.run_once(30.0)
    _, answer, more = house.greet()
    assert answer["op"] == "welcome", "one has left"
    for fd in fds + more:
        os.close(fd)
    house.close()


def test_talking_after_the_hello_is_the_end(house: House) -> None:
    sock, answer, fds = house.greet()
    os.close(fds[0])
    refused, _ = house.say(sock, b"anything")
    assert "nothing to be said" in refused["error"]
    assert house.gone == [answer["ticket"]]


def test_the_end_of_a_connection_is_the_driver_s(house: House) -> None:
    sock, answer, fds = house.greet()
    os.close(fds[0])
    sock.close()
    house.reactor.run_once(30.0)
    assert house.gone == [answer["ticket"]] and house.door.caller(answer["ticket"]) is None


def test_a_killed_driver_whose_child_keeps_the_connection(house: House) -> None:
    program = (
        "import json, os, socket, sys, time\n"
        f"sock = socket.socket(socket.AF_UNIX); sock.connect({house.path!r})\n"
        f"sock.sendall({json.dumps(HELLO).encode() + bytes([10])!r})\n"
        "sock.recv(65536)\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(1000)\n"
        "print(child, flush=True); time.sleep(1000)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    house.reactor.run_once(30.0)
    house.reactor.run_once(30.0)
    child = int(process.stdout.readline())
    try:
        process.kill()
        house.reactor.run_once(30.0)
        assert len(house.gone) == 1, "its process is watched too"
    finally:
        os.kill(child, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_nobody_is_let_in_once_the_end_has_begun(house: House) -> None:
    house.door.closed_because = "this session is about to end"
    _, answer, _ = house.greet()
    assert answer == {"op": "refused", "error": "this session is about to end"}


def test_other_users_are_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "_peer", lambda sock: (7, os.getuid() + 1))
    sock = house.call()
    assert b"belongs to user" in sock.recv(65536)

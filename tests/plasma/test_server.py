"""Strangers find a store at a path; nobody else gets in, and nobody can hold the server up."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

import plasma
from plasma import server as server_module
from plasma.client import connect
from plasma.errors import LayoutVersionError, NotAStoreError, UsageError
from plasma.server import HELLO, MAGIC, PROTOCOL_VERSION, Server, Verdict
from plasma.testing import assert_sound, temporary_store
from tests.waiting import until


@pytest.fixture
def path(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path / "store"


@contextlib.contextmanager
def running(path):
    """A server in a thread, and at the end a sound store."""
    with temporary_store() as store, Server(path, store) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


@pytest.fixture
def server(path):
    with running(path) as server:
        yield server


def dial(path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(20)
    sock.connect(str(path))
    return sock


def hung_up(sock) -> bool:
    """True when the server has ended the connection without another word."""
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


def test_a_client_sees_what_the_server_has_and_the_other_way_round(server, path):
    with contextlib.closing(connect(path)) as store:
        assert store.load(server.store.put("from the server"), 0) == "from the server"
        assert server.store.load(store.put([1, 2]), 0) == [1, 2]


def test_a_process_that_knows_only_the_path(server, path):
    code = (
        "import sys, plasma, numpy\n"
        "store = plasma.connect(sys.argv[1])\n"
        "array = plasma.empty((3, 4), 'f4'); array[:] = 7\n"
        "object_id = plasma.put(array)\n"
        "store.add_ref(object_id)\n"
        "assert plasma.get(object_id).sum() == 84\n"
        "print(object_id.hex())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert len(bytes.fromhex(done.stdout.strip())) == 16
    assert done.stderr == ""


def test_a_killed_client_is_reaped_at_once(server, path):
    code = (
        "import sys, plasma\n"
        "store = plasma.connect(sys.argv[1])\n"
        "unsealed = store.create_buffer(bytes(16), 1 << 20)\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with client:
        assert client.stdout.readline() == "ready\n"
        assert server.store.state(bytes(16)) == plasma.CREATED
        client.kill()
        until(lambda: server.store.state(bytes(16)) == plasma.ABSENT)
    until(lambda: server.client_count == 0)
    assert_sound(server.store)


def test_closing_a_store_ends_its_connection_in_the_end(server, path):
    store = connect(path)
    until(lambda: server.client_count == 1)
    store.close()
    del store
    until(lambda: server.client_count == 0)


def test_many_clients_at_once(server, path):
    stores: list = []
    threads = [threading.Thread(target=lambda: stores.append(connect(path))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({store.address for store in stores}) == 20
    for store in stores:
        store.close()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0", b"x" * 100_000, MAGIC + b"\xff" * 100])
def test_garbage_is_dropped_and_others_are_served(server, path, garbage, caplog):
    with dial(path) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(garbage)
        assert hung_up(sock)
    assert server.dropped_count == 1
    assert "dropped process" in caplog.text
    connect(path).close()


def test_talking_after_the_hello_is_dropped(server, path):
    with dial(path) as sock:
        sock.sendall(HELLO.pack(MAGIC, PROTOCOL_VERSION, 0))
        _, fds, _, _ = socket.recv_fds(sock, HELLO.size, 4)
        os.close(fds[0])
        sock.sendall(b"?")
        assert hung_up(sock)


def test_the_slow_and_the_silent_run_out_of_time(path, monkeypatch):
    monkeypatch.setattr(server_module, "HELLO_TIMEOUT_S", 0.05)
    with running(path) as server, dial(path) as silent, dial(path) as slow:
        slow.sendall(MAGIC)
        connect(path).close()
        assert hung_up(silent)
        assert hung_up(slow)
        assert server.dropped_count == 2


def test_too_many_connections(path, monkeypatch):
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 2)
    with running(path) as server:
        stores = [connect(path), connect(path)]
        with pytest.raises(NotAStoreError):
            connect(path)
        assert server.dropped_count == 1
        for store in stores:
            store.close()


def test_another_version_of_the_protocol(server, path, monkeypatch):
    with dial(path) as sock:
        sock.sendall(HELLO.pack(MAGIC, PROTOCOL_VERSION + 1, 0))
        assert HELLO.unpack(sock.recv(100)) == (MAGIC, PROTOCOL_VERSION, Verdict.OTHER_VERSION)
        assert hung_up(sock)
    monkeypatch.setattr("plasma.client.PROTOCOL_VERSION", PROTOCOL_VERSION + 1)
    with pytest.raises(LayoutVersionError, match="version"):
        connect(path)


def test_another_user(server, path, monkeypatch):
    monkeypatch.setattr(server_module, "_peer", lambda sock: (1, os.getuid() + 1))
    with pytest.raises(NotAStoreError):
        connect(path)


# ---------------------------------------------------------------------------------------- where a server may
# be


def test_others_must_not_enter_the_directory(tmp_path):
    tmp_path.chmod(0o755)
    with temporary_store() as store, pytest.raises(UsageError, match="chmod 700"):
        Server(tmp_path / "store", store)


def test_a_missing_directory_is_made_private(tmp_path):
    with running(tmp_path / "new" / "store") as server:
        assert server.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_place_that_is_taken(server, path):
    with pytest.raises(UsageError, match="another server"):
        Server(path, server.store)
    (path.parent / "file").write_text("precious")
    with pytest.raises(UsageError, match="a file is there"):
        Server(path.parent / "file", server.store)
    assert (path.parent / "file").read_text() == "precious"


def test_a_dead_server_is_replaced_and_a_stopped_one_leaves_nothing(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
        dead.listen()
    with running(path):
        connect(path).close()
    assert not path.exists()


def test_a_path_longer_than_an_address(tmp_path):
    with running(tmp_path / ("d" * 100) / ("s" * 50)) as server:
        connect(server.path).close()


# ---------------------------------------------------------------------------------------- what connect
# refuses


def test_nothing_there(path):
    with pytest.raises(NotAStoreError, match="No such file"):
        connect(path)


def test_a_directory_and_a_device(path):
    for place in (path.parent, "/dev/null"):
        with pytest.raises(NotAStoreError, match="neither a socket nor a file"):
            connect(place)


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(1 << 16), b"\x89plasma\x01" * 10_000], ids=len)
def test_a_file_that_is_no_store(path, content):
    path.write_bytes(content)
    with pytest.raises(NotAStoreError, match=re.escape(str(path))):
        connect(path)


def test_a_truncated_copy_of_a_store(server, path):
    copy = path.parent / "copy"
    copy.write_bytes(os.pread(server.store.fd, 100_000, 0))
    with pytest.raises(NotAStoreError):
        connect(copy)


def test_a_dead_socket(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with pytest.raises(NotAStoreError, match="refused"):
        connect(path)


@contextlib.contextmanager
def impostor(path, answer, fds=()):
    """A socket that takes one caller, says ``answer`` and hangs up."""

    def play():
        caller, _ = listener.accept()
        with caller:
            caller.recv(100)
            with contextlib.suppress(OSError):
                socket.send_fds(caller, [answer], list(fds))

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=play)
        thread.start()
        yield
        thread.join()


WELCOME = HELLO.pack(MAGIC, PROTOCOL_VERSION, Verdict.WELCOME)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x", WELCOME[:10], WELCOME, HELLO.pack(MAGIC, 1, 9)]
)
def test_a_foreign_server(path, answer):
    with impostor(path, answer), pytest.raises(NotAStoreError):
        connect(path)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_server_that_sends_foreign_descriptors_leaks_none(path, count):
    before = len(os.listdir("/proc/self/fd"))
    with open("/dev/zero", "rb") as file, impostor(path, WELCOME, [file.fileno()] * count):
        with pytest.raises(NotAStoreError):
            connect(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_silent_server(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(NotAStoreError, match="in time"):
            connect(path, timeout_s=0.05)


def test_a_server_that_is_too_busy_to_accept(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with dial(path), pytest.raises(NotAStoreError, match="in time"):
            connect(path, timeout_s=0.05)


# ---------------------------------------------------------------------------------------- the command


def test_serving_from_the_command_line(path):
    command = [sys.executable, "-m", "plasma", "serve", str(path), "--size", "16M"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert "serving 16 MiB" in process.stdout.readline()
            with contextlib.closing(connect(path)) as store:
                assert store.load(store.put("x"), 0) == "x"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        assert process.stderr.read() == ""
    assert not path.exists()

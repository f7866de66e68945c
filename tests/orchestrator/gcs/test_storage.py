"""What every storage must do, done with each of them; and what only one can do wrong."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.gcs.effects import Write
from orchestrator.gcs.storage import Storage, StorageError, open_storage
from orchestrator.gcs.storage.redis import RedisStorage
from tests.orchestrator.gcs.conftest import RedisServer

Open = Callable[[], Storage]


def new_url(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return f"{server.url}?prefix={os.urandom(4).hex()}"
    return "memory" if kind == "memory" else f"sqlite://{folder}/gcs.db"


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request: pytest.FixtureRequest, folder: Path) -> str:
    return new_url(request.param, request, folder)


@pytest.fixture(params=["sqlite", "redis"])
def durable_url(request: pytest.FixtureRequest, folder: Path) -> str:
    """Of those that outlive the process."""
    return new_url(request.param, request, folder)


texts = st.text(st.characters(codec="utf-8"), max_size=20)
writes = st.builds(Write, st.sampled_from(["a", "b:c", "é"]), texts, st.none() | st.binary(max_size=50))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(batches=st.lists(st.lists(writes, max_size=8), max_size=6))
def test_it_has_what_was_committed(url: str, batches: list[list[Write]]) -> None:
    storage = open_storage(url)
    model: dict[str, dict[str, bytes]] = storage.load()  # what the example before has left
    for batch in batches:
        storage.commit(batch)
        for table, key, value in batch:
            rows = model.setdefault(table, {})
            rows.pop(key, None)
            if value is not None:
                rows[key] = value
    assert storage.load() == {table: rows for table, rows in model.items() if rows}
    storage.close()


def test_a_large_value_survives(url: str) -> None:
    storage = open_storage(url)
    value = os.urandom(5 << 20)
    storage.commit([Write("t", "k", value)])
    assert storage.load()["t"]["k"] == value
    storage.close()


def test_it_is_there_when_it_is_opened_again(durable_url: str) -> None:
    storage = open_storage(durable_url)
    storage.commit([Write("t", "k", b"v"), Write("t", "gone", b"v")])
    storage.commit([Write("t", "gone", None)])
    storage.close()
    again = open_storage(durable_url)
    assert again.load() == {"t": {"k": b"v"}}
    again.close()


COMMITTER = """
import sys
from orchestrator.gcs.effects import Write
from orchestrator.gcs.storage import open_storage
storage = open_storage(sys.argv[1])
for number in range(1_000_000):
    storage.commit([Write("t", f"{number}-{part}", b"v") for part in range(3)])
    print(number, flush=True)
"""


def test_a_process_that_is_killed_loses_no_commit_and_leaves_none_half(durable_url: str) -> None:
    for round_number in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", COMMITTER, durable_url], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            acknowledged = -1
            for line in process.stdout:
                acknowledged = int(line)
                if acknowledged >= 20 + round_number * 7:
                    process.send_signal(signal.SIGKILL)
                    break
            acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
        storage = open_storage(durable_url)
        rows = storage.load()["t"]
        storage.close()
        numbers = {int(key.partition("-")[0]) for key in rows}
        assert set(range(acknowledged + 1)) <= numbers
        assert all(f"{number}-{part}" in rows for number in numbers for part in range(3))


# ---------------------------------------------------------------- SQLite


def test_a_second_head_on_one_file_is_refused(folder: Path) -> None:
    first = open_storage(f"sqlite://{folder}/gcs.db")
    with pytest.raises(StorageError, match="in use by another head"):
        open_storage(f"sqlite://{folder}/gcs.db")
    first.close()


def test_the_file_is_private(folder: Path) -> None:
    storage = open_storage(f"sqlite://{folder}/gcs.db")
    storage.commit([Write("t", "k", b"v")])
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    storage.close()


def test_a_file_of_something_else_is_refused(folder: Path) -> None:
    (folder / "text.db").write_text("not a database, but long enough to look like one" * 100)
    with pytest.raises(StorageError, match="damaged, or no database"):
        open_storage(f"sqlite://{folder}/text.db")
    database = sqlite3.connect(folder / "other.db")
    database.execute("PRAGMA application_id=42")
    database.execute("CREATE TABLE t (x)")
    database.close()
    with pytest.raises(StorageError, match="of program 0x2a"):
        open_storage(f"sqlite://{folder}/other.db")
    with pytest.raises(StorageError, match="cannot be opened"):
        open_storage(f"sqlite://{folder}/missing/gcs.db")


# ---------------------------------------------------------------- Redis


def test_a_head_that_was_replaced_cannot_write_any_more(redis_server: RedisServer) -> None:
    url = f"{redis_server.url}?prefix={os.urandom(4).hex()}"
    first, second = open_storage(url), open_storage(url)
    second.commit([Write("t", "k", b"second")])
    with pytest.raises(StorageError, match="another head has taken over"):
        first.commit([Write("t", "k", b"first")])
    assert second.load() == {"t": {"k": b"second"}}
    first.close()
    second.close()


def test_a_commit_waits_for_redis_to_come_back(redis_server: RedisServer) -> None:
    def bring_it_back(pause_s: float) -> None:
        if redis_server.process.poll() is not None:
            redis_server.start()

    storage = RedisStorage(f"{redis_server.url}?prefix={os.urandom(4).hex()}", pause=bring_it_back)
    storage.commit([Write("t", "before", b"v")])
    redis_server.stop()
    storage.commit([Write("t", "after", b"v")])
    assert storage.load() == {"t": {"before": b"v", "after": b"v"}}
    storage.close()


def test_no_redis_is_said_at_once_and_without_the_password(folder: Path) -> None:
    with pytest.raises(StorageError, match="does not answer") as found:
        open_storage(f"unix://:secret@{folder}/nothing.sock")
    assert "secret" not in str(found.value)


@pytest.mark.parametrize("url", ["", "postgres://x", "sqlite://relative", "sqlite:///x?mode=fast"])
def test_what_is_no_storage_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"names no|may be"):
        open_storage(url)

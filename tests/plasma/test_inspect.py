"""The report shows what is in a store, on terminals and in pipes, and whether it is sound."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest

import plasma
from plasma import object_id as ids
from plasma.__main__ import main, parse_size
from plasma.inspect import Report, Table, format_size, report, show
from plasma.testing import temporary_store


@pytest.fixture
def store():
    with temporary_store() as store:
        yield store


class Terminal(io.StringIO):
    def isatty(self):
        return True


def text_of(result, file=None, **options) -> str:
    file = file or io.StringIO()
    show(result, file=file, **options)
    return file.getvalue()


def test_the_report_counts_and_lists(store):
    large = store.put(bytes(300_000))
    small = store.put(1)
    pending = ids.new()
    store.declare(pending)
    text = text_of(report(store))
    assert "audit: sound" in text
    assert large.hex() in text
    assert small.hex() in text
    assert "293.0 KiB" in text
    assert "pending" in text
    assert "sealed" in text
    store.drop_ref(pending)


def test_the_largest_objects_come_first_and_no_more_than_asked(store):
    objects = {size: store.put(bytes(size)) for size in (100_000, 300_000, 200_000)}
    text = text_of(report(store, largest_count=2))
    assert text.index(objects[300_000].hex()) < text.index(objects[200_000].hex())
    assert objects[100_000].hex() not in text


def test_other_clients_and_channels_are_shown(store):
    other = plasma.Store.attach(store.fd, name="somebody else")
    store.endpoint.sender(other.address, 1).send(b"hello")
    text = text_of(report(store))
    assert re.search(rf"{other.address} +{os.getpid()} +somebody else +active", text)
    assert re.search(r"channels +1\n", text)
    assert str(store.address) not in text.split("Clients")[1].split("Objects")[0].split()
    other.close()


@pytest.mark.parametrize("file", [Terminal, io.StringIO])
def test_a_damaged_store_is_called_so(file):
    result = Report(
        False, ["two objects own byte 4096"], [Table("Store", ("", "value"), [("size", "1 MiB")])]
    )
    text = text_of(result, file())
    assert "DAMAGED: 1 problem(s)" in text
    assert "two objects own byte 4096" in text


def test_terminals_get_tables_and_can_be_told_not_to(store):
    result = report(store)
    assert "─" in text_of(result, Terminal()) or "━" in text_of(result, Terminal())
    assert "─" not in text_of(result, Terminal(), plain=True)


def test_without_rich_a_terminal_gets_text(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert "audit: sound" in text_of(report(store), Terminal())


def test_names_with_markup_are_shown_as_they_are():
    result = Report(True, [], [Table("Clients", ("name",), [("[red]me[/]",)])])
    assert "[red]me[/]" in text_of(result, Terminal())


def test_from_the_command_line(store):
    object_id = store.put("x" * 5000)
    path = f"/proc/{os.getpid()}/fd/{store.fd}"
    done = subprocess.run([sys.executable, "-m", "plasma", "inspect", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert object_id.hex() in done.stdout
    assert "audit: sound" in done.stdout


def test_inspecting_what_is_no_store(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "nothing")]) == 2
    assert "no store at" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, size", [("0", 0), ("4096", 4096), ("1k", 1024), ("1.5 MiB", 1536 << 10), ("2GB", 2 << 30)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1PB", "1 2"])
def test_what_is_no_size(text, capsys):
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)
    with pytest.raises(SystemExit):
        main(["serve", "somewhere", f"--size={text}"])
    assert "not a size" in capsys.readouterr().err


@pytest.mark.parametrize(
    "size, text",
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 40, "5.0 TiB"), (1 << 51, "2048.0 TiB")],
)
def test_formatting_sizes(size, text):
    assert format_size(size) == text

"""From a worker's pipe to lines, messages and files; everything has a bound."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.node import logs
from orchestrator.node.logs import LineSplitter, LogFile, LogKeeper, WorkerStream, encode_batches


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_lines_do_not_depend_on_how_they_were_cut_into_pieces(pieces: list[bytes]) -> None:
    whole, parts = LineSplitter(), LineSplitter()
    expected = whole.feed(b"".join(pieces)) + whole.end()
    lines = [line for piece in pieces for line in parts.feed(piece)] + parts.end()
    assert lines == expected


def test_a_line_that_is_too_long_is_cut_and_says_so() -> None:
    splitter = LineSplitter(line_bytes_max=10)
    assert splitter.feed(b"0123456789abc") == []
    assert splitter.feed(b"def\nnext\n") == ["0123456789 … [6 bytes more]", "next"]


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert LineSplitter().feed(b"caf\xe9\r\n") == ["caf\ufffd"]


def test_batches_hold_all_lines_in_order() -> None:
    lines = [f"line {i} " + "x" * 1000 for i in range(500)]
    batches = encode_batches(7, "Counter", "stderr", lines)
    messages = [json.loads(batch) for batch in batches]
    assert [line for message in messages for line in message["lines"]] == lines
    assert all(len(batch) < 128 * 1024 for batch in batches) and len(batches) > 1
    assert {(m["op"], m["pid"], m["label"], m["stream"]) for m in messages} == {
        ("log", 7, "Counter", "stderr")
    }


@pytest.mark.parametrize("character", ["x", "\x00", "é", "€", '"', "\U0001f600"])
def test_no_line_makes_a_message_too_large(character: str) -> None:
    lines = [character * (logs.LINE_BYTES_MAX // len(character.encode()))] * 3
    batches = encode_batches(7, "", "stdout", lines)
    assert all(len(batch) <= 128 * 1024 - 1024 for batch in batches)
    assert sum(len(json.loads(batch)["lines"]) for batch in batches) == 3


def test_a_file_is_made_at_the_first_line_and_bounded(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "worker.log"), bytes_max=100)
    assert list(tmp_path.iterdir()) == []
    for number in range(50):
        file.write(b"%09d\n" % number)
    file.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"worker.log", "worker.log.1"} and max(sizes.values()) <= 100
    assert (tmp_path / "worker.log").read_text().endswith("000000049\n")


def test_a_directory_that_is_gone_is_no_reason_to_die(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "gone" / "worker.log"))
    file.write(b"lost\n")
    assert not file.was_written


def test_the_files_of_the_last_dead_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILES_OF_THE_DEAD_MAX", 2)
    keeper = LogKeeper(str(tmp_path))
    for token in range(5):
        file = keeper.open(token)
        file.write(b"last words\n")
        keeper.retire(file)
    keeper.retire(keeper.open(99))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["worker-3.log", "worker-4.log"]


def test_a_stream_remembers_the_last_lines(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    file = LogFile(str(tmp_path / "w.log"))
    stream = WorkerStream(read_fd, "stderr", file)
    os.write(write_fd, b"".join(b"line %d\n" % n for n in range(100)) + b"without end")
    lines, at_end = stream.read()
    assert (len(lines), at_end) == (100, False)
    assert stream.read() == ([], False)
    os.close(write_fd)
    assert stream.read() == (["without end"], True)
    assert list(stream.tail) == [f"line {n}" for n in range(61, 100)] + ["without end"]
    stream.close()
    file.close()


def test_the_rest_is_read_without_waiting_for_the_end(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()  # the writing end stays open, as in a grandchild
    os.set_blocking(read_fd, False)
    file = LogFile(str(tmp_path / "w.log"))
    stream = WorkerStream(read_fd, "stdout", file)
    os.write(write_fd, b"one\ntwo")
    assert stream.read_rest() == ["one", "two"]
    stream.close()
    file.close()
    os.close(write_fd)

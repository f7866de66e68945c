"""Spill files: what is written comes back, damage is noticed, and nothing is left of a failed write."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plasma import OutOfDiskError, spill
from plasma.spill import FUSED_BYTES_MIN, Record, UnreadableError, fuse

A, B, C = (bytes([n]) * 16 for n in (0xA0, 0xB0, 0xC0))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = spill.open_directory(str(tmp_path / "spilled"), create=True)
    yield fd
    os.close(fd)


def record(object_id: bytes, size: int) -> Record:
    return Record(object_id, memoryview(object_id * (size // 16) + object_id[: size % 16]))


def read_back(directory: int, file: int, one: Record) -> bytes:
    payload = bytearray(one.payload.nbytes)
    spill.read(directory, file, one.object_id, memoryview(payload))
    return bytes(payload)


def nothing() -> None:
    pass


def test_an_object_comes_back(directory):
    one = record(A, 3_000_000)
    (file,) = spill.write(directory, 7, [one], nothing)
    assert read_back(directory, file, one) == one.payload
    assert spill.view(directory, file, A, 100) == one.payload[:100]


def test_objects_of_one_file_go_one_by_one(directory):
    """Each has its own name; the file goes with the last."""
    records = [record(A, 100), record(B, 0), record(C, 5000)]
    files = spill.write(directory, 1, records, nothing)
    assert os.stat("1", dir_fd=directory).st_nlink == 3
    os.unlink("1", dir_fd=directory)
    os.unlink("2", dir_fd=directory)
    assert read_back(directory, files[2], records[2]) == records[2].payload
    assert os.stat("3", dir_fd=directory).st_nlink == 1


def test_without_hard_links_each_has_a_file(directory, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    records = [record(A, 100), record(B, 200)]
    files = spill.write(directory, 1, records, nothing)
    os.unlink("1", dir_fd=directory)
    assert read_back(directory, files[1], records[1]) == records[1].payload


def test_files_and_their_directory_are_the_user_s_alone(directory, tmp_path):
    spill.write(directory, 1, [record(A, 10)], nothing)
    assert (tmp_path / "spilled").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "spilled" / "1").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "damage, what",
    [
        (lambda path: path.unlink(), "gone"),
        (lambda path: os.truncate(path, 50), "shorter"),
        (lambda path: os.truncate(path, 90), "shorter"),
        (lambda path: path.write_bytes(b"\0" * 1000), "head is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30] + bytes(30)), "checksum"),
    ],
)
def test_damage_is_noticed(directory, tmp_path, damage, what):
    one = record(A, 640)
    (file,) = spill.write(directory, 1, [one], nothing)
    damage(tmp_path / "spilled" / "1")
    with pytest.raises(UnreadableError, match=what):
        read_back(directory, file, one)
    with pytest.raises(UnreadableError, match=what):
        spill.view(directory, file, A, 640)


def test_another_object_s_file_is_not_read(directory):
    (file,) = spill.write(directory, 1, [record(A, 640)], nothing)
    with pytest.raises(UnreadableError, match="another object"):
        read_back(directory, file, record(B, 640))


def test_a_disk_that_is_full_is_said_so_and_nothing_is_left(directory):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutOfDiskError, match="100000 bytes"):
            spill.write(directory, 1, [record(A, 50_000), record(B, 50_000)], nothing)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(directory) == []


@given(st.lists(st.one_of(st.integers(0, 1000), st.integers(0, 3 * FUSED_BYTES_MIN))))
def test_small_objects_share_a_file_and_large_ones_don_t(sizes):
    files = fuse(sizes)
    assert [index for file in files for index in file] == list(range(len(sizes)))
    for file in files:
        assert len(file) == 1 or all(sizes[index] < FUSED_BYTES_MIN for index in file)
        assert sum(sizes[index] for index in file[:-1]) < FUSED_BYTES_MIN

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.telemetry.metrics.value_file import CAPACITY, BrokenValuesError, ValueFile, read_values
from tests.bunriwiki.telemetry.metrics.files import add, put


def test_values_are_read_while_they_are_written(tmp_path: Path) -> None:
    file = ValueFile(tmp_path / "values")
    assert read_values(tmp_path / "values", CAPACITY) == {}
    add(file, "requests", 2)
    add(file, "requests", 0.5)
    put(file, "초", 7)
    assert read_values(tmp_path / "values", CAPACITY) == {"requests": 2.5, "초": 7.0}


def test_a_file_grows_and_its_first_cells_stay_valid(tmp_path: Path) -> None:
    file = ValueFile(tmp_path / "values")
    words, index = file.cell("first")
    for number in range(2_000):
        add(file, f"{number}" + "x" * 100, number)
    words[index] = 1
    found = read_values(tmp_path / "values", 2**20)
    assert found.pop("first") == 1
    assert list(found.values()) == list(range(2_000))


def test_the_file_of_another_process_is_not_taken_over(tmp_path: Path) -> None:
    ValueFile(tmp_path / "values")
    with pytest.raises(FileExistsError):
        ValueFile(tmp_path / "values")


@given(data=st.binary(max_size=200))
def test_any_bytes_are_values_or_broken(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("hostile") / "values"
    path.write_bytes(data)
    with contextlib.suppress(BrokenValuesError):
        assert isinstance(read_values(path, CAPACITY), dict)


def test_a_length_beyond_the_file_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "values"
    path.write_bytes((2**63).to_bytes(8, "little") + bytes(64))
    with pytest.raises(BrokenValuesError, match="claims to use"):
        read_values(path, CAPACITY)


def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(101))
    with pytest.raises(BrokenValuesError):
        read_values(large, 100)
    os.mkfifo(tmp_path / "fifo")  # opening it for reading would wait for a writer
    with pytest.raises(BrokenValuesError):
        read_values(tmp_path / "fifo", 100)
    (tmp_path / "link").symlink_to(large)
    with pytest.raises(OSError, match="symbolic links"):
        read_values(tmp_path / "link", 1000)
    with pytest.raises(FileNotFoundError):
        read_values(tmp_path / "missing", 100)

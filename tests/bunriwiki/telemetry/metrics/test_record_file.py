from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.telemetry.metrics import record_file
from bunriwiki.telemetry.metrics.record_file import AMOUNTS, NOTHING, RECORDS, Field, FullFileError, RecordFile, read_records
from bunriwiki.testing.paths import ROOT

REQUESTS = Field("requests")
SECONDS = Field("seconds", ("seconds<", ">"), ("1.0", "2.5", "+Inf"))


def test_records_are_summed_up(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records")
    assert read_records(tmp_path / "records") == {}
    answered = file.define([[REQUESTS], [SECONDS]])
    failed = file.define([[REQUESTS]])
    assert set(read_records(tmp_path / "records").values()) == {0}
    for seconds in (-1, 0.5, 1, 1.5, 2.5, 3):
        answered(1, seconds)
    failed(1)
    assert read_records(tmp_path / "records") == {
        "requests": 7, "seconds": 7.5, "seconds<1.0>": 3, "seconds<2.5>": 2, "seconds<+Inf>": 1,
    }  # fmt: skip


def test_an_amount_may_change_several_numbers_or_none(tmp_path: Path) -> None:
    record = RecordFile(tmp_path / "records").define([[REQUESTS, Field("answers")], [], [SECONDS, Field("total")]])
    record(1, 5, 2)
    found = {key: value for key, value in read_records(tmp_path / "records").items() if value}
    assert found == {"requests": 1, "answers": 1, "seconds": 2, "seconds<2.5>": 1, "total": 2}


def test_an_amount_that_is_nothing_or_left_out_is_no_observation(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records")
    record = file.define([[REQUESTS], [SECONDS], [Field("called", ("called<", ">"), ("1.0", "+Inf"))]])
    record(1, NOTHING, 0.5)
    record(1, 0.5)
    for _ in range(2):
        found = {key: value for key, value in read_records(tmp_path / "records").items() if value}
        assert found == {"requests": 2, "seconds": 0.5, "seconds<1.0>": 1, "called": 0.5, "called<1.0>": 1}
        file.checkpoint()


def test_each_record_is_counted_once_over_checkpoints(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records")
    answered, failed = file.define([[REQUESTS], [SECONDS]]), file.define([[Field("failures")]])
    for number in range(1, 3 * RECORDS + 2):
        answered(1, 2)
        failed(1)
        if number % 100 == 0 or number % RECORDS > RECORDS - 3:
            found = read_records(tmp_path / "records")
            assert (found["requests"], found["seconds<2.5>"], found["failures"]) == (number, number, number)


@pytest.mark.parametrize("dies", ["before the sums", "after the sums"])
def test_a_writer_that_dies_in_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: str) -> None:
    file = RecordFile(tmp_path / "records")
    answered = file.define([[REQUESTS]])
    add_up = record_file._add_up

    def dying(*given: Any) -> None:
        if dies == "after the sums":
            add_up(*given)
        raise KeyboardInterrupt

    for _ in range(2 * RECORDS - 1):
        answered(1)
    monkeypatch.setattr(record_file, "_add_up", dying)
    with pytest.raises(KeyboardInterrupt):
        answered(1)
    monkeypatch.undo()
    assert read_records(tmp_path / "records") == {"requests": 2 * RECORDS}


def test_amounts_of_a_record_are_read_together(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records")
    write = file.define([[Field(str(number))] for number in range(AMOUNTS)])
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            write(*[1] * AMOUNTS)

    writer = threading.Thread(target=count)
    writer.start()
    try:
        last = 0.0
        while last < 20 * RECORDS:
            found = list(read_records(tmp_path / "records").values())
            assert found == [found[0]] * AMOUNTS
            assert found[0] >= last
            last = found[0]
    finally:
        stop.set()
        writer.join()


WRITER = """
import sys
from pathlib import Path
from bunriwiki.telemetry.metrics.record_file import Field, RecordFile
write = RecordFile(Path(sys.argv[1])).define([[Field("requests")], [Field("seconds", ("<", ">"), ("1", "+Inf"))]])
while True:
    write(1, 2)
    sys.stdout.write(".")
    sys.stdout.flush()
"""


def test_a_killed_writer_loses_no_record(tmp_path: Path) -> None:
    """What it has written to the pipe was counted before: only the last record may not have got there yet."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "records")], cwd=ROOT, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    seen = len(writer.stdout.read(5 * RECORDS + 100))
    writer.kill()
    seen += len(writer.stdout.read())
    writer.stdout.close()
    writer.wait()
    found = read_records(tmp_path / "records")
    assert seen <= found["requests"] <= seen + 1
    assert found["seconds"] == 2 * found["requests"] == 2 * found["<+Inf>"]


def test_a_full_file_takes_no_further_kind_of_record(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records")
    first = file.define([[REQUESTS]])
    for number in range(4):
        file.define([[Field(f"{number}" + "x" * (record_file.DEFINITIONS_BYTES // 5))]])
    with pytest.raises(FullFileError):
        file.define([[Field("5" + "x" * (record_file.DEFINITIONS_BYTES // 5))]])
    with pytest.raises(FullFileError):
        file.define([[Field("many", ("", ""), tuple(map(str, range(record_file.VALUES))))]])
    first(1)
    assert read_records(tmp_path / "records")["requests"] == 1


def test_a_file_that_is_being_created_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "records").touch()
    assert read_records(tmp_path / "records") == {}
    with pytest.raises(FileExistsError):
        RecordFile(tmp_path / "records")

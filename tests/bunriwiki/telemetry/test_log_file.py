from __future__ import annotations

import gzip
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bunriwiki.telemetry.log_file import DAY, LogFile
from bunriwiki.testing.waiting import wait_until

WRITER = """
import sys
from pathlib import Path
from bunriwiki.telemetry.log_file import LogFile

path, name, lines, max_bytes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
file = LogFile(path, roll_days=3, max_bytes=max_bytes, keep=10_000)
for number in range(lines):
    file.write(f"{name} {number} {'x' * (number % 300)} end\\n")
    print(number, flush=True)
file.close()
"""


class Clock:
    def __init__(self, days: float) -> None:
        self.seconds = days * DAY

    def __call__(self) -> float:
        self.seconds += 0.001
        return self.seconds


def rolled(folder: Path) -> list[Path]:
    return sorted(folder.glob("logfile.2*")) + sorted(folder.glob("logfile.1*"))


def text(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()


def every_line(folder: Path) -> list[str]:
    # A process that is killed right after it rolled the file leaves none of this name.
    return [line for path in [*rolled(folder), *folder.glob("logfile.log")] for line in text(path).splitlines()]


def test_a_file_is_rolled_by_size_and_compressed(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "logfile.log", roll_days=3, max_bytes=100, keep=50)
    lines = [f"line {number} 온도" for number in range(60)]
    for line in lines:
        file.write(line + "\n")
    file.close()
    file.tidy()
    assert len(rolled(tmp_path)) > 5
    assert {path.suffix for path in rolled(tmp_path)} == {".gz"}
    assert every_line(tmp_path) == lines


def test_a_file_is_rolled_at_the_first_line_of_a_new_period(tmp_path: Path) -> None:
    path = tmp_path / "logfile.log"
    path.write_text("of today\n")
    today = path.stat().st_mtime // (3 * DAY) * 3  # the first day of the period
    clock = Clock(today + 2.9)
    file = LogFile(path, roll_days=3, max_bytes=10**6, keep=5, clock=clock)
    file.write("of the same period\n")
    assert rolled(tmp_path) == []
    clock.seconds = (today + 3.1) * DAY
    file.write("of the next period\n")
    file.close()
    assert [text(found) for found in rolled(tmp_path)] == ["of today\nof the same period\n"]
    assert path.read_text() == "of the next period\n"


def test_the_oldest_rolled_files_are_deleted(tmp_path: Path) -> None:
    clock = Clock(20_000)
    file = LogFile(tmp_path / "logfile.log", roll_days=3 * 10**6, max_bytes=1, keep=3, clock=clock)
    for number in range(10):
        file.write(f"{number}\n")
    file.close()
    file.tidy()
    assert [text(path) for path in rolled(tmp_path)] == ["6\n", "7\n", "8\n"]
    assert (tmp_path / "logfile.log").read_text() == "9\n"


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("logfile.txt", "logfile.old.log", "other.20260101T000000.000000.log")]
    for other in others:
        other.touch()
    file = LogFile(tmp_path / "logfile.log", roll_days=3, max_bytes=1, keep=0)
    file.tidy()
    file.close()
    assert all(other.exists() for other in others)


def test_a_file_that_somebody_moved_is_created_again(tmp_path: Path) -> None:
    path = tmp_path / "logfile.log"
    file = LogFile(path, roll_days=3, max_bytes=10**6, keep=1)
    file.write("one\n")
    path.rename(tmp_path / "moved")
    file.write("two\n")
    file.close()
    assert (path.read_text(), (tmp_path / "moved").read_text()) == ("two\n", "one\n")


def test_a_compression_that_a_crash_interrupted_is_repeated(tmp_path: Path) -> None:
    left = tmp_path / "logfile.20260101T000000.000000.log"
    left.write_text("all of it\n")
    (tmp_path / f".{left.name}.gz").write_bytes(b"half")
    file = LogFile(tmp_path / "logfile.log", roll_days=3, max_bytes=10**6, keep=5)
    file.tidy()
    file.close()
    assert [text(path) for path in rolled(tmp_path)] == ["all of it\n"]
    assert not left.exists()


def start_writer(folder: Path, name: str, lines: int, max_bytes: int) -> subprocess.Popen[str]:
    """A process that writes lines, and then notes the number of each in the file `<name>.out`."""
    command = [sys.executable, "-c", WRITER, str(folder / "logfile.log"), name, str(lines), str(max_bytes)]
    with (folder / f"{name}.out").open("w") as out:
        return subprocess.Popen(command, stdout=out, text=True)


def test_many_processes_lose_no_line_and_tear_none(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path, f"writer{number}", 1_500, 20_000) for number in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert len(rolled(tmp_path)) > 20
    expected = Counter(f"writer{w} {n} {'x' * (n % 300)} end" for w in range(4) for n in range(1_500))
    assert Counter(every_line(tmp_path)) == expected


@pytest.mark.parametrize("files", [1, 6])
def test_a_killed_process_loses_no_line_that_it_wrote(tmp_path: Path, files: int) -> None:
    victim, other = start_writer(tmp_path, "victim", 10**6, 10_000), start_writer(tmp_path, "other", 2_000, 10_000)
    noted = tmp_path / "victim.out"
    wait_until(lambda: noted.read_text() and len(rolled(tmp_path)) >= files, 60)
    victim.send_signal(signal.SIGKILL)
    victim.wait(30)
    assert other.wait(60) == 0
    # A killed process leaves what the next one tidies: no log file at all just after it rolled, or a rolled file and its copy.
    after = LogFile(tmp_path / "logfile.log", roll_days=3, max_bytes=10_000, keep=10_000)
    after.tidy()
    after.close()
    lines = Counter(every_line(tmp_path))
    assert all(line.endswith(" end") for line in lines)
    assert set(lines.values()) == {1}
    last = int(noted.read_text().split("\n")[-2])
    assert {int(line.split()[1]) for line in lines if line.startswith("victim")} >= set(range(last + 1))
    assert {int(line.split()[1]) for line in lines if line.startswith("other")} == set(range(2_000))

"""What runs contained, runs in a real process under the real kernel's rules."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import landlockpy
import pytest

from model_sync.contained import BrokeOffError, Limits, StoppedError, run_contained

LIMITS = Limits(memory=2**30, seconds=20, threads=1)
with_landlock = pytest.mark.skipif(not landlockpy.supported(), reason="this kernel has no Landlock")


def run(code: str, scratch: Path, *, limits: Limits = LIMITS, stopping: threading.Event | None = None) -> tuple[int, list[str]]:
    lines: list[str] = []
    code_ended = run_contained(
        [sys.executable, "-c", code],
        scratch=scratch,
        readable=[],
        limits=limits,
        stopping=stopping or threading.Event(),
        on_line=lines.append,
    )
    return code_ended, lines


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_lines_and_the_exit_code_come_back(scratch: Path) -> None:
    assert run("print('one'); print('two'); raise SystemExit(3)", scratch) == (3, ["one", "two"])


def test_it_may_write_to_its_scratch(scratch: Path) -> None:
    run("import os; open(os.environ['HOME'] + '/it', 'w').write('done')", scratch)
    assert (scratch / "it").read_text() == "done"


def test_it_knows_no_secret_and_has_a_low_priority(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    _, [known, nice] = run("import os; print('AWS_SECRET_ACCESS_KEY' in os.environ); print(os.nice(0))", scratch)
    assert (known, nice) == ("False", "19")


@with_landlock
@pytest.mark.parametrize(
    "code",
    [
        "open({outside!r}, 'w')",
        "open({outside!r}).read()",
        "import os; os.mkdir({outside!r} + '.d')",
        "import os; open(f'/proc/{{os.getppid()}}/environ').read()",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import os; os.kill(os.getppid(), 0)",
    ],
    ids=["write", "read", "make a folder", "read the parent's environment", "connect", "signal"],
)
def test_it_cannot_reach_out(scratch: Path, tmp_path: Path, code: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    with pytest.raises(BrokeOffError, match=r"Errno 1\D|Errno 13"):
        run(code.format(outside=str(outside)), scratch)
    assert outside.read_text() == "untouched"
    assert not outside.with_suffix(".d").exists()


def test_memory_is_limited(scratch: Path) -> None:
    with pytest.raises(BrokeOffError, match="MemoryError"):
        run("bytearray(2**31)", scratch)


def test_time_is_limited(scratch: Path) -> None:
    with pytest.raises(BrokeOffError, match="not done after 1 s"):
        run("import time; time.sleep(60)", scratch, limits=Limits(2**30, 1, 1))


def test_a_death_has_its_name(scratch: Path) -> None:
    with pytest.raises(BrokeOffError, match="died of SIGSEGV"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", scratch)


def test_what_it_started_ends_with_it(scratch: Path) -> None:
    child = "import os, time; open(os.environ['HOME'] + '/pid', 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys, os, time; subprocess.Popen([sys.executable, '-c', {child!r}])\n"
    run(code + "while not os.path.exists(os.environ['HOME'] + '/pid'): time.sleep(0.01)", scratch)
    pid = int((scratch / "pid").read_text() or "0")
    deadline = time.monotonic() + 5
    while _lives(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_it_ends_when_the_sidecar_ends(scratch: Path) -> None:
    stopping = threading.Event()
    threading.Timer(0.5, stopping.set).start()
    with pytest.raises(StoppedError):
        run("import time; time.sleep(60)", scratch, stopping=stopping)

"""What runs contained, runs in a real process under the real kernel's rules."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import landlockpy
import pytest

from model_sync.errors import ImportCrashedError, ImportEnvironmentError, RejectedError, SyncCancelledError
from model_sync.sandbox.run import Limits, run_sandboxed

LIMITS = Limits(memory=2**30, seconds=20, threads=1)
BEGIN = "import os, sys; from bunriwiki.artifacts.programs import ProgressWriter; progress = ProgressWriter()\n"
with_landlock = pytest.mark.skipif(not landlockpy.supported(), reason="this kernel has no Landlock")


def run(
    code: str, scratch: Path, *, limits: Limits = LIMITS, stopping: threading.Event | None = None, begin: str = BEGIN
) -> list[dict[str, Any]]:
    """What a program tells after its beginning."""
    return run_sandboxed(
        [sys.executable, "-c", begin + code],
        writable=scratch,
        readable=[],
        limits=limits,
        stopping=stopping or threading.Event(),
    )[1:]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_what_it_tells_comes_back_and_what_it_prints_does_not(scratch: Path) -> None:
    code = "print('hello'); progress.write(phase='load', seconds=1); os.write(2, b'hello'); progress.write(done=True)"
    assert run(code, scratch) == [{"phase": "load", "seconds": 1}, {"done": True}]


def test_it_may_print_as_much_as_it_likes(scratch: Path) -> None:
    code = "for _ in range(10_000): print('x' * 100); os.write(1, b'{')\nprogress.write(done=True)"
    assert run(code, scratch) == [{"done": True}]


def test_a_rejection_is_told(scratch: Path) -> None:
    with pytest.raises(RejectedError, match=r"^it is damaged$"):
        run("progress.write(rejected='it is damaged'); sys.exit(3)", scratch)


def test_what_is_wrong_around_it_is_told(scratch: Path) -> None:
    with pytest.raises(ImportEnvironmentError, match=r"^the disk is full$"):
        run("progress.write(environment_error='the disk is full'); sys.exit(4)", scratch)


def test_a_program_that_cannot_begin_is_nobodys_fault(scratch: Path) -> None:
    with pytest.raises(ImportEnvironmentError, match=r"could not begin: it ended with 1: .*No module named 'nowhere'"):
        run("", scratch, begin="import nowhere\n")
    with pytest.raises(ImportEnvironmentError, match="could not begin: it ended with 126: /nowhere/python: No such file"):
        run_sandboxed(["/nowhere/python"], writable=scratch, readable=[], limits=LIMITS, stopping=threading.Event())


@pytest.mark.parametrize("code", ["sys.exit(1)", "os._exit(3)", "sys.exit(7)", "raise SystemExit('no')"])
def test_an_end_without_a_reason_is_no_verdict(scratch: Path, code: str) -> None:
    with pytest.raises(ImportCrashedError, match="ended with"):
        run(code, scratch)


def test_it_may_write_to_its_scratch(scratch: Path) -> None:
    run("open(os.environ['HOME'] + '/it', 'w').write('done')", scratch)
    assert (scratch / "it").read_text() == "done"


def test_it_knows_no_secret_and_has_a_low_priority(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = "progress.write(known='AWS_SECRET_ACCESS_KEY' in os.environ, nice=os.nice(0))"
    assert run(code, scratch) == [{"known": False, "nice": 19}]


@with_landlock
@pytest.mark.parametrize(
    "code",
    [
        "open({outside!r}, 'w')",
        "open({outside!r}).read()",
        "os.mkdir({outside!r} + '.d')",
        "open(f'/proc/{{os.getppid()}}/environ').read()",
        "open('/etc/shadow').read()",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "os.kill(os.getppid(), 0)",
    ],
    ids=["write", "read", "make a folder", "read the parent's environment", "read passwords", "connect", "signal"],
)
def test_it_cannot_reach_out(scratch: Path, tmp_path: Path, code: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    with pytest.raises(ImportCrashedError, match=r"ended with 1: PermissionError: \[Errno 1"):
        run(code.format(outside=str(outside)), scratch)
    assert outside.read_text() == "untouched"
    assert not outside.with_suffix(".d").exists()


def test_memory_is_limited(scratch: Path) -> None:
    with pytest.raises(ImportCrashedError, match="MemoryError"):
        run("bytearray(2**31)", scratch)


def test_time_is_limited(scratch: Path) -> None:
    with pytest.raises(ImportCrashedError, match="not done after 1 s"):
        run("import time; time.sleep(60)", scratch, limits=Limits(2**30, 1, 1))


def test_a_death_has_its_name(scratch: Path) -> None:
    with pytest.raises(ImportCrashedError, match="died of SIGSEGV"):
        run("import signal; os.kill(os.getpid(), signal.SIGSEGV)", scratch)


def test_it_starts_no_process(scratch: Path) -> None:
    with pytest.raises(ImportCrashedError, match=r"PermissionError: \[Errno 1"):
        run("import subprocess; subprocess.run(['/bin/true'])", scratch)


def test_it_ends_when_the_sidecar_ends(scratch: Path) -> None:
    stopping = threading.Event()
    threading.Timer(0.5, stopping.set).start()
    with pytest.raises(SyncCancelledError):
        run("import time; time.sleep(60)", scratch, stopping=stopping)

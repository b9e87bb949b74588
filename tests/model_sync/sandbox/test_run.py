"""Programs run in real processes, under the rules of the real kernel."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import landlockpy
import pytest

from model_sync.errors import (
    ImportCrashedError,
    ImportEnvironmentError,
    RejectedError,
    ReportedEnvironmentError,
    SyncCancelledError,
    UndecidedError,
)
from model_sync.sandbox.run import Limits, run_sandboxed

LIMITS = Limits(memory=2**30, seconds=20, threads=1)
BEGIN = "import os, sys; from bunriwiki.artifacts.programs import ProgressWriter; progress = ProgressWriter()\n"
with_landlock = pytest.mark.skipif(not landlockpy.supported(), reason="this kernel has no Landlock")


def run(
    code: str, scratch: Path, *, limits: Limits = LIMITS, stopping: threading.Event | None = None, begin: str = BEGIN
) -> list[dict[str, Any]]:
    """The messages of a program after the first."""
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


def test_messages_are_returned_and_other_output_is_not(scratch: Path) -> None:
    code = "print('hello'); progress.write(phase='load', seconds=1); os.write(2, b'hello'); progress.write(done=True)"
    assert run(code, scratch) == [{"phase": "load", "seconds": 1}, {"done": True}]


def test_libraries_may_print_any_amount(scratch: Path) -> None:
    code = "for _ in range(10_000): print('x' * 100); os.write(1, b'{')\nprogress.write(done=True)"
    assert run(code, scratch) == [{"done": True}]


def test_a_rejection_is_raised(scratch: Path) -> None:
    with pytest.raises(RejectedError, match=r"^it is damaged$"):
        run("progress.write(rejected='it is damaged'); sys.exit(3)", scratch)


def test_an_environment_error_is_raised(scratch: Path) -> None:
    with pytest.raises(ReportedEnvironmentError, match=r"^the disk is full$"):
        run("progress.write(environment_error='the disk is full'); sys.exit(4)", scratch)


def test_a_program_that_cannot_start_is_an_environment_error(scratch: Path) -> None:
    with pytest.raises(ImportEnvironmentError, match=r"could not start: it exited with code 1: .*No module named 'nowhere'"):
        run("", scratch, begin="import nowhere\n")
    with pytest.raises(ImportEnvironmentError, match="could not start: it exited with code 126: /nowhere/python: No such file"):
        run_sandboxed(["/nowhere/python"], writable=scratch, readable=[], limits=LIMITS, stopping=threading.Event())


@pytest.mark.parametrize("code", ["sys.exit(1)", "os._exit(3)", "sys.exit(7)", "raise SystemExit('no')"])
def test_an_exit_without_a_reason_is_a_crash(scratch: Path, code: str) -> None:
    with pytest.raises(ImportCrashedError, match="exited with code"):
        run(code, scratch)


def test_it_can_write_to_the_scratch_folder(scratch: Path) -> None:
    run("open(os.environ['HOME'] + '/it', 'w').write('done')", scratch)
    assert (scratch / "it").read_text() == "done"


def test_it_has_no_secrets_and_a_low_priority(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_nothing_outside_is_accessible(scratch: Path, tmp_path: Path, code: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    with pytest.raises(ImportCrashedError, match=r"exited with code 1: PermissionError: \[Errno 1"):
        run(code.format(outside=str(outside)), scratch)
    assert outside.read_text() == "untouched"
    assert not outside.with_suffix(".d").exists()


def test_memory_is_limited(scratch: Path) -> None:
    with pytest.raises(ImportCrashedError, match="MemoryError"):
        run("bytearray(2**31)", scratch)


@pytest.mark.usefixtures("quiet_machine")
def test_time_is_limited(scratch: Path) -> None:
    with pytest.raises(ImportCrashedError, match="did not finish within 1 s"):
        run("import time; time.sleep(60)", scratch, limits=Limits(2**30, 1, 1))


@pytest.mark.usefixtures("busy_machine")
def test_a_program_that_is_late_on_a_busy_machine_has_not_crashed(scratch: Path) -> None:
    with pytest.raises(UndecidedError, match=r"did not finish within 1 s, but the machine is busy: it ran for \d s"):
        run("import time; time.sleep(60)", scratch, limits=Limits(2**30, 1, 1))


def test_the_signal_that_killed_it_is_named(scratch: Path) -> None:
    with pytest.raises(ImportCrashedError, match="was killed by SIGSEGV"):
        run("import signal; os.kill(os.getpid(), signal.SIGSEGV)", scratch)


def test_it_cannot_start_a_process(scratch: Path) -> None:
    with pytest.raises(ImportCrashedError, match=r"PermissionError: \[Errno 1"):
        run("import subprocess; subprocess.run(['/bin/true'])", scratch)


def test_it_is_cancelled_when_the_sidecar_stops(scratch: Path) -> None:
    stopping = threading.Event()
    threading.Timer(0.5, stopping.set).start()
    with pytest.raises(SyncCancelledError):
        run("import time; time.sleep(60)", scratch, stopping=stopping)

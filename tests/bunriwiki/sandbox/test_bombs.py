"""Attempts to use up memory, threads, disk and time: each is ended in time, with and without a control group and a user."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from bunriwiki.sandbox.support import missing
from bunriwiki.testing.waiting import wait_until
from model_sync.errors import ImportCrashedError, ImportEnvironmentError
from model_sync.sandbox.run import MB, Limits, run_sandboxed
from tests.bunriwiki.sandbox.attempts import INSIDE

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason="; ".join(missing()))]


class Bomb(NamedTuple):
    """`says` matches the error: that of the program itself, or that of the sidecar that killed it."""

    name: str
    code: str
    stopped_by: str
    says: str


KILLED = "was killed by SIGKILL"
BOMBS = (
    Bomb("private memory", "bytearray(2**31)", "RLIMIT_DATA", "MemoryError"),
    Bomb("private memory, mapped",
         "mmap.mmap(-1, 2**31, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)", "RLIMIT_DATA", "Cannot allocate"),
    Bomb("shared memory", "m = mmap.mmap(-1, 2**30)\nwhile True: m.write(bytes(2**20))",
         "measuring, or the control group", f"more than 256 MB of memory|{KILLED}"),
    Bomb("threads", "while True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
         "RLIMIT_DATA, RLIMIT_NPROC, the control group, or measuring", "can't start new thread|more than 64 threads"),
    Bomb("socket buffers",
         "pairs = []\nwhile True:\n pairs.append(socket.socketpair()); pairs[-1][0].setblocking(False)\n"
         " try: pairs[-1][0].sendall(bytes(2**22))\n except BlockingIOError: pass", "RLIMIT_NOFILE", "Too many open files"),
    Bomb("a sparse file", "open(HOME + '/x', 'w').truncate(2**40)", "RLIMIT_FSIZE", "File too large"),
    Bomb("a large file", "f = open(HOME + '/x', 'wb')\nwhile True: f.write(bytes(2**20))", "RLIMIT_FSIZE",
         "File too large|more than 64 MB"),
    Bomb("many large files", "for n in range(99): open(f'{HOME}/{n}', 'wb').write(bytes(2**23))\ntime.sleep(60)",
         "measuring", "wrote more than 64 MB"),
    Bomb("files without a name",
         "for n in range(99): f = open(f'{HOME}/x', 'wb'); os.unlink(f'{HOME}/x'); f.write(bytes(2**22)); os.dup(f.fileno())\n"
         "time.sleep(60)", "measuring", "wrote more than 64 MB"),
    Bomb("small files", "for n in range(9999): open(f'{HOME}/{n}', 'w')\ntime.sleep(60)", "measuring", "more than 200 files"),
    Bomb("files in an unreadable folder",
         "os.mkdir(HOME + '/d', 0o300)\nfor n in range(9999): open(f'{HOME}/d/{n}', 'w')\ntime.sleep(60)",
         "measuring", "more than 200 files"),
    Bomb("more files at the very end", "for n in range(300): open(f'{HOME}/{n}', 'w')", "measuring", "more than 200 files"),
    Bomb("folders within folders",
         "for n in range(3000): os.mkdir('d' if n else HOME + '/d'); os.chdir('d' if n else HOME + '/d')\ntime.sleep(60)",
         "measuring", r"more than 32 deep|more than 200 files"),
    Bomb("a line without an end", "line = os.dup(progress._lines.fileno())\nwhile True: os.write(line, b'x' * 2**16)",
         "reading within bounds", "wrote too much to its standard output"),
    Bomb("lines without an end",
         "while True: progress.write(phase='x' * 1000)", "reading within bounds", "wrote too much to its standard output"),
    Bomb("never ending",
         "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(60)", "the clock", "did not finish within 2 s"),
    Bomb("a 32-bit call",
         "code = mmap.mmap(-1, 4096, prot=7)\ncode.write(bytes.fromhex('b814000000cd80c3'))\n"
         "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()",
         "seccomp filter", "was killed by SIG(SYS|SEGV)"),
)  # fmt: skip
MODES = {"user and group": ("auto", "auto"), "neither": ("off", "off")}


def limits(mode: str, **others: int) -> Limits:
    user, cgroup = MODES[mode]
    low = {"memory": 256 * MB, "disk": 64 * MB, "files": 200, "tasks": 64, "seconds": 20, "threads": 1} | others
    return Limits(**low, user=user, cgroup=cgroup)


def run(code: str, scratch: Path, limits: Limits) -> None:
    run_sandboxed(
        [sys.executable, "-c", INSIDE + code], writable=scratch, readable=[], limits=limits, stopping=threading.Event()
    )


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.mark.usefixtures("quiet_machine")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", range(len(BOMBS)), ids=[bomb.name for bomb in BOMBS])
def test_a_bomb_is_ended(number: int, mode: str, scratch: Path) -> None:
    bomb = BOMBS[number]
    if "32-bit" in bomb.name and os.uname().machine != "x86_64":
        pytest.skip("x86_64 only")
    started = time.monotonic()
    with pytest.raises(ImportCrashedError, match=bomb.says):
        run(bomb.code, scratch, limits(mode, seconds=2) if bomb.stopped_by == "the clock" else limits(mode))
    assert time.monotonic() - started < 30
    require_owner(scratch)


def require_owner(folder: Path) -> None:
    """The sidecar owns everything in the folder, and no path in it is deep."""
    for path in (folder, *folder.rglob("*")):
        assert path.lstat().st_uid == os.geteuid()
        assert len(path.relative_to(folder).parts) <= 40


def test_standard_error_is_not_kept_in_memory(scratch: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run("for n in range(200): os.write(2, b'x' * 2**20)", scratch, limits("neither"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


def test_an_almost_full_disk_is_an_environment_error(scratch: Path) -> None:
    with pytest.raises(ImportEnvironmentError, match="are free on the disk"):
        run("time.sleep(60)", scratch, limits("neither", reserve=2**60))


def test_it_ends_with_the_process_that_started_it(scratch: Path) -> None:
    """As if the sidecar was killed."""
    code = "open(HOME + '/pid', 'w').write(str(os.getpid())); time.sleep(60)"
    child = os.fork()
    if not child:
        try:
            run(code, scratch, limits("neither", seconds=60))
        finally:
            os._exit(1)
    wait_until(lambda: (scratch / "pid").exists() and (scratch / "pid").read_text(), 20)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pid = int((scratch / "pid").read_text())
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 20)

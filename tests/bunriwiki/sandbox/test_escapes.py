"""Attempts to escape from the sandbox, under the real kernel: each fails, and changes nothing outside.

They run in three ways: as the sidecar runs an import if it may (another user, a control group), without either, and started by
an ordinary user. `attempts.py` has the table; `test_bombs.py` has the attempts to use up resources.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.sandbox.support import missing
from bunriwiki.sandbox.user import can_change
from bunriwiki.testing.paths import ROOT
from model_sync.sandbox.run import Limits, run_sandboxed
from tests.bunriwiki.sandbox.attempts import ATTEMPTS, BATCH, INSIDE, Attempt

ORDINARY = 54321  # a user without privileges
SITE = Path(pytest.__file__).parent.parent
DRIVE = """
import json, sys, threading
from pathlib import Path
from model_sync.sandbox.run import Limits, run_sandboxed
code, writable, readable, limits = json.load(sys.stdin)
print(json.dumps(run_sandboxed([sys.executable, "-c", code], writable=Path(writable), readable=[Path(p) for p in readable],
                               limits=Limits(**limits), stopping=threading.Event())))
"""
LIMITS = {
    "its own user and group": Limits(2**30, 60, 1),
    "no user, no group": Limits(2**30, 60, 1, user="off", cgroup="off"),
    "an ordinary user": Limits(2**30, 60, 1),
}

pytestmark = pytest.mark.skipif(bool(missing()), reason="; ".join(missing()))


@dataclass
class Run:
    """The result of a batch of attempts: the outcome of each, what reached the listeners, and what has changed outside."""

    outcomes: dict[str, str]
    received: bytes
    changed: list[str]
    process: subprocess.Popen[bytes]


class Listeners:
    """On a Unix socket, an abstract one, TCP and UDP: an escape would connect or send to them."""

    def __init__(self, folder: Path) -> None:
        self.unix, self.abstract = str(folder / "listener"), f"\0bunriwiki-test-{os.getpid()}-{folder.name}"
        self._streams = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0))]
        self._streams[0].bind(self.unix)
        self._streams[1].bind(self.abstract)
        self._datagrams = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)]
        self._datagrams[0].bind(("127.0.0.1", 0))
        self._datagrams[1].bind(self.unix + ".dgram")
        for listening in self._streams:
            listening.listen(100)
        for name in (self.unix, self.unix + ".dgram"):
            Path(name).chmod(0o777)
        self.tcp, self.udp = self._streams[2].getsockname(), self._datagrams[0].getsockname()

    def received(self) -> bytes:
        """Everything that was received; `(connected)` for each connection."""
        everything = []
        for listening in self._streams:
            listening.setblocking(False)
            try:
                while True:
                    with listening.accept()[0] as connection:
                        everything.append(b"(connected)" + connection.recv(1000))
            except BlockingIOError:
                listening.close()
        for bound in self._datagrams:
            bound.setblocking(False)
            try:
                while True:
                    everything.append(bound.recv(1000))
            except BlockingIOError:
                bound.close()
        return b" ".join(everything)


def state(folder: Path) -> dict[str, Any]:
    """Everything that can be changed about a folder and its content."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        status = path.lstat()
        attributes = {name: os.getxattr(path, name) for name in os.listxattr(path) if not path.is_socket()}
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (
            status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_mtime_ns, attributes, content,
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    """An interpreter that an ordinary user may run, with the test's libraries."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin") or sys.executable
        subprocess.run([system, "-m", "venv", "--without-pip", folder], check=True)
        [packages] = Path(folder).glob("lib/*/site-packages")
        (packages / "libraries.pth").write_text(f"{SITE}\n")
        yield f"{folder}/bin/python"


def run_inside(way: str, code: str, writable: Path, readable: list[Path], python: str) -> list[dict[str, Any]]:
    """The messages of a program that runs inside the sandbox in one of the three ways."""
    if way != "an ordinary user":
        command = [sys.executable, "-c", code]
        return run_sandboxed(command, writable=writable, readable=readable, limits=LIMITS[way], stopping=threading.Event())
    given = json.dumps([code, str(writable), [str(path) for path in (*readable, SITE)], asdict(LIMITS[way])])
    done = subprocess.run(
        [python, "-c", DRIVE], input=given, text=True, capture_output=True, cwd=ROOT, user=ORDINARY, group=ORDINARY,
        extra_groups=(), check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    messages: list[dict[str, Any]] = json.loads(done.stdout)
    return messages


@pytest.fixture(scope="module", params=LIMITS)
def run(request: pytest.FixtureRequest, python: str) -> Iterator[Run]:
    way = str(request.param)
    if way != "no user, no group" and not can_change():
        pytest.skip("the tests may not change users")
    with tempfile.TemporaryDirectory() as place, ExitStack() as ending:
        folder = Path(place)
        folder.chmod(0o755)
        outside, readable, home = (folder / name for name in ("outside", "readable", "home"))
        home.mkdir()
        attempts = []
        for number, attempt in enumerate(ATTEMPTS):
            files = []
            for part in (outside, readable):
                (part / str(number)).mkdir(parents=True)
                files.append(part / str(number) / "canary")
                files[-1].write_text("unharmed")
                os.setxattr(files[-1], "user.canary", b"unharmed")
            attempts.append((attempt.name, *map(str, files), attempt.code))
        listeners = Listeners(folder)
        user: dict[str, Any] = {}
        if way == "an ordinary user":
            user = {"user": ORDINARY, "group": ORDINARY, "extra_groups": ()}
            for path in (home, outside, readable, *outside.rglob("*"), *readable.rglob("*")):
                os.chown(path, ORDINARY, ORDINARY)  # files of the user who runs the import: their modes do not protect them
        process = subprocess.Popen([python, "-c", "import time; time.sleep(600)"], **user)
        ending.callback(process.wait)
        ending.callback(process.kill)
        names = {
            "attempts": attempts, "PARENT": os.getpid(), "PROCESS": process.pid, "ROOT": str(ROOT), "UNIX": listeners.unix,
            "ABSTRACT": listeners.abstract, "TCP": listeners.tcp, "UDP": listeners.udp,
        }  # fmt: skip
        code = INSIDE + "".join(f"{name} = {value!r}\n" for name, value in names.items()) + BATCH
        before = state(outside) | state(readable)
        watched = (os.getpriority(os.PRIO_PROCESS, process.pid), os.sched_getaffinity(process.pid))
        messages = run_inside(way, code, home, [readable], python)
        after = state(outside) | state(readable)
        assert watched == (os.getpriority(os.PRIO_PROCESS, process.pid), os.sched_getaffinity(process.pid))
        yield Run(
            {message["name"]: message["outcome"] for message in messages[1:]},
            listeners.received(),
            [path for path in before | after if before.get(path) != after.get(path)],
            process,
        )


@pytest.mark.parametrize("number", range(len(ATTEMPTS)), ids=[attempt.name for attempt in ATTEMPTS])
def test_an_attempt_fails(run: Run, number: int) -> None:
    attempt: Attempt = ATTEMPTS[number]
    assert run.outcomes[attempt.name] in attempt.outcomes, attempt.stopped_by
    assert not [path for path in run.changed if Path(path).parent.name == str(number) or Path(path).name == str(number)]
    assert attempt.name.encode() not in run.received


def test_all_attempts_together_change_nothing_outside(run: Run) -> None:
    assert not run.changed
    assert not run.received
    assert run.process.poll() is None


def test_no_attempt_is_listed_twice() -> None:
    assert len({attempt.name for attempt in ATTEMPTS}) == len({attempt.code for attempt in ATTEMPTS}) == len(ATTEMPTS)

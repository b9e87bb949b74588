"""The network of an engine: a network namespace of its own.

A second engine in the same network would take the addresses of the first one's bridge, and delete its rules of iptables at its
start, with them what separates its networks. Nothing of this machine's network changes: what the containers send to other
machines goes through slirp4netns, a program that opens the connections for them.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import IO

from bunriwiki.sandbox.kernel import LIBC, check

UNSHARE = ("/usr/bin/unshare", "--net")  # begins a command that runs in a new namespace
SLIRP = "/usr/bin/slirp4netns"
CLONE_NEWNET = 0x40000000
STOP_SECONDS = 10.0


class Network:
    """The namespace of the process `pid`, which threads of this process can enter."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._outside: int | None = None  # the namespace to return to, as an open file
        self._slirp: subprocess.Popen[bytes] | None = None

    def enter(self) -> None:
        """From now on this thread, and the threads and processes that it starts, are in the namespace."""
        if self._outside is None:
            self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            with Path(f"/proc/{self._pid}/ns/net").open("rb") as namespace:
                _join(namespace.fileno())

    def leave(self) -> None:
        """This thread is again where it was before it entered."""
        if self._outside is not None:
            _join(self._outside)
            os.close(self._outside)
            self._outside = None

    def connect(self, pid: int, end: int, log: IO[bytes]) -> None:
        """Let the namespace, in which the process `pid` is, reach other machines until no process has the other end of the pipe
        `end`."""
        self._pid = pid
        is_inside = self._outside is not None
        self.leave()
        is_ready, ready = os.pipe()
        command = [SLIRP, "--configure", "--mtu=65520", f"--exit-fd={end}", f"--ready-fd={ready}", str(pid), "tap0"]
        self._slirp = subprocess.Popen(
            command, pass_fds=(end, ready), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        os.close(ready)
        started = os.read(is_ready, 1)
        os.close(is_ready)
        if is_inside:
            self.enter()
        if not started:
            raise RuntimeError(f"slirp4netns exited with {self._slirp.wait()}")

    def disconnected(self) -> None:
        """Wait for the end of what `connect` started."""
        if self._slirp is not None:
            self._slirp.wait(STOP_SECONDS)
            self._slirp = None


def _join(namespace: int) -> None:
    check(LIBC.setns(namespace, CLONE_NEWNET))

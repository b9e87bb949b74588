"""A server in a process of its own, that can be killed and started again on the same port with the same data."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.processes import wait_while_running

BINARIES = Path(sys.executable).parent
START_SECONDS = 120.0


class ServerProcess:
    """Runs `command`, which serves on `port` of 127.0.0.1 and answers 200 at the path `probe` when it is ready.

    Its working directory is `folder`, and its output goes to `log.txt` there; without a folder the output is discarded.
    `environment` is added to this process's.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        port: int,
        probe: str,
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._probe = self.url + probe
        self._folder = folder
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, and return when it is ready."""
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((self._folder / "log.txt").open("ab")) if self._folder else subprocess.DEVNULL
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own children end with it
            )
        wait_while_running(self._process, self._is_ready, START_SECONDS, self._log)
        return self

    def kill(self) -> None:
        """End it at once, as a power cut would. It may be started again."""
        if self._process:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Have it accept connections and not answer."""
        pid = self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # until then its threads may still answer

    def resume(self) -> None:
        """Have it answer again."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it for good."""
        self.kill()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> int:
        if self._process is None:
            raise RuntimeError(f"{self._command[0]} is not running")
        os.killpg(self._process.pid, number)
        return self._process.pid

    def _is_ready(self) -> bool:
        try:
            return CLIENT.get(self._probe, timeout=3).status_code == 200
        except httpx.TransportError:
            return False

    def _log(self) -> str:
        return (self._folder / "log.txt").read_text(errors="replace") if self._folder else f"{self._command[0]}: no log is kept"

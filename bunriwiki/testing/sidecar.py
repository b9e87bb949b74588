"""The real sidecar, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from bunriwiki.model_store.generation import Generations
from bunriwiki.model_store.history import Event, History
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.paths import ROOT, SERVE_ENV
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.processes import wait_while_running
from bunriwiki.testing.waiting import T

TOKEN = "a-test-token"  # noqa: S105 (a word, no secret)
SECRET = "a-test-secret"  # noqa: S105
STOP_SECONDS = 40.0
IMPORT_SECONDS = 400.0  # of an import beside other tests, perhaps on a slow machine: the limit only ends what hangs


class Sidecar:
    """`python -m model_sync run` for the model store at `store`; its output goes to `log`. It may be started several times."""

    def __init__(self, store: Path, log: Path, environment: dict[str, str]) -> None:
        self.layout = Layout(store)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._log = log
        self._environment = {
            "BUNRIWIKI_SERVE_PYTHON": str(SERVE_ENV / "bin" / "python"),
            "BUNRIWIKI_MODEL_STORE": str(store),
            "BUNRIWIKI_SYNC_PORT": str(self.port),
            "BUNRIWIKI_ADMIN_TOKEN": TOKEN,
            "BUNRIWIKI_WEBHOOK_SECRET": SECRET,
            **environment,
        }

    def command(self) -> list[str]:
        """What `start` runs."""
        return [sys.executable, "-m", "model_sync", "run"]

    def start(self) -> Self:
        """Start it, without waiting for it."""
        with self._log.open("ab") as stream:
            self.process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env={**os.environ, **self._environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        process = self._running()
        process.kill()
        process.wait()

    def stop(self) -> int | None:
        """End it with SIGTERM; the exit code, or None if it was never started."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def state(self, model: str) -> ModelSync | None:
        """What this process has last reported of a model."""
        found = SyncState.read(self.layout.sync)
        return found.models.get(model) if found and self.process and found.pid == self.process.pid else None

    def wait(self, condition: Callable[[], T], seconds: float = IMPORT_SECONDS) -> T:
        """Wait until what `condition` returns is true, and return that."""
        return wait_while_running(self._running(), condition, seconds, self.log)

    def wait_for_status(
        self, model: str, status: str, version: str | None = None, seconds: float = IMPORT_SECONDS
    ) -> ModelSync:
        """Wait until a model has a status, for `version` if that is given."""

        def reached() -> ModelSync | None:
            state = self.state(model)
            return state if state and state.status == status and version in (None, state.version) else None

        found = self.wait(reached, seconds)
        assert found
        return found

    def sync(self, *models: str, force: bool = False, seconds: float = IMPORT_SECONDS) -> dict[str, Any]:
        """Request a sync as an operator does; the outcomes, when it is done."""
        body = {"models": list(models), "wait": True, "timeout": seconds, "force": force}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = CLIENT.post(f"{self.url}/sync", json=body, headers=headers, timeout=seconds + 5)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def serving(self, model: str) -> str | None:
        """The version that the generation file names; None if it names none."""
        target = Generations.read(self.layout.generation).of(model).serving
        return target.version if target else None

    def events(self, kind: str, model: str | None = None) -> list[Event]:
        """The entries of this kind in the history, the oldest first."""
        return [event for event in History(self.layout.history).read(model) if event.kind == kind]

    def activation(self, model: str, version: str) -> Event:
        """The entry about the activation of a version. It is written when workers may answer with the version already."""

        def found() -> list[Event]:
            return [event for event in self.events("activated", model) if event.version == version]

        [event] = self.wait(found)
        return event

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError("the sidecar was not started")
        return self.process

"""The real sidecar, in a process of its own, and what data scientists do to the registries."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from benchmarks.load import free_port
from bunriwiki.model_store.history import Event, History
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from tests.conftest import ROOT

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.registries import SeaweedFS

PREFIX = "registry"
TOKEN = "a-test-token"  # noqa: S105 (a word, no secret)
SECRET = "a-test-secret"  # noqa: S105


class Sidecar:
    """`python -m model_sync run` for the store at `store`; what it prints goes to `log`."""

    def __init__(self, store: Path, log: Path, environment: dict[str, str]) -> None:
        self.layout = Layout(store)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._environment = {
            "BUNRIWIKI_SERVE_PYTHON": str(ROOT / ".venv" / "bin" / "python"),
            "BUNRIWIKI_MODEL_STORE": str(store),
            "BUNRIWIKI_SYNC_PORT": str(self.port),
            "BUNRIWIKI_ADMIN_TOKEN": TOKEN,
            "BUNRIWIKI_WEBHOOK_SECRET": SECRET,
            **environment,
        }
        self.command = [sys.executable, "-m", "model_sync", "run"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Sidecar:
        with self._log.open("ab") as stream:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, **self._environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> int | None:
        """End it with SIGTERM; the exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def state(self, model: str) -> ModelSync | None:
        """What it says of a model."""
        found = SyncState.read(self.layout.sync)
        return found.models.get(model) if found and self.process and found.pid == self.process.pid else None

    def wait(self, what: Callable[[], Any], seconds: float = 90) -> float:
        """Wait until `what` is true; the seconds it took."""
        started = time.monotonic()
        while not what():
            assert self.process
            assert self.process.poll() is None, f"the sidecar has ended:\n{self.log()}"
            assert time.monotonic() - started < seconds, self.log()[-6000:]
            time.sleep(0.05)
        return time.monotonic() - started

    def wait_for(self, model: str, status: str, version: str | None = None, seconds: float = 90) -> ModelSync:
        """Wait for a status on a model."""

        def told() -> bool:
            one = self.state(model)
            return one is not None and one.status == status and version in (None, one.version)

        self.wait(told, seconds)
        state = self.state(model)
        assert state
        return state

    def look(self, *models: str, force: bool = False, seconds: float = 200) -> dict[str, Any]:
        """What a person does: ask for a look and wait for its outcomes."""
        body = {"models": list(models), "wait": True, "timeout": seconds, "force": force}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(f"{self.url}/sync", json=body, headers=headers, timeout=seconds + 5)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def serving(self, model: str) -> str | None:
        """What the generation file says."""
        with contextlib.suppress(FileNotFoundError):
            models = yaml.safe_load(self.layout.generation.read_text())["models"]
            found = models.get(model, {}).get("serving")  # none where the first version is only being prepared
            return str(found["version"]) if found else None
        return None

    def events(self, kind: str, model: str | None = None) -> list[Event]:
        return [event for event in History(self.layout.history).read(model) if event.kind == kind]


def s3_environment(s3: SeaweedFS) -> dict[str, str]:
    """What the sidecar needs to follow a bucket."""
    return {**s3.environment, "BUNRIWIKI_S3_URI": f"s3://{s3.BUCKET}/{PREFIX}"}


class Publisher:
    """Publishes to a bucket as a data scientist does: the version's files, then `latest_model.yaml`."""

    def __init__(self, s3: SeaweedFS) -> None:
        self._client: S3Client = s3.client()
        self._bucket = s3.BUCKET
        self.latest: dict[str, Any] = {}

    def upload(self, model: str, version: str, files: Iterable[tuple[str, bytes]]) -> None:
        """The files of a version, and its entry, not yet in `latest_model.yaml`."""
        listed = []
        for path, data in files:
            self._put(f"{model}/{version}/{path}", data)
            listed.append({"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        self.latest[model] = {"version": version, "path": f"{model}/{version}", "files": listed}

    def announce(self) -> None:
        """Write `latest_model.yaml`."""
        self._put("latest_model.yaml", yaml.safe_dump(self.latest, allow_unicode=True).encode())

    def publish(self, model: str, version: str, what: Path) -> None:
        """A file, or a folder with all that is in it."""
        self.upload(model, version, files_of(what))
        self.announce()

    def spoil(self, model: str, path: str, data: bytes) -> None:
        """Replace a file of the newest version behind the back of `latest_model.yaml`."""
        self._put(f"{model}/{self.latest[model]['version']}/{path}", data)

    def _put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=f"{PREFIX}/{key}", Body=data)


def files_of(what: Path) -> list[tuple[str, bytes]]:
    """The files at `what`, with their paths below it."""
    if what.is_file():
        return [(what.name, what.read_bytes())]
    paths = sorted(path for path in what.rglob("*") if path.is_file() and path.suffix != ".md")
    return [(path.relative_to(what).as_posix(), path.read_bytes()) for path in paths]


def notification(bucket: str, *, key: str = f"{PREFIX}/latest_model.yaml") -> str:
    """The message that S3 sends to a queue when an object was written."""
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
    }
    return json.dumps({"Records": [record]})

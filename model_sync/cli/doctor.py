"""Checks everything that the sidecar needs, and says how to fix problems. Changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict, ValidationError

from bunriwiki.artifacts.manifest import MODELS, DamagedArtifactError, Manifest
from bunriwiki.artifacts.reference import read_reference_photos, read_reference_texts
from bunriwiki.model_store.generation import GenerationError, Generations
from bunriwiki.model_store.history import History
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.lock import holder
from bunriwiki.model_store.sync_state import SyncState
from bunriwiki.sandbox.support import missing
from bunriwiki.settings import CommonSettings, Settings
from bunriwiki.web.tls import trusting
from model_sync.cli.exits import CliError
from model_sync.cli.remote import Remote
from model_sync.cli.settings import read_settings
from model_sync.cli.words import Words
from model_sync.errors import RejectedError, SignatureError, SourceError
from model_sync.registries import open_sources
from model_sync.s3_client import NOT_FOUND, connect, error_code
from model_sync.sandbox.run import ROOT
from model_sync.settings import SyncSettings
from model_sync.signatures import Signatures, SignedFile
from model_sync.sources import Offer, RemoteFile, Source
from model_sync.sources.s3 import MAX_ATTEMPTS, READ_TIMEOUT, S3Source
from model_sync.triggers.sqs import queue_client

GB = 1_000_000_000
MIN_FREE, LOW_FREE = 1 * GB, 5 * GB  # bytes of disk: the most that one import needs; enough for several imports
CLOCK_WARN, CLOCK_FAIL = 60.0, 900.0  # seconds of difference to S3's clock; S3 rejects requests beyond CLOCK_FAIL
PROGRAM_SECONDS = 120.0  # for a program that imports the data plane's libraries
PORT_SECONDS = 3.0  # for a port to answer

Level = Literal["ok", "warn", "fail"]


class Finding(BaseModel):
    """The result of a check. `message` says what is wrong and how to fix it."""

    model_config = ConfigDict(frozen=True)

    check: str
    level: Level
    message: str


class Doctor:
    """Runs the checks. `examine` yields each finding as soon as it is known."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def examine(self) -> Iterator[Finding]:
        """Run every check, except those that need invalid settings."""
        try:
            basics = read_settings(CommonSettings)
        except CliError as error:
            yield self._finding("settings", "fail", "invalid", error=error)
            return
        settings, finding = self._settings()
        yield finding
        layout = Layout(basics.model_store)
        checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
            ("store", lambda: self._store(layout)),
            ("disk", lambda: self._disk(layout)),
            ("lock", lambda: self._lock(layout, basics)),
            ("generation", lambda: self._generation(layout)),
            ("sandbox", self._sandbox),
        ]
        if settings:
            found = settings
            checks += [
                ("serve_python", lambda: self._serve_python(found)),
                ("reference", lambda: self._reference(found)),
                ("s3", lambda: self._s3(found)),
                ("mlflow", lambda: self._mlflow(found)),
                ("signatures", lambda: self._signatures(found)),
                ("sqs", lambda: self._sqs(found)),
                ("webhook", lambda: self._webhook(found)),
                ("admin", lambda: self._admin(found)),
                ("ports", lambda: self._ports(found, layout)),
            ]
        for name, check in checks:
            try:
                yield from check()
            except Exception as error:  # a check that crashes is a finding, and must not prevent the others
                yield self._finding(name, "fail", "crashed", error=f"{type(error).__name__}: {error}")

    def _settings(self) -> tuple[SyncSettings | None, Finding]:
        try:
            settings = read_settings(SyncSettings)
        except CliError as error:
            return None, self._finding("settings", "fail", "invalid", error=error)
        if not settings.choices:
            return settings, self._finding("settings", "warn", "no_registry")
        places = ", ".join(f"{model}={choice.kind}" for model, choice in settings.choices.items())
        return settings, self._finding("settings", "ok", "fine", places=places)

    def _store(self, layout: Layout) -> Iterator[Finding]:
        if not layout.root.exists():
            above = _nearest(layout.root)
            writable = os.access(above, os.W_OK | os.X_OK)
            level: Level = "warn" if writable else "fail"
            yield self._finding("store", level, "new" if writable else "cannot_create", store=layout.root, above=above)
            return
        try:
            with tempfile.TemporaryFile(dir=layout.root):
                pass
        except OSError as error:
            yield self._finding("store", "fail", "read_only", store=layout.root, error=error.strerror or error)
        else:
            yield self._finding("store", "ok", "fine", store=layout.root)

    def _disk(self, layout: Layout) -> Iterator[Finding]:
        free = shutil.disk_usage(_nearest(layout.root)).free
        level: Level = "fail" if free < MIN_FREE else "warn" if free < LOW_FREE else "ok"
        yield self._finding("disk", level, "fine" if level == "ok" else "low", free=f"{free / GB:.1f}")

    def _lock(self, layout: Layout, settings: CommonSettings) -> Iterator[Finding]:
        held_by = holder(layout.lock)
        if held_by is None:
            yield self._finding("lock", "ok", "free")
            return
        answers = settings.sidecar_url is not None and _probe(settings.sidecar_url, settings, self._words) == "sidecar"
        yield self._finding("lock", "ok" if answers else "warn", "held" if answers else "no_answer", holder=held_by)

    def _generation(self, layout: Layout) -> Iterator[Finding]:
        try:
            generations = Generations.read(layout.generation)
        except GenerationError as error:
            yield self._finding("generation", "fail", "invalid", error=error)
            return
        if not layout.generation.exists() and any(event.kind == "activated" for event in History(layout.history).read()):
            yield self._finding("generation", "fail", "lost", file=layout.generation)
            return
        serving = {model: generations.of(model).serving for model in MODELS}
        missing_versions = [
            f"{model}:{target.version}"
            for model, target in serving.items()
            if target and not layout.can_serve(model, target.version)
        ]
        if missing_versions:
            yield self._finding("generation", "fail", "missing_versions", versions=", ".join(missing_versions))
            return
        texts = ", ".join(f"{model} {target.version if target else '-'}" for model, target in serving.items())
        yield self._finding("generation", "ok", "fine", serving=texts)

    def _sandbox(self) -> Iterator[Finding]:
        lacks = missing()
        if lacks:
            yield self._finding("sandbox", "warn", "missing", lacks="; ".join(lacks))
        else:
            yield self._finding("sandbox", "ok", "fine")

    def _serve_python(self, settings: SyncSettings) -> Iterator[Finding]:
        python = settings.serve_python
        # Evaluations run with it: these modules import everything that the data plane needs.
        error = _run([python, "-c", "import runners.evaluation, runners.kcbert, runners.sentiment, runners.yolo"])[1]
        if error is not None:
            yield self._finding("serve_python", "fail", "broken", python=python, error=error)
            return
        fallback = settings.models / "sentiment"
        manifest = Manifest.read(fallback)
        if manifest.engine == "pyfunc":
            output, error = _run([python, "-m", "bunriwiki.artifacts.requirements", fallback / manifest.entry])
            missing = json.loads(output.splitlines()[-1])["missing"] if error is None else []
            if error is not None or missing:
                yield self._finding("serve_python", "fail", "missing", python=python, error=error or ", ".join(missing))
                return
        yield self._finding("serve_python", "ok", "fine", python=python)

    def _reference(self, settings: SyncSettings) -> Iterator[Finding]:
        for model in MODELS:
            folder = settings.reference / model
            try:
                number = _count_reference(model, folder)
            except DamagedArtifactError as error:
                yield self._finding("reference", "fail", "broken", model=model, error=error)
            else:
                facts = {"model": model, "number": number, "folder": folder}
                yield self._finding("reference", "ok" if number else "fail", "fine" if number else "empty", **facts)

    def _s3(self, settings: SyncSettings) -> Iterator[Finding]:
        models = [model for model, choice in settings.choices.items() if choice.kind == "s3"]
        if not models:
            return
        client: Any = connect(read_timeout=READ_TIMEOUT, max_attempts=MAX_ATTEMPTS)
        dates: list[str] = []
        client.meta.events.register(
            "after-call.s3", lambda http_response, **_: dates.append(http_response.headers.get("Date", ""))
        )
        source = S3Source(settings.s3_uri, client)
        for model in models:
            yield self._offer("s3", source, model, settings.s3_uri)
        if dates and dates[-1]:
            yield self._clock(dates[-1])

    def _clock(self, date: str) -> Finding:
        seconds = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
        level: Level = "fail" if abs(seconds) > CLOCK_FAIL else "warn" if abs(seconds) > CLOCK_WARN else "ok"
        return self._finding("clock", level, "fine" if level == "ok" else "wrong", seconds=f"{seconds:+.0f}")

    def _mlflow(self, settings: SyncSettings) -> Iterator[Finding]:
        names = {model: choice.place for model, choice in settings.choices.items() if choice.kind == "mlflow"}
        if not names:
            return
        from model_sync.sources.mlflow_registry import MlflowSource  # noqa: PLC0415  (a large library, which not every configuration needs)

        source = MlflowSource(settings.mlflow_tracking_uri, names)
        for model, name in names.items():
            yield self._offer("mlflow", source, model, name)

    def _offer(self, check: str, source: Source, model: str, place: str) -> Finding:
        """Whether the registry can be reached, and names a version."""
        try:
            offer = source.newest(model)
        except SourceError as error:
            cause = error.__cause__
            is_new = isinstance(cause, ClientError) and error_code(cause) in NOT_FOUND
            return self._finding(check, "warn" if is_new else "fail", "broken", model=model, error=error)
        if offer is None:
            return self._finding(check, "warn", "none", model=model, place=place)
        return self._finding(check, "ok", "fine", model=model, version=offer.version, uri=offer.uri)

    def _signatures(self, settings: SyncSettings) -> Iterator[Finding]:
        signatures = settings.signatures
        if not signatures.enforced:
            yield self._finding("signatures", "ok", "off")
            return
        for model, source in open_sources(settings).items():
            try:
                offer = source.newest(model)
                files = source.files(offer) if offer else ()
            except (RejectedError, SourceError):  # the registry's own check or the import reports it
                continue
            if offer:
                yield self._signature(signatures, offer, files)

    def _signature(self, signatures: Signatures, offer: Offer, files: Sequence[RemoteFile]) -> Finding:
        facts = {"model": offer.model, "version": offer.version}
        known = [SignedFile(file.path, file.size, file.sha256) for file in files if file.sha256]
        try:
            signatures.require(offer)
            if len(known) < len(files):
                return self._finding("signatures", "ok", "later", **facts)
            signatures.verify(offer, known)
        except SignatureError as error:
            return self._finding("signatures", "fail", "rejected", error=error)
        return self._finding("signatures", "ok", "fine", **facts)

    def _sqs(self, settings: SyncSettings) -> Iterator[Finding]:
        if not settings.sqs_queue_url:
            if any(choice.kind == "s3" for choice in settings.choices.values()):
                yield self._finding("sqs", "warn", "none", seconds=f"{settings.poll_interval_seconds:g}")
            return
        url = settings.sqs_queue_url
        try:
            answer = queue_client(url).get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
        except (BotoCoreError, ClientError, ValueError) as error:
            yield self._finding("sqs", "fail", "broken", url=url, error=error)
            return
        policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy", "{}"))
        if policy:
            times, target = policy.get("maxReceiveCount"), policy.get("deadLetterTargetArn")
            yield self._finding("sqs", "ok", "fine", url=url, times=times, target=target)
        else:
            yield self._finding("sqs", "warn", "no_redrive", url=url)

    def _webhook(self, settings: SyncSettings) -> Iterator[Finding]:
        if any(choice.kind == "mlflow" for choice in settings.choices.values()):
            secret = bool(settings.webhook_secret)
            yield self._finding("webhook", "ok" if secret else "warn", "fine" if secret else "none")

    def _admin(self, settings: SyncSettings) -> Iterator[Finding]:
        tokens = bool(settings.admin_tokens)
        yield self._finding("admin", "ok" if tokens else "warn", "fine" if tokens else "none")

    def _ports(self, settings: SyncSettings, layout: Layout) -> Iterator[Finding]:
        if settings.sync_port:
            yield self._sidecar_port(settings, layout)
        try:
            service = Settings()
        except ValidationError as error:
            yield self._finding("ports", "fail", "invalid", error=error.errors()[0]["msg"])
            return
        answers = _service_answers(service.port)
        for port, name in ((service.port, "PORT"), (service.grpc_port, "BUNRIWIKI_GRPC_PORT")):
            if port == 0:
                continue
            if _is_free(port):
                yield self._finding("ports", "ok", "free", port=port, name=name)
            elif answers:
                yield self._finding("ports", "ok", "service", port=port, name=name)
            else:
                yield self._finding("ports", "fail", "taken", port=port, name=name)

    def _sidecar_port(self, settings: SyncSettings, layout: Layout) -> Finding:
        port, name = settings.sync_port, "BUNRIWIKI_SYNC_PORT"
        if _is_free(port, settings.sync_host):
            return self._finding("ports", "ok", "free", port=port, name=name)
        url = f"{'https' if settings.sync_certificate else 'http'}://{settings.sync_host}:{port}"
        if _probe(url, settings, self._words) != "sidecar":
            return self._finding("ports", "fail", "taken", port=port, name=name)
        answer = httpx.get(f"{url}/state", timeout=PORT_SECONDS, verify=_verify(settings), trust_env=False)
        stored, running = SyncState.read(layout.sync), SyncState.model_validate(answer.json())
        is_same = stored is not None and stored.since == running.since
        level: Level = "ok" if is_same else "fail"
        return self._finding("ports", level, "sidecar" if is_same else "other_store", port=port, name=name)

    def _finding(self, check: str, level: Level, case: str, **facts: object) -> Finding:
        key = "doctor.crashed" if case == "crashed" else f"doctor.{check}.{case}"
        return Finding(check=check, level=level, message=self._words(key, **facts))


def _run(command: list[str | Path]) -> tuple[str, str | None]:
    """The output of a program and None, or the empty string and the last line of its errors."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    if done.returncode == 0:
        return done.stdout, None
    return "", (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]


def _count_reference(model: str, folder: Path) -> int:
    """How many inputs a reference set has. Raises DamagedArtifactError, also if a photo is missing."""
    if model != "yolo":
        return len(read_reference_texts(folder))
    photos = read_reference_photos(folder)
    for photo in photos:
        if not (folder / photo.image).is_file():
            raise DamagedArtifactError(f"{folder / photo.image} does not exist")
    return len(photos)


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest parent that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _is_free(port: int, host: str = "") -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True


def _probe(url: str, settings: CommonSettings, words: Words) -> str:
    remote = Remote(url, "", words, verify=_verify(settings))
    try:
        return remote.probe()
    finally:
        remote.close()


def _verify(settings: CommonSettings) -> ssl.SSLContext | bool:
    """A port is probed at the address that it listens on, which the certificate need not name. No token is sent there."""
    verify = trusting(settings.sync_certificate)
    if isinstance(verify, ssl.SSLContext):
        verify.check_hostname = False
    return verify


def _service_answers(port: int) -> bool:
    """Whether the service answers at a port of this machine."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=PORT_SECONDS, trust_env=False)
        return {model["name"] for model in answer.json()["models"]} == set(MODELS)
    except (httpx.TransportError, ValueError, KeyError, TypeError):
        return False

"""A healthy machine, of which each test breaks one part."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.sync_state import SyncState
from bunriwiki.model_store.writer import open_writer
from bunriwiki.testing.keys import make_keys
from bunriwiki.testing.paths import MODELS as SHIPPED
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.seaweedfs import SeaweedFS
from bunriwiki.testing.sqs_emulator import SqsEmulator
from model_sync.cli import doctor as doctor_module
from model_sync.cli.doctor import Doctor, Finding
from model_sync.cli.exits import Exit
from model_sync.cli.main import main
from model_sync.cli.words import Words
from model_sync.errors import SourceError
from model_sync.signatures import SignedFile, describe, sign
from model_sync.signing import read_key
from model_sync.sources.mlflow_registry import MlflowSource
from tests.model_sync.fakes import offer

pytestmark = pytest.mark.slow

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="module")
def sqs() -> Iterator[SqsEmulator]:
    with SqsEmulator() as server:
        yield server


@pytest.fixture(scope="module")
def registries(s3: SeaweedFS, sqs: SqsEmulator) -> dict[str, str]:
    """A bucket that names versions, a queue with a redrive policy, and the environment variables for both."""
    entry = {"version": "v1", "path": "v1", "files": [{"path": "a", "size": 1, "sha256": "0" * 64}]}
    latest = json.dumps(dict.fromkeys(("yolo", "kcbert"), entry)).encode()
    s3.client().put_object(Bucket=s3.BUCKET, Key="healthy/latest_model.yaml", Body=latest)
    client = sqs.client()
    dead = client.create_queue(QueueName="dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
    return {
        **s3.environment,
        **sqs.environment,
        "BUNRIWIKI_S3_URI": f"s3://{s3.BUCKET}/healthy",
        "BUNRIWIKI_SQS_QUEUE_URL": client.create_queue(QueueName="live", Attributes={"RedrivePolicy": policy})["QueueUrl"],
    }


@pytest.fixture(autouse=True)
def healthy(make_version: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything is healthy; versions come from a folder."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho '{\"missing\": []}'\n")
    python.chmod(0o755)
    environment = {
        "BUNRIWIKI_SOURCES": " ".join(f"{model}=local:{tmp_path}" for model in MODELS),
        "BUNRIWIKI_ADMIN_TOKEN": "a-token",
        "BUNRIWIKI_SERVE_PYTHON": str(python),
        "PORT": str(free_port()),
        "BUNRIWIKI_GRPC_PORT": str(free_port()),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with open_writer(tmp_path / "store", "a sidecar") as writer:
        writer.publish(make_version("yolo", "v1"), "a test", "poll")
        promote(writer, "yolo", "v1", "a test", "poll")


@pytest.fixture
def remote(healthy: None, registries: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions come from S3 and MLflow."""
    monkeypatch.delenv("BUNRIWIKI_SOURCES")
    monkeypatch.setattr(MlflowSource, "newest", lambda *_: offer("7", model="sentiment"))
    more = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "BUNRIWIKI_WEBHOOK_SECRET": "a-secret"}
    for name, value in (registries | more).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "store")


def examine() -> list[Finding]:
    return list(Doctor(Words("en")).examine())


def found(check: str) -> list[tuple[str, str]]:
    """The findings of one check; no other check may fail."""
    findings = examine()
    others = [finding for finding in findings if finding.check != check and finding.level == "fail"]
    assert not others
    return [(finding.level, finding.message) for finding in findings if finding.check == check]


def only(check: str, level: str, text: str) -> None:
    """The check has this finding, and no other check fails."""
    findings = found(check)
    assert any(found_level == level and text in message for found_level, message in findings), findings


@pytest.mark.usefixtures("remote")
def test_a_healthy_machine(capsys: pytest.CaptureFixture[str]) -> None:
    findings = examine()
    assert {finding.level for finding in findings if finding.check != "sandbox"} == {"ok"}
    assert [finding.check for finding in findings] == [
        "settings", "store", "disk", "lock", "generation", "sandbox", "serve_python", "reference", "reference", "reference",
        "s3", "s3", "clock", "mlflow", "signatures", "sqs", "webhook", "admin", "ports", "ports", "ports",
    ]  # fmt: skip
    assert main(["doctor"]) == Exit.DONE
    assert "ok   lock: no process is writing to the store" in capsys.readouterr().out


def test_json_and_korean(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json", "--lang", "ko"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert all(finding.keys() == {"check", "level", "message"} for finding in findings)
    assert "저장소에 쓰는 프로세스가 없습니다" in [finding["message"] for finding in findings]


def test_an_invalid_setting_skips_the_checks_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SERVE_PYTHON", "/nowhere")
    findings = examine()
    assert [(finding.check, finding.level) for finding in findings if finding.level == "fail"] == [("settings", "fail")]
    assert "BUNRIWIKI_SERVE_PYTHON" in findings[0].message
    assert {"store", "lock", "sandbox"} <= {finding.check for finding in findings}
    monkeypatch.setenv("BUNRIWIKI_S3_URI", "nowhere")
    [finding] = examine()
    assert (finding.level, "BUNRIWIKI_S3_URI" in finding.message) == ("fail", True)
    assert main(["doctor"]) == Exit.FAILED


def test_without_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUNRIWIKI_SOURCES")
    assert {"s3", "mlflow", "webhook"}.isdisjoint(finding.check for finding in examine())
    only("settings", "warn", "no model has a registry")


def test_a_store_that_does_not_exist_yet(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(layout.root)
    only("store", "warn", "does not exist yet: the sidecar creates it")
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.X_OK)
    only("store", "fail", "is not writable: create the store")


def test_a_store_that_is_not_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("model_sync.cli.doctor.tempfile.TemporaryFile", reject)
    only("store", "fail", "Read-only file system")


@pytest.mark.parametrize(("free", "level"), [(999_999_999, "fail"), (4_000_000_000, "warn"), (6_000_000_000, "ok")])
def test_the_disk(monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    monkeypatch.setattr("model_sync.cli.doctor.shutil.disk_usage", lambda _: Usage(10**12, 0, free))
    only("disk", level, "GB are free")


def test_a_lock_whose_holder_does_not_answer(layout: Layout) -> None:
    with open_writer(layout.root, "a test"):
        only("lock", "warn", "held by a test (process")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [", "is not valid"),
        (None, "is missing although versions were activated"),
        (
            "models: {yolo: {generation: 1, serving: {version: v9, since: '2026-11-22T00:00:00Z', source: s, by: poll}}}",
            "names yolo:v9, which are not on disk",
        ),
    ],
)
def test_an_invalid_generation_file(layout: Layout, text: str | None, message: str) -> None:
    if text is None:
        layout.generation.unlink()
    else:
        layout.generation.write_text(text)
    only("generation", "fail", message)


def test_the_fallback_is_on_disk(layout: Layout) -> None:
    since = "since: '2026-11-22T00:00:00Z', source: bundled, by: monitor"
    layout.generation.write_text(f"models: {{yolo: {{generation: 2, serving: {{version: fallback, {since}}}}}}}")
    only("generation", "ok", "yolo fallback")


def test_a_kernel_without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunriwiki.sandbox.landlock.landlockpy.supported", lambda: False)
    only("sandbox", "warn", "this kernel has no Landlock")


def test_a_kernel_without_seccomp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunriwiki.sandbox.seccomp.AUDIT", {})
    only("sandbox", "warn", "no seccomp filter for this kernel")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'ModuleNotFoundError: No module named onnxruntime' >&2; exit 1", "No module named onnxruntime"),
        ("exit 3", "exit code 3"),
        ('echo \'{"missing": ["scikit-learn==1.4"]}\'', "scikit-learn==1.4"),
    ],
)
def test_a_data_plane_that_lacks_something(tmp_path: Path, script: str, message: str) -> None:
    (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
    only("serve_python", "fail", message)


def test_the_real_data_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SERVE_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
    [(level, message)] = found("serve_python")
    assert (level, "has everything that the data plane requires" in message) == ("ok", True)


def test_an_incomplete_reference_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in MODELS:
        (tmp_path / "reference" / model).mkdir(parents=True)
        shutil.copy(SHIPPED / model / "reference.jsonl", tmp_path / "reference" / model)
    (tmp_path / "reference" / "kcbert" / "reference.jsonl").write_text("")
    (tmp_path / "reference" / "sentiment" / "reference.jsonl").write_text("{")
    monkeypatch.setenv("BUNRIWIKI_REFERENCE", str(tmp_path / "reference"))
    yolo, kcbert, sentiment = found("reference")
    assert {level for level, _ in (yolo, kcbert, sentiment)} == {"fail"}
    assert "does not exist" in yolo[1]  # a photo
    assert "no labelled inputs" in kcbert[1]
    assert "reference.jsonl" in sentiment[1]


@pytest.mark.usefixtures("remote")
def test_s3_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    only("s3", "fail", "S3 cannot be reached")


@pytest.mark.usefixtures("remote")
def test_an_empty_bucket(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_S3_URI", f"s3://{s3.BUCKET}/empty")
    only("s3", "warn", "does not exist yet: publish a version")


@pytest.mark.usefixtures("remote")
def test_a_latest_model_that_is_invalid_or_lacks_a_model(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_S3_URI", f"s3://{s3.BUCKET}/broken")
    s3.client().put_object(Bucket=s3.BUCKET, Key="broken/latest_model.yaml", Body=b"yolo: [")
    only("s3", "fail", "is not valid YAML")
    s3.client().put_object(Bucket=s3.BUCKET, Key="broken/latest_model.yaml", Body=b"{}")
    only("s3", "warn", "has no entry for it")


def test_an_invalid_public_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.pem").write_text("no key")
    monkeypatch.setenv("BUNRIWIKI_PUBLIC_KEY", str(tmp_path / "key.pem"))
    only("settings", "fail", "is not a PEM file with a public key")


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The private key of the required signatures."""
    private, public = make_keys(tmp_path)
    monkeypatch.setenv("BUNRIWIKI_PUBLIC_KEY", str(public))
    return private


@pytest.mark.usefixtures("remote")
def test_signatures_of_a_registry_with_digests(s3: SeaweedFS, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SOURCES", "yolo=s3 kcbert=s3")
    only("signatures", "fail", "yolo v1 has no signature")
    monkeypatch.setenv("BUNRIWIKI_S3_URI", f"s3://{s3.BUCKET}/signed")
    signature = sign(read_key(key), "yolo", "v1", [SignedFile("a", 1, "0" * 64)])
    files = [{"path": "a", "size": 1, "sha256": "0" * 64}]
    entry = {"version": "v1", "path": "v1", "files": files, "signature": signature}
    latest = json.dumps({"yolo": entry, "kcbert": entry}).encode()
    s3.client().put_object(Bucket=s3.BUCKET, Key="signed/latest_model.yaml", Body=latest)
    yolo, kcbert = found("signatures")
    assert yolo == ("ok", "yolo: the signature of v1 is valid")
    assert (kcbert[0], "the signature of kcbert v1 is for other content" in kcbert[1]) == ("fail", True)


def test_signatures_of_a_registry_without_digests(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "versions"
    (folder / "v1").mkdir(parents=True)
    (folder / "v1" / "best.pt").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("BUNRIWIKI_SOURCES", f"yolo=local:{folder} kcbert=local:{tmp_path / 'empty'}")
    [(level, message)] = found("signatures")
    assert (level, "yolo v1 has no signature" in message) == ("fail", True)
    (folder / "v1" / "signature").write_text(sign(read_key(key), "yolo", "v1", describe(folder / "v1")))
    assert found("signatures") == [("ok", "yolo: v1 has a signature, which is verified after the download")]


@pytest.mark.usefixtures("remote", "key")
def test_signatures_of_a_registry_that_is_down_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SOURCES", "yolo=s3")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    assert "signatures" not in [finding.check for finding in examine()]


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize(("seconds", "level"), [(30, "ok"), (-120, "warn"), (120, "warn"), (1000, "fail")])
def test_the_clock(monkeypatch: pytest.MonkeyPatch, seconds: int, level: str) -> None:
    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(UTC) + timedelta(seconds=seconds)

    monkeypatch.setattr(doctor_module, "datetime", Shifted)
    only("clock", level, "s from S3's clock")


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize(
    ("answer", "level", "message"),
    [
        (None, "warn", "no version of ensemble-sentiment-model has the alias"),
        (SourceError("MLflow does not have the registered model: register it"), "fail", "register it"),
    ],
)
def test_mlflow_without_the_model(monkeypatch: pytest.MonkeyPatch, answer: Exception | None, level: str, message: str) -> None:
    def newest(*_: object) -> None:
        if answer:
            raise answer

    monkeypatch.setattr(MlflowSource, "newest", newest)
    only("mlflow", level, message)


def test_mlflow_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("BUNRIWIKI_SOURCES", "sentiment=mlflow")
    findings = [finding for finding in examine() if finding.check == "mlflow"]
    assert [(finding.level, "cannot be reached" in finding.message) for finding in findings] == [("fail", True)]


@pytest.mark.usefixtures("remote")
def test_a_missing_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SQS_QUEUE_URL", os.environ["BUNRIWIKI_SQS_QUEUE_URL"] + "-not")
    only("sqs", "fail", "cannot be used")
    monkeypatch.setenv("BUNRIWIKI_SQS_QUEUE_URL", "")
    only("sqs", "warn", "by polling, every 300 s")


@pytest.mark.usefixtures("remote")
def test_a_queue_without_a_redrive_policy(sqs: SqsEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SQS_QUEUE_URL", sqs.client().create_queue(QueueName="plain")["QueueUrl"])
    only("sqs", "warn", "has no RedrivePolicy")


@pytest.mark.usefixtures("remote")
def test_a_missing_secret_and_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_WEBHOOK_SECRET", "")
    only("webhook", "warn", "BUNRIWIKI_WEBHOOK_SECRET is not set")
    monkeypatch.setenv("BUNRIWIKI_ADMIN_TOKEN", "")
    only("admin", "warn", "BUNRIWIKI_ADMIN_TOKEN is not set")


@pytest.mark.parametrize("name", ["BUNRIWIKI_SYNC_PORT", "PORT", "BUNRIWIKI_GRPC_PORT"])
def test_a_port_that_another_program_uses(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(doctor_module, "PORT_SECONDS", 0.2)
    monkeypatch.setattr("model_sync.cli.remote.READ_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", int(os.environ[name]))):
        only("ports", "fail", f"another program uses {os.environ[name]}: stop it, or choose another {name}")


def test_disabled_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_GRPC_PORT", "0")
    monkeypatch.setenv("BUNRIWIKI_SYNC_PORT", "0")
    assert len(found("ports")) == 1


def test_an_invalid_setting_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_DEADLINE_SECONDS", "-1")
    only("ports", "fail", "a setting of the service is invalid")


def answering(port: int, content: object) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def test_the_sidecar_at_its_port_and_its_lock(layout: Layout) -> None:
    state = SyncState(since=datetime.now(UTC), models={})
    state.write(layout.sync)
    server = answering(int(os.environ["BUNRIWIKI_SYNC_PORT"]), state.model_dump(mode="json"))
    try:
        assert any(message.startswith("the sidecar answers") for level, message in found("ports") if level == "ok")
        with open_writer(layout.root, "model_sync"):
            only("lock", "ok", "held by model_sync")
        state.model_copy(update={"since": state.since - timedelta(seconds=1)}).write(layout.sync)
        only("ports", "fail", "the sidecar of another store answers")
    finally:
        server.shutdown()
        server.server_close()


def test_the_service_at_its_port() -> None:
    server = answering(int(os.environ["PORT"]), {"models": [{"name": model} for model in MODELS]})
    try:
        assert any(message.startswith("the service answers") for level, message in found("ports") if level == "ok")
    finally:
        server.shutdown()
        server.server_close()


def test_a_check_that_crashes_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr("model_sync.cli.doctor.shutil.disk_usage", broken)
    only("disk", "fail", "the check itself failed: RuntimeError: oops")
